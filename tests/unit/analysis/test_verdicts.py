"""Verdicts: the truth table, and Holm within a family. Their error rates are in integration/test_verdict_rates.py."""
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from study.analysis import statistics, verdicts
from study.analysis.claims import DirectionClaim, EqualClaim, PointClaim, RangeClaim, RateClaim
from study.analysis.comparisons import Comparison, compare_arms, comparison_table
from study.analysis.gate import GateFailure
from study.analysis.reasons import Flag, sentence
from study.analysis.results import StudyResults
from study.analysis.statistics import Estimate
from study.analysis.verdicts import (
    ClaimTest,
    decide,
    decide_all,
    decide_band,
    decide_families,
    obstacle,
    why_untested,
)
from tests.support.fake_results import fake_study

TEXT = {"statement": "", "source": "", "published": ""}
TESTED = TEXT | {"treatment": "a", "baseline": "b", "metric": "nll", "family": "masking", "margin": 0.05,
                 "min_seeds": 3}
HIGHER, LOWER = (DirectionClaim(**TESTED, claim_type="direction", direction=direction)
                 for direction in ("higher", "lower"))
EQUAL = EqualClaim(**TESTED, claim_type="equal")


def decided(claim, mean, error, df=4, size=1):
    """The verdict in a family of `size` claims of which this one comes first."""
    estimate = Estimate(mean, error, df)
    p = estimate.p_equivalent(claim.margin) if isinstance(claim, EqualClaim) else estimate.p
    return decide(claim, estimate, float(np.minimum(1.0, size * p)), size)


@pytest.mark.parametrize(("claim", "mean", "error", "verdict", "flags"), [
    (HIGHER, 0.2, 0.03, "supported", {Flag.AS_CLAIMED}), (LOWER, 0.2, 0.03, "contradicted", {Flag.OPPOSITE}),
    (LOWER, -0.2, 0.03, "supported", {Flag.AS_CLAIMED}), (HIGHER, -0.2, 0.03, "contradicted", {Flag.OPPOSITE}),
    (HIGHER, 0.0, 0.01, "equivalent", {Flag.WITHIN_MARGIN}), (LOWER, 0.005, 0.01, "equivalent", {Flag.WITHIN_MARGIN}),
    (HIGHER, 0.02, 0.05, "inconclusive", {Flag.IMPRECISE}),
    (HIGHER, 0.02, 0.005, "supported", {Flag.AS_CLAIMED, Flag.BELOW_MARGIN}),
    (LOWER, 0.02, 0.005, "contradicted", {Flag.OPPOSITE, Flag.BELOW_MARGIN}),
    (EQUAL, 0.0, 0.01, "supported", {Flag.WITHIN_MARGIN}), (EQUAL, 0.3, 0.03, "contradicted", {Flag.BEYOND_MARGIN}),
    (EQUAL, -0.3, 0.03, "contradicted", {Flag.BEYOND_MARGIN}),
    (EQUAL, 0.04, 0.02, "inconclusive", {Flag.CROSSES_MARGIN}),
    (EQUAL, 0.07, 0.02, "inconclusive", {Flag.MARGIN_UNRESOLVED}),
    (EQUAL, 0.0, 0.0, "supported", {Flag.WITHIN_MARGIN}), (HIGHER, 0.0, 0.0, "equivalent", {Flag.WITHIN_MARGIN}),
    (HIGHER, math.nan, math.nan, "inconclusive", {Flag.NO_INTERVAL})])
def test_truth_table(claim, mean, error, verdict, flags):
    outcome = decided(claim, mean, error)
    assert (outcome.verdict, outcome.flags) == (verdict, flags)


def test_every_flag_has_a_sentence():
    facts = {"n": 2, "min_seeds": 3, "failing": 1, "arm": "a", "times": 10, "escape": 5, "steps": 40, "nll": 2.0,
             "level": 1.0, "measure": "NLL", "arms": "a and b", "metric": "nll", "studies": "quick"}
    assert all(sentence([flag], **facts) for flag in Flag)
    assert sentence({Flag.BELOW_MARGIN, Flag.AS_CLAIMED}) == \
        "the difference is in the claimed direction, but smaller than the margin"


def compared(n, metric="nll"):
    """A comparison of `n` seeds with an effect of 1.0, known well."""
    first, second = np.arange(n) / 100 + 2, np.arange(n) / 100 + 1
    estimate = Estimate(1.0, 0.001, n - 1)
    return Comparison("a", "b", metric, estimate, estimate, first, second)


# ---- what keeps a claim from being decided

def test_too_few_seeds_decide_nothing_and_do_not_count_in_the_family(monkeypatch):
    monkeypatch.setattr(verdicts, "failed_gate", lambda results, arms: None)
    few, enough = compared(2), compared(3)
    outcomes = decide_families({name: ClaimTest(claim, comparison, obstacle(None, claim, comparison)) for
                                name, claim, comparison in (("few", HIGHER, few), ("enough", HIGHER, enough),
                                                            ("equal", EQUAL, few))})
    assert [outcome.verdict for outcome in outcomes.values()] == ["inconclusive", "supported", "inconclusive"]
    assert outcomes["few"].flags == {Flag.TOO_FEW_SEEDS}
    assert outcomes["few"].reason == "too few seeds: 2, but the claim requires 3"
    assert outcomes["few"].effect == 1.0    # shown, though nothing is decided
    assert outcomes["enough"].p_holm == outcomes["enough"].p


def test_arms_that_fail_the_learning_gate_decide_nothing(monkeypatch):
    failure = GateFailure(frozenset({Flag.NEVER_ESCAPED}), "2 of 3 runs of b never left the unigram plateau", {"b": 2})
    monkeypatch.setattr(verdicts, "failed_gate", lambda results, arms: failure if "b" in arms else None)
    outcome = obstacle(None, HIGHER, compared(3))
    assert (outcome.verdict, outcome.reason, outcome.flags) == ("inconclusive", failure.reason, failure.flags)


@pytest.mark.parametrize("metric", ["escape_step", "initial_excess", "diverged"])
def test_metrics_of_the_course_of_training_need_no_gate(monkeypatch, metric):
    monkeypatch.setattr(verdicts, "failed_gate", lambda results, arms: pytest.fail("the gate was asked"))
    assert obstacle(None, HIGHER.model_copy(update={"metric": metric}), compared(3, metric)) is None


def test_a_claim_that_a_study_cannot_test_names_why():
    study = SimpleNamespace(settings=SimpleNamespace(arms=["b"], name="quick"))
    assert why_untested(study, HIGHER).reason == "this study does not train a"
    assert why_untested(study, HIGHER).flags == {Flag.NOT_TRAINED}
    band = RangeClaim(**TEXT, claim_type="range", arm="b", metric="nll", low=3.0, high=7.0, min_seeds=3,
                      studies=["other"])
    assert why_untested(study, band).flags == {Flag.OTHER_STUDIES}
    assert "tested in other" in why_untested(study, band).reason
    assert why_untested(study, band.model_copy(update={"studies": None})) is None


def test_a_metric_that_was_not_measured_is_untested(tmp_path):
    claims = {name: claim.model_copy(update={"treatment": "dynamic", "baseline": None, "metric": "nsp_over_chance"})
              for name, claim in (("direction", HIGHER), ("equal", EQUAL))}
    claims["range"] = RangeClaim(**TEXT, claim_type="range", arm="dynamic", metric="nsp_accuracy", low=0, high=1,
                                 min_seeds=2)
    outcomes = decide_all(StudyResults(fake_study(tmp_path)), claims, {})
    assert all(outcome.verdict == "untested" and outcome.flags == {Flag.NOT_MEASURED} for outcome in outcomes.values())
    assert outcomes["range"].reason == "nsp_accuracy was not measured in every cell of its arms"


# ---- other kinds of claims

@pytest.mark.parametrize(("mean", "verdict", "flag"), [
    (5.0, "supported", Flag.INSIDE_BAND), (9.0, "contradicted", Flag.ABOVE_BAND),
    (1.0, "contradicted", Flag.BELOW_BAND), (7.0, "inconclusive", Flag.CROSSES_BAND)])
def test_bands(mean, verdict, flag):
    band = RangeClaim(**TEXT, claim_type="range", arm="a", metric="nll", low=3.0, high=7.0, min_seeds=3)
    outcome = decide_band(band, Estimate(mean, 0.2, 4))
    assert (outcome.verdict, outcome.flags) == (verdict, {flag})
    open_band = band.model_copy(update={"low": None})
    assert decide_band(open_band, Estimate(-99.0, 0.2, 4)).verdict == "supported"


def test_a_published_number_is_held_against_one_more_run(tmp_path):
    results = StudyResults(fake_study(tmp_path))            # dynamic has NLL 2.0 and 2.1
    low, high = statistics.prediction_interval(np.array([2.0, 2.1]))

    def outcome(number, min_seeds=2):
        claim = PointClaim(**TEXT, claim_type="point", arm="dynamic", metric="nll", number=number, rounding=0.01,
                           min_seeds=min_seeds)
        return decide_all(results, {"claim": claim}, {})["claim"]

    assert outcome(high + 0.005).flags == {Flag.LIKE_ONE_MORE_RUN}
    assert outcome(high + 0.02).flags == {Flag.UNLIKE_ONE_MORE_RUN}
    assert [outcome(number).verdict for number in (low - 0.02, 2.05)] == ["contradicted", "supported"]
    assert (outcome(2.05).low, outcome(2.05).high) == pytest.approx((low, high))
    assert outcome(2.05, min_seeds=3).flags == {Flag.TOO_FEW_SEEDS}


@pytest.mark.parametrize(("diverged", "of_baseline", "verdict", "flag"), [
    (6, 0, "supported", Flag.MOST_RUNS_DIVERGE), (6, 6, "inconclusive", Flag.RATE_UNRESOLVED),
    (0, 0, "contradicted", Flag.FEW_RUNS_DIVERGE), (5, 0, "inconclusive", Flag.RATE_UNRESOLVED)])
def test_rates(monkeypatch, diverged, of_baseline, verdict, flag):
    counts = {"a": diverged, "b": of_baseline}
    monkeypatch.setattr(verdicts, "_diverged", lambda results, arm: [1.0] * counts[arm] + [0.0] * (6 - counts[arm]))
    settings = SimpleNamespace(arms=["a", "b"], seeds=range(6), name="quick")
    results = SimpleNamespace(study=SimpleNamespace(settings=settings))
    claim = RateClaim(**TEXT, claim_type="rate", treatment="a", baseline="b", min_seeds=5)
    outcome = decide_all(results, {"claim": claim}, {})["claim"]
    assert (outcome.verdict, outcome.flags) == (verdict, {flag})
    assert outcome.measured == f"{diverged} of 6 runs diverged; of the baseline, {of_baseline} of 6"


# ---- comparisons

def test_a_comparison_takes_seeds_and_texts_as_random(tmp_path):
    results = StudyResults(fake_study(tmp_path))
    comparison = compare_arms(results, "static", "dynamic", "nll")
    assert comparison.differences == pytest.approx([0.2, 0.2])
    rows = [[cell.evaluation_arrays["mask_only/nll"] / 2 for cell in results.of_arm(arm)]
            for arm in ("static", "dynamic")]
    assert comparison.estimate == statistics.two_way_estimate(np.array(rows[0]) - np.array(rows[1]))
    assert compare_arms(results, "dynamic", None, "nll").first.tolist() == [2.0, 2.1]
    assert compare_arms(results, "static", "dynamic", "nsp_accuracy") is None
    assert compare_arms(results, "dynamic", None, "escape_step").estimate.error == 0      # no numbers of texts


def test_the_effect_over_surviving_seeds_leaves_out_diverged_runs(tmp_path):
    study = fake_study(tmp_path)
    path = study.cell("static", 1) / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "diverged"}))
    scores = study.cell("static", 1) / "evaluation.json"
    content = json.loads(scores.read_text())
    content["mask_only"]["nll"] = 9.0
    scores.write_text(json.dumps(content))
    row = comparison_table(StudyResults(study)).set_index("metric").loc["nll"]
    assert row.survivors == pytest.approx(0.2)
    assert row.effect == pytest.approx((0.2 + 4.0 - 2.1) / 2)       # the failed run counts at the unigram level


# ---- families

def test_what_a_family_costs():
    """A difference that a single test would call real is not called real among twenty tests."""
    assert decided(HIGHER, 0.2, 0.06).verdict == "supported"
    assert decided(HIGHER, 0.2, 0.06, size=20).verdict == "inconclusive"
    assert decided(EQUAL, 0.3, 0.06).verdict == "contradicted"
    assert decided(EQUAL, 0.3, 0.06, size=20).verdict == "inconclusive"


def test_an_interval_has_the_level_at_which_its_claim_was_decided():
    apart = compared(5)                     # differs by 1.0, margin 0.05
    alike = Comparison("a", "b", "nll", Estimate(0.0, 0.001, 4), Estimate(0.0, 0.001, 4), apart.first, apart.first)
    few = verdicts._too_few(2, 3)
    outcomes = decide_families({"apart": ClaimTest(EQUAL, apart), "alike": ClaimTest(EQUAL, alike),
                                "higher": ClaimTest(HIGHER, apart), "few": ClaimTest(HIGHER, apart, few)})
    assert [outcome.verdict for outcome in outcomes.values()] == ["contradicted", "supported", "supported",
                                                                  "inconclusive"]
    assert (outcomes["apart"].low, outcomes["apart"].high) == pytest.approx(apart.estimate.interval(1 - 0.05 / 3))
    assert (outcomes["few"].low, outcomes["few"].high) == pytest.approx(apart.estimate.interval(0.95))
    assert {(outcomes["alike"].low, outcomes["higher"].low)} <= {
        (alike.estimate.interval(1 - 0.1 / a)[0], apart.estimate.interval(1 - 0.05 / b)[0])
        for a, b in ((2, 3), (3, 2))}


def test_an_undecided_equal_claim_has_an_interval_at_the_level_of_its_family():
    apart, estimate = compared(5), Estimate(0.06, 0.03, 4)
    unclear = Comparison("a", "b", "nll", estimate, estimate, apart.first, apart.first)
    outcome = decide_families({"unclear": ClaimTest(EQUAL, unclear), "apart": ClaimTest(EQUAL, apart)})["unclear"]
    assert outcome.verdict == "inconclusive"
    assert (outcome.low, outcome.high) == pytest.approx(estimate.interval(1 - 0.05 / 2))


def test_families_do_not_affect_each_other():
    other = HIGHER.model_copy(update={"family": "probe"})
    outcomes = decide_families({"a": ClaimTest(HIGHER, compared(5)), "b": ClaimTest(other, compared(5)),
                                "c": ClaimTest(other, compared(5))})
    assert outcomes["a"].p_holm == outcomes["a"].p
    assert outcomes["b"].p_holm == pytest.approx(2 * outcomes["b"].p)
