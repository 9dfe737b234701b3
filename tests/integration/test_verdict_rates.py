"""How often verdicts are wrong: false verdicts, coverage and power in thousands of simulated studies."""
import math

import numpy as np
import pytest
from scipy import stats

from study.analysis import statistics
from study.analysis.claims import DirectionClaim
from study.analysis.statistics import Estimate
from study.analysis.verdicts import decide

HIGHER = DirectionClaim(statement="", source="", published="", claim_type="direction", treatment="a", baseline="b",
                        metric="nll", family="masking", margin=0.05, min_seeds=3, direction="higher")
STUDIES, TEXTS = 2000, 60


def simulated(rng, seeds, seed_noise, text_noise, effect=0.0):
    """Differences (seeds, TEXTS) of one study."""
    return (effect + seed_noise * rng.normal(size=(seeds, 1)) + text_noise * rng.normal(size=(1, TEXTS))
            + rng.normal(size=(seeds, TEXTS)))


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("seed_noise", "text_noise"), [(2.0, 0.1), (0.05, 5.0), (0.5, 3.0)])
def test_without_an_effect_verdicts_are_seldom_wrong_and_intervals_cover(seeds, seed_noise, text_noise):
    rng = np.random.default_rng([seeds, int(100 * seed_noise)])
    counts, covered = {"supported": 0, "contradicted": 0, "equivalent": 0, "inconclusive": 0}, 0
    for _ in range(STUDIES):
        estimate = statistics.two_way_estimate(simulated(rng, seeds, seed_noise, text_noise))
        counts[decide(HIGHER, estimate, estimate.p).verdict] += 1
        low, high = estimate.interval()
        covered += low <= 0 <= high
    assert counts["supported"] / STUDIES <= 0.05
    assert counts["contradicted"] / STUDIES <= 0.05
    assert 0.93 <= covered / STUDIES <= 0.98


def test_within_a_family_false_verdicts_stay_under_five_percent():
    """Ten claims without an effect: at most one family in twenty has one that is supported or contradicted."""
    p = stats.ttest_1samp(np.random.default_rng(5).normal(size=(STUDIES, 5, 10)), 0, axis=1).pvalue
    rejected = p.min(1) < 0.05 / 10                 # Holm's first step
    assert [min(statistics.holm(family.tolist())[0]) < 0.05 for family in p[:20]] == rejected[:20].tolist()
    assert rejected.mean() <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / STUDIES)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_power_is_as_computed(seeds):
    """An effect as large as the smallest detectable one is detected in four studies of five."""
    effect = Estimate(0.0, 1 / math.sqrt(seeds), seeds - 1).smallest_detectable()
    runs = np.random.default_rng(seeds).normal(effect, 1.0, (STUDIES, seeds))
    assert (stats.ttest_1samp(runs, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.03)
