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
from study.analysis.measures import Value
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


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("seed_noise", "document_noise"), [(0.5, 0.2), (0.05, 1.0), (0.2, 1.0)])
def test_intervals_cover_where_rows_come_from_documents_of_unequal_size(seeds, seed_noise, document_noise):
    """NLL on 600 rows of 60 documents whose rows share a difference. To take rows as independent covers too little."""
    rng, covered, by_row, studies = np.random.default_rng([seeds, int(100 * seed_noise)]), 0, 0, 1200
    for _ in range(studies):
        documents = np.sort(rng.choice(60, 600, p=rng.dirichlet(np.full(60, 5.0))))
        counts = rng.integers(5, 15, 600)
        common = document_noise * rng.normal(size=(1, 60)) + 0.3 * rng.normal(size=(seeds, 60))
        rows = seed_noise * rng.normal(size=(seeds, 1)) + common[:, documents] + rng.normal(size=(seeds, 600))
        estimates = [statistics.two_way_estimate(np.stack([Value.of_rows(row * counts, counts, names).texts
                                                           for row in rows])) for names in (documents, None)]
        inside = [low <= 0 <= high for low, high in (estimate.interval() for estimate in estimates)]
        covered, by_row = covered + inside[0], by_row + inside[1]
    assert 0.93 <= covered / studies <= 0.98
    assert document_noise < 1 or seed_noise > 0.1 or by_row / studies < 0.75


@pytest.mark.parametrize("draw_noise", [0.2, 1.0])
def test_draws_of_the_probe_are_part_of_the_noise_of_the_seeds(draw_noise):
    """Each of 5 seeds has 5 draws of training rows of its own. Draws that all seeds shared would not be covered."""
    rng, covered, shared, studies = np.random.default_rng(int(10 * draw_noise)), 0, 0, 600
    for _ in range(studies):
        texts = 0.5 * rng.normal(size=(1, 1, 200)) + rng.normal(size=(5, 1, 200)) + rng.normal(size=(5, 5, 200))
        own, common = draw_noise * rng.normal(size=(5, 5, 1)), draw_noise * rng.normal(size=(1, 5, 1))
        seed = 0.1 * rng.normal(size=(5, 1, 1))
        for name, draws in (("own", own), ("common", common)):
            low, high = statistics.two_way_estimate((seed + draws + texts).mean(1)).interval()
            covered, shared = covered + (name == "own" and low <= 0 <= high), shared + (
                name == "common" and low <= 0 <= high)
    assert 0.93 <= covered / studies <= 0.98
    assert draw_noise < 1 or shared / studies < 0.6


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
