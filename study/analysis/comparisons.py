"""One arm against another, or a difference within an arm against nothing, paired by seed.

Shapes: n seeds, N texts.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study import StudyError
from study.analysis import statistics
from study.analysis.metrics import METRICS, Value, stuck, value
from study.analysis.statistics import Estimate
from study.config.load import Study


@dataclass(frozen=True)
class Comparison:
    """Effect of a treatment on a metric. `estimate` is the headline: over seeds and texts where every cell has numbers
    of its texts, else over seeds; `over_seeds` is Student's; `first` and `second` (n,) are the cells' numbers."""
    treatment: str
    baseline: str | None
    metric: str
    estimate: Estimate
    over_seeds: Estimate
    first: np.ndarray
    second: np.ndarray

    @property
    def differences(self) -> np.ndarray:
        return self.first - self.second

    @property
    def correlation(self) -> float:
        """Pearson's r of the two arms over seeds: what pairing bought."""
        return statistics.correlation(self.first, self.second)


def compare_arms(study: Study, treatment: str, baseline: str | None, metric: str) -> Comparison | None:
    """The comparison over all seeds of the study; None when a cell of either arm has no such number.

    baseline None compares the metric with 0. Raises StudyError when two arms were scored on other texts.
    """
    first = [value(study, treatment, seed, metric) for seed in study.settings.seeds]
    second = [Value(0.0, None if one is None or one.texts is None else np.zeros_like(one.texts)) for one in first] \
        if baseline is None else [value(study, baseline, seed, metric) for seed in study.settings.seeds]
    if any(one is None for one in (*first, *second)):
        return None
    own, other = (np.array([one.cell for one in side]) for side in (first, second))
    over_seeds = estimate = statistics.t_estimate(own - other)
    if all(one.texts is not None for one in (*first, *second)):
        if len({len(one.texts) for one in (*first, *second)}) > 1:
            raise StudyError(f"{study.runs}: {treatment} and {baseline} were scored on different texts; run "
                             f"`dvc repro`")
        estimate = statistics.two_way_estimate(np.stack([a.texts - b.texts for a, b in zip(first, second,
                                                                                           strict=True)]))
    return Comparison(treatment, baseline, metric, estimate, over_seeds, own, other)


HEADLINES = ("nll", "probe_accuracy")       # what figures show
COMPARED = (*HEADLINES, "probe_chosen")     # metrics on which every arm is compared with its baseline


def comparisons(study: Study) -> pd.DataFrame:
    """Each arm against its baseline on these metrics: two-way t over seeds and texts, t over seeds beside it."""
    rows = []
    for arm in study.settings.arms:
        baseline = study.arms[arm].baseline
        if baseline in study.settings.arms:
            rows += [_row(study, found) for metric in COMPARED
                     if (found := compare_arms(study, arm, baseline, metric))]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[
        "treatment", "baseline", "metric", "n", "effect", "low", "high", "p"])


def _row(study: Study, found: Comparison) -> dict:
    """A line of comparisons.csv; `survivors` is the effect over the seeds at which neither arm diverged, a number that
    is conditional on the outcome, and only there when some seed is left out."""
    estimate, seeds = found.estimate, found.over_seeds
    arms = [arm for arm in (found.treatment, found.baseline) if arm]
    fine = np.array([not any(value(study, arm, seed, "diverged").cell for arm in arms)
                     for seed in study.settings.seeds])
    return {"treatment": found.treatment, "baseline": found.baseline, "metric": found.metric,
            "n": len(found.differences), "effect": estimate.mean, "low": estimate.low, "high": estimate.high,
            "p": estimate.p, "t_low": seeds.low, "t_high": seeds.high, "correlation": found.correlation,
            "d_z": statistics.effect_size(found.differences),
            "improvement": statistics.improvement(found.first, found.second, METRICS[found.metric].better == "lower"),
            "stuck": " and ".join(f"{count} of {len(fine)} runs of {arm}" for arm in arms
                                  if (count := stuck(study, arm))),
            "survivors": found.differences[fine].mean() if 0 < fine.sum() < len(fine) else math.nan,
            "smallest_detectable_effect": estimate.smallest_detectable()}
