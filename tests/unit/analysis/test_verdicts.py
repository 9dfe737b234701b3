"""Verdicts: the truth table, Holm, and how often they are wrong when nothing is there."""
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from study.analysis import statistics, verdicts
from study.analysis.claims import Direction, Equal, Range
from study.analysis.comparisons import Comparison
from study.analysis.metrics import stuck, value
from study.analysis.results import cells
from study.analysis.statistics import Estimate
from study.analysis.verdicts import Tested, _band, undecidable, verdict_of
from tests.support.fake_results import fake_study

TEXT = {"statement": "", "source": "", "published": "", "expected": "", "scope": "", "contradicts": []}
ABOUT = TEXT | {"treatment": "a", "baseline": "b", "metric": "nll", "family": "masking", "margin": 0.05, "min_seeds": 3}
HIGHER, LOWER = (Direction(**ABOUT, claim_type="direction", claimed=way) for way in ("higher", "lower"))
EQUAL = Equal(**ABOUT, claim_type="equal")


def decided(claim, mean, error, df=4, size=1):
    estimate = Estimate(mean, error, df)
    p = estimate.p_equivalent(claim.margin) if isinstance(claim, Equal) else estimate.p
    return verdict_of(claim, estimate, min(1.0, size * p), size)[0]


@pytest.mark.parametrize(("claim", "mean", "error", "verdict"), [
    (HIGHER, 0.2, 0.03, "supported"), (LOWER, 0.2, 0.03, "contradicted"), (LOWER, -0.2, 0.03, "supported"),
    (HIGHER, -0.2, 0.03, "contradicted"), (HIGHER, 0.0, 0.01, "equivalent"), (LOWER, 0.005, 0.01, "equivalent"),
    (HIGHER, 0.02, 0.05, "inconclusive"), (HIGHER, 0.02, 0.005, "supported"), (EQUAL, 0.0, 0.01, "supported"),
    (EQUAL, 0.3, 0.03, "contradicted"), (EQUAL, -0.3, 0.03, "contradicted"), (EQUAL, 0.04, 0.02, "inconclusive"),
    (EQUAL, 0.0, 0.0, "supported"), (HIGHER, 0.0, 0.0, "equivalent"), (HIGHER, math.nan, math.nan, "inconclusive")])
def test_truth_table(claim, mean, error, verdict):
    assert decided(claim, mean, error) == verdict


def compared(n, metric="nll"):
    first, second = np.arange(n) / 100 + 2, np.arange(n) / 100 + 1
    estimate = Estimate(1.0, 0.001, n - 1)
    return Comparison("a", "b", metric, estimate, estimate, first, second)


def test_too_few_seeds_decide_nothing_and_take_no_share_of_the_family(monkeypatch):
    monkeypatch.setattr(verdicts, "stuck", lambda study, arm: 0)
    few, enough = compared(2), compared(3)
    tested = {name: Tested(claim, comparison, undecidable(None, claim, comparison))
              for name, claim, comparison in (("few", HIGHER, few), ("enough", HIGHER, enough), ("equal", EQUAL, few))}
    found = verdicts._families(tested)
    assert [one.verdict for one in found.values()] == ["inconclusive", "supported", "inconclusive"]
    assert found["few"].reason == "too few seeds: 2, where 3 were asked for beforehand"
    assert found["enough"].p_holm == found["enough"].p


def test_an_arm_that_never_left_the_plateau_decides_nothing(monkeypatch):
    monkeypatch.setattr(verdicts, "stuck", lambda study, arm: {"a": 0, "b": 2}[arm])
    assert undecidable(None, HIGHER, compared(3)) == \
        "2 of 3 runs of b end on the unigram plateau: more steps are needed"
    escape = HIGHER.model_copy(update={"metric": "escape_step"})
    assert undecidable(None, escape, compared(3, "escape_step")) == ""


def test_a_run_is_stuck_when_it_finished_and_never_beat_word_frequencies(tmp_path):
    study = fake_study(tmp_path)
    assert stuck(study, "dynamic") == 0
    records = study.cell("dynamic", 1) / "metrics.jsonl"
    records.write_text(json.dumps({"step": 12, "tokens": 1, "validation_nll": 3.99}) + "\n")
    assert stuck(study, "dynamic") == 1     # the unigram level is 4.0
    references = study.runs / "examples/references.json"
    content = json.loads(references.read_text())
    content["unigram"]["validation"] = math.exp(4.2)    # another set of tokens than the test's, whose level is 4.0
    references.write_text(json.dumps(content))
    assert stuck(study, "dynamic") == 0
    training = study.cell("dynamic", 1) / "training.json"
    content = json.loads(training.read_text())
    training.write_text(json.dumps(content | {"status": "diverged"}))
    assert stuck(study, "dynamic") == 0     # that is a result of its own
    training.write_text(json.dumps(content | {"steps": 0}))
    assert stuck(study, "dynamic") == 0     # not trained at all


@pytest.mark.parametrize(("status", "loss", "how"), [
    ("diverged", 0.1, "overfitted"), ("diverged", 3.9, "diverged"), ("diverged", None, "diverged"),
    ("finished", 0.1, "finished")])
def test_a_run_that_knows_its_text_by_heart_and_no_other_has_not_diverged(tmp_path, status, loss, how):
    study = fake_study(tmp_path)
    config = study.cell("dynamic", 1)
    (config / "metrics.jsonl").write_text(json.dumps({"step": 0, "validation_nll": 4.2}) + "\n"
                                        + json.dumps({"step": 12, "loss": loss, "validation_nll": 9.0}) + "\n")
    training = json.loads((config / "training.json").read_text())
    (config / "training.json").write_text(json.dumps(training | {"status": status}))
    assert cells(study).query("arm == 'dynamic' and seed == 1").status.item() == how
    assert value(study, "dynamic", 1, "diverged").cell == (how == "diverged")
    if status == "diverged":
        assert value(study, "dynamic", 1, "nll").cell <= 4.0    # no worse than word frequencies


def test_what_a_family_costs():
    """A difference that one test would call real is not, among twenty."""
    assert decided(HIGHER, 0.2, 0.06) == "supported"
    assert decided(HIGHER, 0.2, 0.06, size=20) == "inconclusive"
    assert decided(EQUAL, 0.3, 0.06) == "contradicted"
    assert decided(EQUAL, 0.3, 0.06, size=20) == "inconclusive"


def test_an_interval_has_the_level_at_which_its_claim_was_decided(monkeypatch):
    monkeypatch.setattr(verdicts, "stuck", lambda study, arm: 0)
    apart = compared(5)                     # differs by 1.0, margin 0.05
    alike = Comparison("a", "b", "nll", Estimate(0.0, 0.001, 4), Estimate(0.0, 0.001, 4), apart.first, apart.first)
    found = verdicts._families({"apart": Tested(EQUAL, apart, ""), "alike": Tested(EQUAL, alike, ""),
                                "higher": Tested(HIGHER, apart, ""), "few": Tested(HIGHER, apart, "too few")})
    assert [one.verdict for one in found.values()] == ["contradicted", "supported", "supported", "inconclusive"]
    levels = [1 - 0.05 / 3, None, None, 0.95]
    for one, level in zip(found.values(), levels, strict=True):
        if level is not None:
            assert (one.low, one.high) == pytest.approx(apart.estimate.interval(level))
    open_one = Comparison("a", "b", "nll", Estimate(0.06, 0.03, 4), Estimate(0.06, 0.03, 4), apart.first, apart.first)
    found_open = verdicts._families({"open": Tested(EQUAL, open_one, ""), "apart": Tested(EQUAL, apart, "")})["open"]
    assert found_open.verdict == "inconclusive"
    assert (found_open.low, found_open.high) == pytest.approx(open_one.estimate.interval(1 - 0.05 / 2))
    assert {(found["alike"].low, found["higher"].low)} <= {
        (alike.estimate.interval(1 - 0.1 / a)[0], apart.estimate.interval(1 - 0.05 / b)[0])
        for a, b in ((2, 3), (3, 2))}


@pytest.mark.parametrize(("mean", "verdict"), [(5.0, "supported"), (9.0, "contradicted"), (1.0, "contradicted"),
                                               (7.0, "inconclusive")])
def test_bands(mean, verdict):
    band = Range(**TEXT, claim_type="range", arm="a", metric="nll", low=3.0, high=7.0, min_seeds=3, studies=None)
    assert _band(Estimate(mean, 0.2, 4), band)["verdict"] == verdict
    open_band = band.model_copy(update={"low": None})
    assert _band(Estimate(-99.0, 0.2, 4), open_band)["verdict"] == "supported"


def test_equivalence_is_statsmodels():
    first, second = np.random.default_rng(0).normal(0, 0.05, (2, 8))
    ours = statistics.t_estimate(first - second).p_equivalent(0.08)
    assert ours == pytest.approx(ttost_paired(first, second, -0.08, 0.08)[0])


def test_holm_is_statsmodels_and_its_levels_decide_alike():
    p = [0.04, 0.001, 0.02, 0.6, 0.013]
    adjusted, divisors = statistics.holm(p)
    assert adjusted == pytest.approx(multipletests(p, method="holm")[1])
    assert divisors == [2, 5, 3, 1, 4]
    assert statistics.holm([]) == ([], [])


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
    """Smallest detectable effect in units of the spread: 1.68 at 5 seeds, 1.00 at 10 (protocol)."""
    spread = np.array([-1.0, 0.0, 1.0])
    assert statistics.seeds_needed(spread, 1.7) == 5
    assert statistics.seeds_needed(spread, 1.003) == 10
    assert statistics.seeds_needed(spread, 1e-6) is None
    assert statistics.seeds_needed(np.array([1.0]), 1.0) is None


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
        counts[verdict_of(HIGHER, estimate, estimate.p)[0]] += 1
        covered += estimate.low <= 0 <= estimate.high
    assert counts["supported"] / STUDIES <= 0.05
    assert counts["contradicted"] / STUDIES <= 0.05
    assert 0.93 <= covered / STUDIES <= 0.98


def test_within_a_family_false_verdicts_stay_under_five_percent():
    """Ten claims without an effect: any of them supported or contradicted."""
    rng, wrong = np.random.default_rng(5), 0
    for number in range(STUDIES):
        p = stats.ttest_1samp(rng.normal(size=(5, 10)), 0).pvalue
        found = bool(p.min() < 0.05 / 10)   # Holm's first step
        assert number >= 20 or found == (min(statistics.holm(p.tolist())[0]) < 0.05)
        wrong += found
    assert wrong / STUDIES <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / STUDIES)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_power_is_as_computed(seeds):
    """An effect as large as the smallest detectable one is found in four studies of five."""
    rng, found = np.random.default_rng(seeds), 0
    effect = Estimate(0.0, 1 / math.sqrt(seeds), seeds - 1).smallest_detectable()
    for _ in range(STUDIES):
        found += stats.ttest_1samp(rng.normal(effect, 1.0, seeds), 0).pvalue < 0.05
    assert found / STUDIES == pytest.approx(0.8, abs=0.03)


def test_why_untested_names_the_arms():
    from study.analysis.verdicts import why_untested

    study = SimpleNamespace(settings=SimpleNamespace(arms=["b"], name="quick"))
    assert why_untested(study, HIGHER) == "this study does not train a"
    band = Range(**TEXT, claim_type="range", arm="b", metric="nll", low=3.0, high=7.0, min_seeds=3, studies=["other"])
    assert "tested in other" in why_untested(study, band)
