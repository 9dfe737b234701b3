"""Where the differences between runs of one recipe come from: initialisation, data order or masks.

The baseline varies all of them with its seed. An arm with two of the three seeds fixed varies only the third. The
variance of a metric over the seeds of such an arm, as a share of the baseline's, is what that source of chance explains
(given the fixed values of the others). The shares need not add up to 1, since the sources may interact. Runs are scored
on the same texts, so the noise of the texts is no part of these variances.

Intervals assume normal numbers: chi-squared for a variance, F for the ratio of two. They are wide: with ten seeds, a
share may be four times smaller or larger.
"""
from __future__ import annotations

import math

import numpy as np
import pandas as pd

from study.analysis.metrics import arm_metric
from study.analysis.results import StudyResults
from study.config.arms import resolve
from study.config.study import Study

METRICS_SPLIT = ("nll", "probe_accuracy")
SOURCES = {"initialization_seed": "initialisation", "order_seed": "data order", "mask_seed": "masks"}
EVERYTHING = "all of them"
COLUMNS = ["metric", "source", "arm", "n", "deviation", "deviation_low", "deviation_high", "share", "share_low",
           "share_high"]


def sources_of(study: Study) -> dict[str, str]:
    """Source of chance -> the arm that varies nothing else. `all of them` is the study's baseline; empty if no arm
    varies a single source."""
    found = {}
    for arm in study.settings.arms:
        if study.arms[arm].baseline != study.settings.baseline:
            continue
        training, changed = resolve(study, arm).training, study.arms[arm].changes
        free = [name for name in SOURCES if getattr(training, name) is None]
        if len(free) == 1 and changed.keys() == {"training"} and changed["training"].keys() == SOURCES.keys() - {*free}:
            found[SOURCES[free[0]]] = arm
    return {EVERYTHING: study.settings.baseline} | found if found else {}


def variance_table(results: StudyResults) -> pd.DataFrame:
    """Standard deviation over seeds, with its 95 % interval, and share of the baseline's variance: one row per metric
    and source. Without a metric that a run lacks; empty for fewer than two seeds."""
    rows, sources = [], sources_of(results.study)
    for metric in METRICS_SPLIT:
        values = {source: _values(results, arm, metric) for source, arm in sources.items()}
        if any(numbers is None for numbers in values.values()) or len(results.study.settings.seeds) < 2:
            continue
        for source, numbers in values.items():
            deviation, low, high = deviation_interval(numbers)
            share = 3 * (math.nan,) if source == EVERYTHING else ratio_interval(numbers, values[EVERYTHING])
            rows.append((metric, source, sources[source], len(numbers), deviation, low, high, *share))
    return pd.DataFrame(rows, columns=COLUMNS)


def _values(results: StudyResults, arm: str, metric: str) -> np.ndarray | None:
    numbers = arm_metric(results, arm, metric)
    return None if numbers is None else np.array([number.cell for number in numbers])


def deviation_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Standard deviation of values (n,) with its chi-squared interval."""
    from scipy import stats

    df, variance = len(values) - 1, float(np.var(values, ddof=1))
    ends = (math.sqrt(df * variance / stats.chi2.isf(tail, df)) for tail in ((1 - level) / 2, (1 + level) / 2))
    return math.sqrt(variance), *ends


def ratio_interval(first: np.ndarray, second: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Ratio of the variances of first (n,) and second (m,), with its F interval; NaN if the second does not vary."""
    from scipy import stats

    variance = float(np.var(second, ddof=1))
    if variance == 0:
        return math.nan, math.nan, math.nan
    ratio, n, m = float(np.var(first, ddof=1)) / variance, len(first) - 1, len(second) - 1
    tail = (1 - level) / 2
    return ratio, ratio / stats.f.isf(tail, n, m), ratio * stats.f.isf(tail, m, n)
