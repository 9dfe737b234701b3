"""Statistics against SciPy, statsmodels and arithmetic by hand."""
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from study.analysis import statistics


def test_t_interval_is_scipys():
    first, second = np.random.default_rng(0).normal(size=(2, 6))
    ours, theirs = statistics.t_estimate(first - second), stats.ttest_rel(first, second)
    bounds = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high, ours.p) == pytest.approx((bounds.low, bounds.high, theirs.pvalue))


def test_two_way_t_by_hand():
    differences = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 7.0]])
    # seed means 2, 4; text means 1.5, 2.5, 5; grand mean 3; residuals: +-.5, +-.5, -+1
    a, b, c = 2 / 2, 3.25 / 3, 3.0 / 2 / 6
    variance = a + b - c
    df = variance**2 / (a**2 / 1 + b**2 / 2)
    found = statistics.two_way_estimate(differences)
    assert found.mean == 3
    assert found.df == pytest.approx(df)
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, df) * math.sqrt(variance))


def test_without_noise_between_texts_it_is_the_t_interval_over_seeds():
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
        found = statistics.two_way_estimate(differences)
        covered += found.low <= 0 <= found.high
    assert 0.91 <= covered / studies <= 0.995


def test_smallest_detectable_effect_is_the_published_multiple():
    """Units of the standard deviation of differences, power .8 (protocol, number of seeds)."""
    for n, multiple in ((3, 3.26), (5, 1.68), (10, 1.00)):
        found = statistics.Estimate(0.0, 1 / np.sqrt(n), n - 1).smallest_detectable()
        assert found == pytest.approx(multiple, abs=0.01)
        assert TTestPower().power(found, n, 0.05) == pytest.approx(0.8, abs=1e-6)


def test_two_seeds_find_only_what_they_find_in_a_simulation():
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


def test_improvement_is_the_share_of_all_pairs_of_runs():
    first, second = np.array([1.0, 2.0, 4.0]), np.array([2.0, 3.0])
    pairs = [(a < b) + 0.5 * (a == b) for a in first for b in second]
    assert statistics.improvement(first, second, lower=True) == pytest.approx(np.mean(pairs))
    assert statistics.improvement(first, second, lower=False) == pytest.approx(1 - np.mean(pairs))


def test_an_accuracy_is_no_more_than_all_and_no_less_than_none():
    few = statistics.t_estimate(np.array([0.5, 0.9]))
    assert few.interval()[1] > 1 > few.mean
    assert few.on_scale(1.0) == (0.0, 1.0)
    many = statistics.t_estimate(np.array([0.6, 0.61, 0.62]))
    assert many.on_scale(1.0) == many.interval()
    assert math.isnan(statistics.t_estimate(np.array([0.5])).on_scale(1.0)[0])
