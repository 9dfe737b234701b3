"""Statistics against SciPy, statsmodels, published numbers and arithmetic by hand."""
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from study.analysis import statistics


def test_t_interval_is_scipys():
    first, second = np.random.default_rng(0).normal(size=(2, 6))
    ours, theirs = statistics.t_estimate(first - second), stats.ttest_rel(first, second)
    bounds = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high, ours.p) == pytest.approx((bounds.low, bounds.high, theirs.pvalue))


@pytest.mark.parametrize("df", [1, 2.5, 40])
def test_the_tail_of_t_is_scipys(df):
    for t in (-2.0, 0.0, 0.5, 3.0, 40.0):
        assert statistics.t_tail(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-9)


def test_two_way_t_by_hand():
    differences = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 7.0]])
    # seed means 2, 4; text means 1.5, 2.5, 5; grand mean 3; residuals: +-.5, +-.5, -+1
    a, b, c = 2 / 2, 3.25 / 3, 3.0 / 2 / 6
    variance = a + b - c
    df = variance**2 / (a**2 / 1 + b**2 / 2)
    estimate = statistics.two_way_estimate(differences)
    assert estimate.mean == 3
    assert estimate.df == pytest.approx(df)
    assert estimate.high - estimate.low == pytest.approx(2 * stats.t.ppf(0.975, df) * math.sqrt(variance))


def test_without_noise_between_texts_the_two_way_interval_is_the_t_interval_over_seeds():
    seeds = np.random.default_rng(1).normal(size=5)
    two_way, over_seeds = statistics.two_way_estimate(np.tile(seeds[:, None], 40)), statistics.t_estimate(seeds)
    assert (two_way.low, two_way.high) == pytest.approx((over_seeds.low, over_seeds.high))


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("seed_noise", "text_noise"), [(1.0, 1.0), (0.05, 5.0)])
def test_two_way_t_covers(seeds, seed_noise, text_noise):
    rng, covered, studies, texts = np.random.default_rng(2), 0, 300, 200
    for _ in range(studies):
        differences = (seed_noise * rng.normal(size=(seeds, 1)) + text_noise * rng.normal(size=(1, texts))
                       + rng.normal(size=(seeds, texts)))
        estimate = statistics.two_way_estimate(differences)
        low, high = estimate.interval()
        covered += low <= 0 <= high
    assert 0.91 <= covered / studies <= 0.995


def test_smallest_detectable_effect_is_the_published_multiple():
    """In units of the standard deviation of the differences, for a power of 0.8."""
    for n, multiple in ((3, 3.26), (5, 1.68), (10, 1.00)):
        effect = statistics.Estimate(0.0, 1 / np.sqrt(n), n - 1).smallest_detectable()
        assert effect == pytest.approx(multiple, abs=0.01)
        assert TTestPower().power(effect, n, 0.05) == pytest.approx(0.8, abs=1e-6)


def test_the_power_of_two_seeds_is_that_of_a_simulation():
    effect = statistics.Estimate(0.0, 1 / np.sqrt(2), 1).smallest_detectable()
    runs = np.random.default_rng(0).normal(effect, 1, (20_000, 2))
    assert (stats.ttest_1samp(runs, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)


def test_one_seed_has_no_interval():
    assert math.isnan(statistics.t_estimate(np.array([1.0])).low)
    assert math.isnan(statistics.two_way_estimate(np.ones((1, 9))).high)
    assert math.isnan(statistics.t_estimate(np.array([1.0])).smallest_detectable())
    assert math.isnan(statistics.correlation(np.array([1.0, 2.0]), np.array([1.0, 2.0])))


def test_effect_size_is_corrected_for_few_seeds():
    values = np.array([1.0, 2.0, 3.0])
    assert statistics.effect_size(values) == pytest.approx(2 * (1 - 3 / 7))


def test_probability_of_improvement_is_the_share_of_all_pairs_of_runs():
    first, second = np.array([1.0, 2.0, 4.0]), np.array([2.0, 3.0])
    pairs = [(a < b) + 0.5 * (a == b) for a in first for b in second]
    assert statistics.probability_of_improvement(first, second, lower=True) == pytest.approx(np.mean(pairs))
    assert statistics.probability_of_improvement(first, second, lower=False) == pytest.approx(1 - np.mean(pairs))


def test_the_interval_of_an_accuracy_is_clipped_to_0_and_1():
    few = statistics.t_estimate(np.array([0.5, 0.9]))
    assert few.interval()[1] > 1 > few.mean
    assert few.clipped(1.0) == (0.0, 1.0)
    many = statistics.t_estimate(np.array([0.6, 0.61, 0.62]))
    assert many.clipped(1.0) == many.interval()
    assert math.isnan(statistics.t_estimate(np.array([0.5])).clipped(1.0)[0])


def test_equivalence_is_statsmodels():
    first, second = np.random.default_rng(0).normal(0, 0.05, (2, 8))
    ours = statistics.t_estimate(first - second).p_equivalent(0.08)
    assert ours == pytest.approx(ttost_paired(first, second, -0.08, 0.08)[0])


def test_holm_is_statsmodels():
    p = [0.04, 0.001, 0.02, 0.6, 0.013]
    assert statistics.holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_rates_are_scipys():
    assert statistics.rate_interval(0, 5)[1] == pytest.approx(0.5218, abs=1e-4)
    assert statistics.fisher_p(5, 5, 0, 5) == pytest.approx(0.0079, abs=1e-4)
    assert statistics.fisher_p(4, 4, 0, 4) == pytest.approx(0.0286, abs=1e-4)


def test_prediction_interval_covers_one_more_run():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        *runs, one_more = rng.normal(size=6)
        low, high = statistics.prediction_interval(np.array(runs))
        inside += low <= one_more <= high
    assert 0.935 < inside / 2000 < 0.965


def test_seeds_needed_are_the_published_ones():
    """Over seeds alone, the smallest detectable effect is 1.68 spreads with 5 seeds and 1.00 with 10."""
    spread = statistics.t_estimate(np.array([-1.0, 0.0, 1.0]))
    assert statistics.seeds_needed(spread, 1.7) == 5
    assert statistics.seeds_needed(spread, 1.003) == 10
    assert statistics.seeds_needed(spread, 1.7, alpha=0.005) > 5
    assert statistics.seeds_needed(spread, 1e-6) is None
    assert statistics.seeds_needed(statistics.t_estimate(np.array([1.0])), 1.0) is None


def test_more_seeds_do_not_remove_the_noise_of_the_texts():
    rng = np.random.default_rng(1)
    texts = rng.normal(size=(1, 12))
    estimate = statistics.two_way_estimate(texts + 0.01 * rng.normal(size=(4, 12)))
    assert statistics.seeds_needed(estimate, 0.1 * estimate.error) is None
    assert statistics.seeds_needed(estimate, 10 * estimate.error) == 2


@pytest.mark.parametrize("seeds", [2, 5, 20])
def test_the_expected_variance_of_more_seeds_is_that_of_a_simulation(seeds):
    rng = np.random.default_rng(seeds)

    def simulate(n):
        return (rng.normal(size=(n, 1)) + 2 * rng.normal(size=(1, 30)) + 3 * rng.normal(size=(n, 30)))

    expected = np.mean([statistics.two_way_estimate(simulate(4)).components.with_seeds(seeds).variance
                        for _ in range(2000)])
    observed = np.var([simulate(seeds).mean() for _ in range(4000)])
    assert expected == pytest.approx(observed, rel=0.15)


def test_a_difference_beyond_the_margin_is_one_whose_interval_is_outside():
    for mean in np.linspace(-3, 3, 13):
        estimate = statistics.Estimate(mean, 0.5, 6)
        low, high = estimate.interval()
        assert (estimate.p_beyond(1.0) < 0.05) == (low > 1 or high < -1)
    assert statistics.Estimate(2.0, 0.0, 4).p_beyond(1.0) == 0
    assert statistics.Estimate(0.5, 0.0, 4).p_beyond(1.0) == 1
