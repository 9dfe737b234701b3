"""Estimates, intervals and tests for paired arms.

Shapes: n seeds, N texts. The headline is the two-way t interval: over seeds and texts, because t over seeds alone
covers far less than it says where the noise of a small test set dominates, and bootstraps do where seeds are few.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error and the degrees of freedom of that error; both NaN where they cannot be told.

    Everything that is said about a difference follows from these three numbers and the t law.
    """
    mean: float
    error: float
    df: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the mean."""
        if self.error == 0:
            return self.mean, self.mean
        half = float(stats.t.ppf(0.5 + level / 2, self.df)) * self.error
        return self.mean - half, self.mean + half

    def on_scale(self, most: float) -> tuple[float, float]:
        """The 95 % interval of what lies between 0 and `most`, cut there."""
        low, high = np.clip(self.interval(), 0.0, most)
        return float(low), float(high)

    @property
    def low(self) -> float:
        return self.interval()[0]

    @property
    def high(self) -> float:
        return self.interval()[1]

    @property
    def p(self) -> float:
        """Two-sided p of no effect."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.df))

    def p_equivalent(self, margin: float) -> float:
        """p of two one-sided tests (TOST) that the mean lies inside (-margin, margin)."""
        if self.error == 0:
            return 0.0 if abs(self.mean) < margin else 1.0
        return float(stats.t.sf((margin - abs(self.mean)) / self.error, self.df))

    def smallest_detectable(self, power: float = 0.8, alpha: float = 0.05) -> float:
        """The true mean that a two-sided t test with this error finds with the given power; NaN for no error."""
        if not self.error > 0 or not self.df > 0:
            return math.nan
        from scipy.optimize import brentq

        beyond, high = stats.t.isf(alpha / 2, self.df), 1.0

        def missing(errors: float) -> float:    # by hand: TTestPower takes over the NaN of a far tail that is 0
            far = np.nan_to_num(stats.nct.cdf(-beyond, self.df, errors))
            return float(stats.nct.sf(beyond, self.df, errors) + far) - power

        while missing(high) < 0:
            high *= 2
        return float(brentq(missing, 0.0, high)) * self.error


NOTHING = (math.nan, math.nan)


def t_estimate(values: np.ndarray) -> Estimate:
    """The mean of values (n,) with Student's error; without one for fewer than two."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return Estimate(float(values.mean()) if len(values) else math.nan, *NOTHING)
    return Estimate(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1)


def two_way_estimate(differences: np.ndarray) -> Estimate:
    """The mean of per-seed, per-text differences (n, N), both random; without an error for one seed.

    With mean squares of seeds, texts and residual, a = MS_s / n, b = MS_j / N, c = MS_r / (n N); the variance is
    max(a + b - c, a, b), its degrees of freedom by Satterthwaite's rule from a and b.
    """
    seeds, texts = differences.shape
    mean = float(differences.mean())
    if seeds < 2 or texts < 2:
        return Estimate(mean, *NOTHING)
    by_seed, by_text = differences.mean(1), differences.mean(0)
    residual = differences - by_seed[:, None] - by_text[None] + mean
    a = float(by_seed.var(ddof=1)) / seeds
    b = float(by_text.var(ddof=1)) / texts
    c = float((residual**2).sum()) / ((seeds - 1) * (texts - 1)) / (seeds * texts)
    variance = max(a + b - c, a, b)
    if variance == 0:
        return Estimate(mean, 0.0, math.nan)
    return Estimate(mean, math.sqrt(variance), variance**2 / (a**2 / (seeds - 1) + b**2 / (texts - 1)))


def effect_size(differences: np.ndarray) -> float:
    """Hedges-corrected d_z of paired differences (n,): mean / sd, times 1 - 3 / (4 n - 5)."""
    n = len(differences)
    if n < 2 or np.std(differences, ddof=1) == 0:
        return math.nan
    return float(np.mean(differences) / np.std(differences, ddof=1) * (1 - 3 / (4 * n - 5)))


def improvement(first: np.ndarray, second: np.ndarray, lower: bool) -> float:
    """Probability that a run of the first arm (n,) is better than one of the second (m,), ties half, over all pairs of
    runs (Agarwal et al. 2021): Mann and Whitney's U over n m."""
    better = (second, first) if lower else (first, second)
    return float(stats.mannwhitneyu(*better).statistic) / (len(first) * len(second))


def seeds_needed(differences: np.ndarray, target: float, most: int = 200) -> int | None:
    """Fewest seeds whose smallest detectable effect is at most `target`, if seeds keep the spread of these per-seed
    differences (n,); None when `most` would not do, or there are fewer than two."""
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else math.nan
    if not math.isfinite(spread):
        return None
    enough = (n for n in range(2, most + 1)
              if spread == 0 or Estimate(0.0, spread / math.sqrt(n), n - 1).smallest_detectable() <= target)
    return next(enough, None)


def prediction_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Where one more run would fall: mean +- t s sqrt(1 + 1/n) of values (n,). NaN for fewer than two."""
    n = len(values)
    if n < 2:
        return NOTHING
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * float(np.std(values, ddof=1)) * math.sqrt(1 + 1 / n)
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def holm(p: list[float]) -> tuple[list[float], list[int]]:
    """Holm-adjusted p values, and for each the number of hypotheses that its step of the procedure divides by."""
    from statsmodels.stats.multitest import multipletests

    if not p:
        return [], []
    order = np.argsort(p, kind="stable")
    divisor = np.empty(len(p), int)
    divisor[order] = len(p) - np.arange(len(p))
    return multipletests(p, method="holm")[1].tolist(), divisor.tolist()


def rate_interval(count: int, n: int) -> tuple[float, float]:
    """Exact (Clopper-Pearson) 95 % interval of a rate."""
    found = stats.binomtest(count, n).proportion_ci(method="exact")
    return float(found.low), float(found.high)


def fisher_p(count: int, n: int, other: int, m: int) -> float:
    """Two-sided p of Fisher's exact test that two rates are equal."""
    return float(stats.fisher_exact([[count, n - count], [other, m - other]])[1])


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r over seeds: what pairing bought. NaN for fewer than three seeds or a constant arm."""
    if len(first) < 3 or np.std(first) == 0 or np.std(second) == 0:
        return math.nan
    return float(stats.pearsonr(first, second).statistic)
