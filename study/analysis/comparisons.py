"""One arm against another, or one arm's difference against 0, paired by seed.

Shapes: n seeds, N texts.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study import StudyError
from study.analysis import statistics
from study.analysis.escape import escapes, log_rank_p, restricted_estimate
from study.analysis.gate import failed_gate
from study.analysis.measures import Value
from study.analysis.metrics import METRICS, arm_metric, cell_metric
from study.analysis.results import StudyResults
from study.analysis.statistics import Estimate

HEADLINES = ("nll", "probe_accuracy")       # metrics that figures show
COMPARED = (*HEADLINES, "probe_last_layer")     # metrics on which every arm is compared with its baseline


@dataclass(frozen=True)
class Comparison:
    """Effect of a treatment on a metric.

    `estimate` is the headline: over seeds and texts if every cell has numbers per text, else over seeds alone.
    `over_seeds` is Student's. `first` and `second` (n,) are the numbers of the treatment's and the baseline's cells.
    """
    treatment: str
    baseline: str | None
    metric: str
    estimate: Estimate
    over_seeds: Estimate
    first: np.ndarray
    second: np.ndarray
    survival_p: float | None = None         # of the log-rank test, for escape steps; None for other metrics

    @property
    def p(self) -> float:
        """Two-sided p value that the arms do not differ."""
        return self.estimate.p if self.survival_p is None else self.survival_p

    @property
    def arms(self) -> tuple[str, ...]:
        return (self.treatment,) if self.baseline is None else (self.treatment, self.baseline)

    @property
    def differences(self) -> np.ndarray:
        return self.first - self.second

    @property
    def correlation(self) -> float:
        """Pearson's r of the two arms over seeds: what pairing by seed gained."""
        return statistics.correlation(self.first, self.second)


def compare_arms(results: StudyResults, treatment: str, baseline: str | None, metric: str) -> Comparison | None:
    """The comparison over all seeds of the study, or with 0 if `baseline` is None.

    None if a cell of either arm lacks the metric. Raises StudyError if the arms were scored on different texts.
    """
    if metric == "escape_step" and baseline is not None:
        return _compare_escapes(results, treatment, baseline)
    first = arm_metric(results, treatment, metric)
    if first is None:
        return None
    second = ([Value(0.0, None if value.texts is None else np.zeros_like(value.texts)) for value in first]
              if baseline is None else arm_metric(results, baseline, metric))
    if second is None:
        return None
    values = [np.array([value.cell for value in arm]) for arm in (first, second)]
    if len({len(value.texts) for value in (*first, *second) if value.texts is not None}) > 1:
        raise StudyError(f"{results.study.runs}: {treatment} and {baseline} were scored on different texts; run "
                         f"`dvc repro`")
    differences = first if baseline is None else [a - b for a, b in zip(first, second, strict=True)]
    return Comparison(treatment, baseline, metric, estimate_of(differences, values[0] - values[1]),
                      statistics.t_estimate(values[0] - values[1]), *values)


def estimate_of(values: list[Value], numbers: np.ndarray) -> Estimate:
    """The mean of one value per seed: over seeds and texts if each has numbers per text or the size of its sample, else
    over seeds alone. numbers (n,): of the cells."""
    if all(value.texts is not None for value in values):
        return statistics.two_way_estimate(np.stack([value.texts for value in values]))
    if all(value.sample is not None for value in values):
        return statistics.t_estimate(numbers, float(np.mean([value.sample.variance for value in values])),
                                     values[0].sample.rows)
    return statistics.t_estimate(numbers)


def _compare_escapes(results: StudyResults, treatment: str, baseline: str) -> Comparison:
    """Escape steps of two arms. Some runs may never leave the plateau, so the test is the log-rank test, and the
    difference is that of the steps on the plateau within a limit (escape.py)."""
    runs = [escapes(results, results.of_arm(arm)) for arm in (treatment, baseline)]
    _, first, second, estimate = restricted_estimate(*runs)
    return Comparison(treatment, baseline, "escape_step", estimate, estimate, first, second, log_rank_p(*runs))


def comparison_table(results: StudyResults) -> pd.DataFrame:
    """One row per arm and metric: the arm against its baseline, with both intervals."""
    study, rows = results.study, []
    for arm in study.settings.arms:
        baseline = study.arms[arm].baseline
        if baseline in study.settings.arms:
            comparisons = [compare_arms(results, arm, baseline, metric) for metric in COMPARED]
            rows += [_row(results, comparison) for comparison in comparisons if comparison]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[
        "treatment", "baseline", "metric", "n", "effect", "low", "high", "p"])


def _row(results: StudyResults, comparison: Comparison) -> dict:
    """`survivors` is the effect over the seeds at which neither arm diverged, which depends on the outcome; NaN if that
    is every seed or none. `gated_runs` and `baseline_gated_runs` count the runs that fail the learning gate; `gate`
    says why."""
    failure = failed_gate(results, comparison.arms)
    estimate, over_seeds, differences = comparison.estimate, comparison.over_seeds, comparison.differences
    runs = zip(*(results.of_arm(arm) for arm in comparison.arms), strict=True)
    survived = np.array([not any(cell_metric(results, cell, "diverged").cell for cell in pair) for pair in runs])
    return {"treatment": comparison.treatment, "baseline": comparison.baseline, "metric": comparison.metric,
            "n": len(differences), "effect": estimate.mean, "low": estimate.low, "high": estimate.high,
            "p": estimate.p, "t_low": over_seeds.low, "t_high": over_seeds.high,
            "correlation": comparison.correlation, "d_z": statistics.effect_size(differences),
            "improvement": statistics.probability_of_improvement(
                comparison.first, comparison.second, METRICS[comparison.metric].better == "lower"),
            "gated_runs": failure.runs[comparison.treatment] if failure else 0,
            "baseline_gated_runs": failure.runs[comparison.baseline] if failure else 0,
            "gate": failure.reason if failure else "",
            "survivors": differences[survived].mean() if 0 < survived.sum() < len(survived) else math.nan,
            "smallest_detectable_effect": estimate.smallest_detectable()}
