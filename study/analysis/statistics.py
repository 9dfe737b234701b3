"""Estimates, intervals and tests for arms that are paired by seed.

Shapes: n seeds, N texts. The headline is the two-way t interval, with seeds and texts both random. Where the noise of
a small test set dominates, a t interval over seeds alone covers far less than its level; with few seeds, a bootstrap
does too. SciPy and statsmodels do the rest, except where noted.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

POWER = 0.8                                 # of the tests whose smallest detectable effect and seeds are reported
MOST_SEEDS = 200                            # beyond which a number of seeds that would be needed is not computed


@dataclass(frozen=True)
class Components:
    """Where the variance of a mean over n seeds and N texts comes from.

    seed, text and residual are the mean squares a = MS_s / n, b = MS_t / N and c = MS_r / (n N) of `two_way_estimate`.
    Over seeds alone, text and residual are 0.
    """
    seeds: int
    texts: int
    seed: float
    text: float = 0.0
    residual: float = 0.0

    @property
    def variance(self) -> float:
        """max(a + b - c, a, b)."""
        return max(self.seed + self.text - self.residual, self.seed, self.text)

    @property
    def df(self) -> float:
        """Degrees of freedom of the variance, by Satterthwaite's rule from a and b."""
        of_text = self.text**2 / (self.texts - 1) if self.texts > 1 else 0.0
        return self.variance**2 / (self.seed**2 / (self.seeds - 1) + of_text)

    def with_seeds(self, seeds: int) -> Components:
        """What to expect of another number of seeds on the same texts."""
        factor = self.seeds / seeds
        interaction = min(self.residual, self.text)
        text = self.text - interaction + interaction * factor
        return Components(seeds, self.texts, self.seed * factor, text, self.residual * factor)


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error and the degrees of freedom of that error. Both are NaN if they cannot be estimated.

    Intervals and tests follow from these three numbers and Student's t distribution.
    """
    mean: float
    error: float
    df: float
    components: Components | None = None

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the mean. NaN without a standard error."""
        if self.error == 0:
            return self.mean, self.mean
        low, high = special.stdtrit(self.df, np.array([(1 - level) / 2, (1 + level) / 2])) * self.error + self.mean
        return float(low), float(high)

    def clipped(self, largest: float) -> tuple[float, float]:
        """The 95 % interval of a quantity between 0 and `largest`, clipped to that range."""
        low, high = np.clip(self.interval(), 0.0, largest)
        return float(low), float(high)

    @property
    def low(self) -> float:
        return self.interval()[0]

    @property
    def high(self) -> float:
        return self.interval()[1]

    @property
    def p(self) -> float:
        """Two-sided p value of the hypothesis that the mean is 0."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * t_tail(abs(self.mean) / self.error, self.df))

    def p_equivalent(self, margin: float) -> float:
        """p value of two one-sided tests (TOST) that the mean is inside (-margin, margin)."""
        if self.error == 0:
            return 0.0 if abs(self.mean) < margin else 1.0
        return float(t_tail((margin - abs(self.mean)) / self.error, self.df))

    def p_beyond(self, margin: float) -> float:
        """p value of the hypothesis that the mean is inside [-margin, margin]: below alpha if the two-sided interval of
        level 1 - alpha is wholly outside."""
        if self.error == 0:
            return 0.0 if abs(self.mean) > margin else 1.0
        return min(1.0, float(2 * t_tail((abs(self.mean) - margin) / self.error, self.df)))

    def smallest_detectable(self, alpha: float = 0.05) -> float:
        """The true mean that a two-sided t test with this error detects with the power POWER; NaN without an error."""
        if not self.error > 0 or not self.df > 0:
            return math.nan
        from scipy.optimize import brentq

        high = 1.0
        while t_test_power(high, self.df, alpha) < POWER:
            high *= 2
        return float(brentq(lambda effect: t_test_power(effect, self.df, alpha) - POWER, 0.0, high)) * self.error


UNKNOWN = (math.nan, math.nan)


def t_tail(t: float, df: float) -> float:
    """P(T > t) of Student's t: SciPy's special function, a hundred times as fast as `stats.t.sf`. scipy.stats itself
    takes half a second to import, so it is imported where it is used: not for the report."""
    return special.stdtr(df, -t)


def t_test_power(effect: float, df: float, alpha: float = 0.05) -> float:
    """Power of a two-sided t test; effect: the true mean in standard errors.

    Not statsmodels' TTestPower: with few degrees of freedom it returns NaN, since SciPy's distribution function does so
    for a far tail that is 0.
    """
    from scipy import stats

    critical = -special.stdtrit(df, alpha / 2)
    return float(stats.nct.sf(critical, df, effect) + np.nan_to_num(stats.nct.cdf(-critical, df, effect)))


def t_estimate(values: np.ndarray, text_variance: float = 0.0, texts: int = 1) -> Estimate:
    """The mean of values (n,) with its standard error; without an error for fewer than two values.

    text_variance: what the sample of `texts` texts that all values share adds to the variance of the mean.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return Estimate(float(values.mean()) if len(values) else math.nan, *UNKNOWN)
    seed_variance = float(np.var(values, ddof=1)) / len(values)
    components = Components(len(values), texts, seed_variance, text_variance)
    if text_variance == 0:
        return Estimate(float(values.mean()), math.sqrt(seed_variance), len(values) - 1, components)
    return Estimate(float(values.mean()), math.sqrt(components.variance), components.df, components)


def two_way_estimate(differences: np.ndarray) -> Estimate:
    """The mean of differences (n, N) per seed and text, both random; without an error for one seed or one text.

    With the mean squares of seeds, texts and residuals, a = MS_s / n, b = MS_t / N and c = MS_r / (n N), the variance
    is max(a + b - c, a, b). Its degrees of freedom follow Satterthwaite's rule from a and b. Texts are documents: the
    rows of one document are not independent.
    """
    seeds, texts = differences.shape
    mean = float(differences.mean())
    if seeds < 2 or texts < 2:
        return Estimate(mean, *UNKNOWN)
    by_seed, by_text = differences.mean(1), differences.mean(0)
    residual = differences - by_seed[:, None] - by_text[None] + mean
    a = float(by_seed.var(ddof=1)) / seeds
    b = float(by_text.var(ddof=1)) / texts
    c = float((residual**2).sum()) / ((seeds - 1) * (texts - 1)) / (seeds * texts)
    components = Components(seeds, texts, a, b, c)
    if components.variance == 0:
        return Estimate(mean, 0.0, math.nan, components)
    return Estimate(mean, math.sqrt(components.variance), components.df, components)


def effect_size(differences: np.ndarray) -> float:
    """d_z of paired differences (n,) with Hedges' correction: mean / sd, times 1 - 3 / (4 n - 5)."""
    n = len(differences)
    if n < 2 or np.std(differences, ddof=1) == 0:
        return math.nan
    return float(np.mean(differences) / np.std(differences, ddof=1) * (1 - 3 / (4 * n - 5)))


def probability_of_improvement(first: np.ndarray, second: np.ndarray, lower: bool) -> float:
    """Share of all pairs of runs in which the run of the first arm (n,) is better than that of the second (m,).

    Ties count half (Agarwal et al. 2021): the Mann-Whitney U over n m. lower: smaller numbers are better.
    """
    from scipy import stats

    better, worse = (second, first) if lower else (first, second)
    return float(stats.mannwhitneyu(better, worse).statistic) / (len(first) * len(second))


def seeds_needed(estimate: Estimate, target: float, alpha: float = 0.05) -> int | None:
    """The smallest number of seeds whose smallest detectable effect at level alpha is at most `target`.

    Assumes that more seeds on the same texts keep the components of the variance. None if MOST_SEEDS do not suffice,
    as where the texts alone make too much noise, or if the components are unknown.
    """
    if estimate.components is None or not math.isfinite(estimate.error):
        return None
    for n in range(2, MOST_SEEDS + 1):
        expected = estimate.components.with_seeds(n)
        if expected.variance == 0:
            return n
        if t_test_power(target / math.sqrt(expected.variance), expected.df, alpha) >= POWER:
            return n
    return None


def prediction_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Where one more value like values (n,) would fall: mean +- t s sqrt(1 + 1/n). NaN for fewer than two values."""
    n = len(values)
    if n < 2:
        return UNKNOWN
    half = float(special.stdtrit(n - 1, 0.5 + level / 2)) * float(np.std(values, ddof=1)) * math.sqrt(1 + 1 / n)
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def holm(p: list[float]) -> list[float]:
    """Holm-adjusted p values.

    As statsmodels' `multipletests`, which takes a tenth of a second a call because it collects garbage.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(np.asarray(p)[order] * (len(p) - np.arange(len(p)))))
    return adjusted.tolist()


def rate_interval(count: float, n: int) -> tuple[float, float]:
    """Exact (Clopper-Pearson) 95 % interval of the rate count / n. count may be a half-integer, which SciPy's
    `binomtest` does not take."""
    low = 0.0 if count == 0 else float(special.betaincinv(count, n - count + 1, 0.025))
    high = 1.0 if count == n else float(special.betaincinv(count + 1, n - count, 0.975))
    return low, high


def fisher_p(first: int, n: int, second: int, m: int) -> float:
    """Two-sided p value of Fisher's exact test that the rates first / n and second / m are equal."""
    from scipy import stats

    return float(stats.fisher_exact([[first, n - first], [second, m - second]])[1])


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r of two arms over seeds. NaN for fewer than three seeds or a constant arm."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    from scipy import stats

    return float(stats.pearsonr(first, second).statistic)
