"""How often verdicts are wrong: false verdicts, coverage and power in thousands of simulated studies."""
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from study.analysis import statistics
from study.analysis.claims import DirectionClaim, EqualClaim
from study.analysis.comparisons import Comparison
from study.analysis.difference_claims import ClaimTest, decide
from study.analysis.statistics import Estimate

TESTED = {"statement": "", "source": "", "published": "", "fidelity": "proxy", "differs": "", "treatment": "a",
          "baseline": "b", "metric": "nll", "family": "masking", "margin": 0.05, "min_seeds": 3}
HIGHER = DirectionClaim(**TESTED, claim_type="direction", direction="higher")
EQUAL = EqualClaim(**TESTED, claim_type="equal")
STUDIES, TEXTS = 2000, 60


def simulated(rng, seeds, seed_noise, text_noise, effect=0.0):
    """Differences (seeds, TEXTS) of one study."""
    return (effect + seed_noise * rng.normal(size=(seeds, 1)) + text_noise * rng.normal(size=(1, TEXTS))
            + rng.normal(size=(seeds, TEXTS)))


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("seed_noise", "text_noise"), [(2.0, 0.1), (0.05, 5.0), (0.5, 3.0)])
def test_without_an_effect_verdicts_are_seldom_wrong_and_intervals_cover(seeds, seed_noise, text_noise):
    rng = np.random.default_rng([seeds, int(100 * seed_noise)])
    counts, covered = Counter(), 0
    for _ in range(STUDIES):
        estimate = statistics.two_way_estimate(simulated(rng, seeds, seed_noise, text_noise))
        counts[decide(HIGHER, estimate, estimate.p).outcome] += 1
        low, high = estimate.interval()
        covered += low <= 0 <= high
    assert counts["holds"] / STUDIES <= 0.05
    assert counts["reversed"] / STUDIES <= 0.05
    assert 0.93 <= covered / STUDIES <= 0.98


FALSE = {0.0: {("higher", "holds"), ("higher", "reversed"), ("equal", "reversed")},      # true effect -> outcomes
         0.05: {("higher", "no difference"), ("higher", "reversed"), ("equal", "holds")}}


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("effects", [(0.0,), (0.05,), (0.0, 0.05)])
def test_within_a_family_false_outcomes_stay_under_five_percent(noise, effects):
    """Ten claims, half of them about equality, with no effect, with one as large as the margin, or with either: at most
    one family in twenty has a false outcome, although every claim may be decided by two tests."""
    rng, failed, studies = np.random.default_rng(int(1000 * noise)), 0, 1000
    claims = [(kind, claim, effects[number % len(effects)])
              for number in range(5) for kind, claim in (("higher", HIGHER), ("equal", EQUAL))]
    for _ in range(studies):
        estimates = [statistics.t_estimate(rng.normal(effect, noise, 5)) for *_, effect in claims]
        tests = [ClaimTest(claim, Comparison("a", "b", "nll", estimate, estimate, np.zeros(5), np.zeros(5)))
                 for (_, claim, _), estimate in zip(claims, estimates, strict=True)]
        ranks = zip(*statistics.holm([test.p for test in tests]), strict=True)
        outcomes = [decide(test.claim, test.comparison.estimate, *rank).outcome
                    for test, rank in zip(tests, ranks, strict=True)]
        failed += any((kind, outcome) in FALSE[effect]
                      for (kind, _, effect), outcome in zip(claims, outcomes, strict=True))
    assert failed / studies <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / studies)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_power_is_as_computed(seeds):
    """An effect as large as the smallest detectable one is detected in four studies of five."""
    effect = Estimate(0.0, 1 / math.sqrt(seeds), seeds - 1).smallest_detectable()
    runs = np.random.default_rng(seeds).normal(effect, 1.0, (STUDIES, seeds))
    assert (stats.ttest_1samp(runs, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.03)
