"""Intervals and effect sizes for paired arms.

Shapes: n seeds, N texts. The headline is the two-way t interval: over seeds and texts, because t over seeds alone
covers far less than it says where the noise of a small test set dominates, and bootstraps do where seeds are few.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval, degrees of freedom and two-sided p of no effect. NaN where undefined."""
    mean: float
    low: float
    high: float
    df: float
    p: float


def _interval(mean: float, variance: float, df: float, level: float) -> Interval:
    error = math.sqrt(variance)
    half = stats.t.ppf(0.5 + level / 2, df) * error
    p = float(2 * stats.t.sf(abs(mean) / error, df)) if error > 0 else (1.0 if mean == 0 else 0.0)
    return Interval(mean, mean - half, mean + half, df, p)


def t_interval(values: np.ndarray, level: float = 0.95) -> Interval:
    """Student's t interval of the mean of values (n,). NaN bounds for fewer than two."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return Interval(float(values.mean()) if len(values) else math.nan, math.nan, math.nan, math.nan, math.nan)
    return _interval(float(values.mean()), float(values.var(ddof=1)) / len(values), len(values) - 1, level)


def two_way_t(differences: np.ndarray, level: float = 0.95) -> Interval:
    """Interval of the mean of per-seed, per-text differences (n, N), both random.

    With mean squares of seeds, texts and residual, a = MS_s / n, b = MS_j / N, c = MS_r / (n N); the variance is
    max(a + b - c, a, b), its degrees of freedom by Satterthwaite's rule from a and b. NaN bounds for one seed.
    """
    seeds, texts = differences.shape
    mean = float(differences.mean())
    if seeds < 2 or texts < 2:
        return Interval(mean, math.nan, math.nan, math.nan, math.nan)
    by_seed, by_text = differences.mean(1), differences.mean(0)
    residual = differences - by_seed[:, None] - by_text[None] + mean
    a = float(by_seed.var(ddof=1)) / seeds
    b = float(by_text.var(ddof=1)) / texts
    c = float((residual**2).sum()) / ((seeds - 1) * (texts - 1)) / (seeds * texts)
    variance = max(a + b - c, a, b)
    if variance == 0:
        return Interval(mean, mean, mean, math.nan, 1.0 if mean == 0 else 0.0)
    return _interval(mean, variance, variance**2 / (a**2 / (seeds - 1) + b**2 / (texts - 1)), level)


def effect_size(differences: np.ndarray) -> float:
    """Hedges-corrected d_z of paired differences (n,): mean / sd, times 1 - 3 / (4 n - 5)."""
    n = len(differences)
    if n < 2 or np.std(differences, ddof=1) == 0:
        return math.nan
    return float(np.mean(differences) / np.std(differences, ddof=1) * (1 - 3 / (4 * n - 5)))


def smallest_detectable_effect(differences: np.ndarray, power: float = 0.8, alpha: float = 0.05) -> float:
    """The true difference that a paired t test with these n differences (n,) finds with the given power."""
    n = len(differences)
    if n < 2 or np.std(differences, ddof=1) == 0:
        return math.nan
    from statsmodels.stats.power import TTestPower

    found = TTestPower().solve_power(effect_size=None, nobs=n, alpha=alpha, power=power)
    return float(np.squeeze(found)) * float(np.std(differences, ddof=1))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r over seeds: what pairing bought. NaN for fewer than three seeds or a constant arm."""
    if len(first) < 3 or np.std(first) == 0 or np.std(second) == 0:
        return math.nan
    return float(stats.pearsonr(first, second).statistic)
