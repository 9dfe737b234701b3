"""Verdicts: the truth table, and the level of tests in a family. integration/test_verdict_rates.py has error rates."""
import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from study.analysis import conditions, difference_claims, gate, number_claims, statistics
from study.analysis.claims import (
    OWN_SOURCE,
    DirectionClaim,
    EqualClaim,
    PointClaim,
    RangeClaim,
    RateClaim,
    SpreadClaim,
    load_claims,
)
from study.analysis.comparisons import Comparison, compare_arms, comparison_table
from study.analysis.difference_claims import ClaimTest, decide, decide_families, obstacle, second_look
from study.analysis.gate import GateFailure
from study.analysis.measures import Sample, Value
from study.analysis.number_claims import judge_band
from study.analysis.reasons import Flag, sentence
from study.analysis.results import StudyResults
from study.analysis.statistics import Components, Estimate
from study.analysis.verdict import Verdict, too_few, verdict_on, why_untested
from study.analysis.verdicts import decide_all
from study.config.arms import resolve
from study.config.load import load_study
from tests.support.fake_results import fake_study, write_params
from tests.support.studies import ROOT

TEXT = {"statement": "", "source": "", "published": "", "fidelity": "same question", "differs": ""}
TESTED = TEXT | {"treatment": "a", "baseline": "b", "metric": "nll", "family": "masking", "margin": 0.05,
                 "min_seeds": 3}
HIGHER, LOWER = (DirectionClaim(**TESTED, claim_type="direction", direction=direction)
                 for direction in ("higher", "lower"))
EQUAL = EqualClaim(**TESTED, claim_type="equal")


def decided(claim, mean, error, df=4, size=1):
    """The verdict in a family of `size` claims of which this one comes first."""
    estimate = Estimate(mean, error, df)
    test = ClaimTest(claim, Comparison("a", "b", "nll", estimate, estimate, np.zeros(2), np.zeros(2)))
    return decide(claim, estimate, float(np.minimum(1.0, size * test.p)), size)


@pytest.mark.parametrize(("claim", "mean", "error", "outcome", "flags"), [
    (HIGHER, 0.2, 0.03, "holds", {Flag.AS_CLAIMED}), (LOWER, 0.2, 0.03, "reversed", {Flag.OPPOSITE}),
    (LOWER, -0.2, 0.03, "holds", {Flag.AS_CLAIMED}), (HIGHER, -0.2, 0.03, "reversed", {Flag.OPPOSITE}),
    (HIGHER, 0.0, 0.01, "no difference", {Flag.WITHIN_MARGIN}),
    (LOWER, 0.005, 0.01, "no difference", {Flag.WITHIN_MARGIN}),
    (HIGHER, 0.02, 0.05, "undecided", {Flag.IMPRECISE}),
    (HIGHER, 0.02, 0.005, "no difference", {Flag.WITHIN_MARGIN}),       # there is one, smaller than the margin
    (HIGHER, 0.045, 0.01, "holds", {Flag.AS_CLAIMED, Flag.BELOW_MARGIN}),
    (LOWER, 0.045, 0.01, "reversed", {Flag.OPPOSITE, Flag.BELOW_MARGIN}),
    (EQUAL, 0.0, 0.01, "holds", {Flag.WITHIN_MARGIN}), (EQUAL, 0.3, 0.03, "reversed", {Flag.BEYOND_MARGIN}),
    (EQUAL, -0.3, 0.03, "reversed", {Flag.BEYOND_MARGIN}),
    (EQUAL, 0.04, 0.02, "undecided", {Flag.CROSSES_MARGIN}),
    (EQUAL, 0.07, 0.02, "undecided", {Flag.MARGIN_UNRESOLVED}),
    (EQUAL, 0.0, 0.0, "undecided", {Flag.ALL_EQUAL}), (HIGHER, 0.1, 0.0, "undecided", {Flag.ALL_EQUAL}),
    (HIGHER, math.nan, math.nan, "undecided", {Flag.NO_INTERVAL})])
def test_truth_table(claim, mean, error, outcome, flags):
    verdict = decided(claim, mean, error)
    assert (verdict.outcome, verdict.flags) == (outcome, flags)


@pytest.mark.parametrize(("fidelity", "outcome", "verdict"), [
    ("same recipe", "holds", "supported"), ("same recipe", "reversed", "contradicted"),
    ("same recipe", "no difference", "contradicted"), ("same recipe", "split", ""), ("same recipe", "undecided", ""),
    ("same question", "holds", ""), ("proxy", "reversed", "")])
def test_only_the_sources_own_recipe_supports_or_contradicts_a_claim(fidelity, outcome, verdict):
    assert verdict_on(HIGHER.model_copy(update={"fidelity": fidelity}), outcome) == verdict


@pytest.mark.parametrize("outcome", ["holds", "reversed", "no difference"])
def test_a_claim_of_our_own_is_neither_supported_nor_contradicted(outcome):
    own = HIGHER.model_copy(update={"fidelity": "same recipe", "source": OWN_SOURCE})
    assert verdict_on(own, outcome) == ""
    assert verdict_on(own.model_copy(update={"source": "S0"}), outcome)


def test_every_flag_has_a_sentence():
    facts = {"n": 2, "min_seeds": 3, "failing": 1, "arm": "a", "times": 10, "escape": 5, "needed": 50, "steps": 40,
             "nll": 2.0, "level": 1.0, "measure": "NLL", "arms": "a and b", "metric": "nll", "studies": "quick",
             "label": "NLL", "shown": "+1", "above": "2 points", "setting": "minimal_pairs", "tokens": 8, "wanted": 32}
    assert all(sentence([flag], **facts) for flag in Flag)
    assert sentence({Flag.BELOW_MARGIN, Flag.AS_CLAIMED}) == \
        "the difference is in the claimed direction, but the estimate is smaller than the margin"


def compared(n, metric="nll", error=0.001, mean=1.0):
    """A comparison of `n` seeds with an effect of 1.0, known well."""
    first, second = np.arange(n) / 100 + 1 + mean, np.arange(n) / 100 + 1
    estimate = Estimate(mean, error, n - 1, Components(n, 1, error**2))
    return Comparison("a", "b", metric, estimate, estimate, first, second)


# ---- what keeps a claim from being decided

def test_too_few_seeds_decide_nothing(monkeypatch):
    monkeypatch.setattr(gate, "failed_gate", lambda results, arms: None)
    few = compared(2)
    verdict = decide_families({"few": ClaimTest(HIGHER, few, obstacle(None, HIGHER, few))}, {})["few"]
    assert (verdict.outcome, verdict.flags) == ("undecided", {Flag.TOO_FEW_SEEDS})
    assert verdict.reason == "too few seeds: 2, but the claim requires 3"
    assert verdict.effect == 1.0            # shown, although undecided
    assert math.isnan(verdict.p_adjusted)


def test_arms_that_fail_the_learning_gate_decide_nothing(monkeypatch):
    failure = GateFailure(frozenset({Flag.NEVER_ESCAPED}), "2 of 3 runs of b never left the unigram plateau", {"b": 2})
    monkeypatch.setattr(gate, "failed_gate", lambda results, arms: failure if "b" in arms else None)
    outcome = obstacle(None, HIGHER, compared(3))
    assert (outcome.outcome, outcome.reason, outcome.flags) == ("undecided", failure.reason, failure.flags)


@pytest.mark.parametrize("metric", ["escape_step", "initial_excess", "diverged"])
def test_metrics_of_the_course_of_training_need_no_gate(monkeypatch, metric):
    monkeypatch.setattr(gate, "failed_gate", lambda results, arms: pytest.fail("the gate was asked"))
    assert obstacle(None, HIGHER.model_copy(update={"metric": metric}), compared(3, metric)) is None


def test_a_claim_that_a_study_cannot_test_names_why():
    training = SimpleNamespace(stop_after_escape=None)
    study = SimpleNamespace(settings=SimpleNamespace(arms=["b"], name="quick", training=training,
                                                     finetune=SimpleNamespace(arms=[])))
    assert why_untested(study, HIGHER).reason == "this study does not train a"
    assert why_untested(study, HIGHER).flags == {Flag.NOT_TRAINED}
    band = RangeClaim(**TEXT, claim_type="range", arm="b", metric="nll", low=3.0, high=7.0, min_seeds=3,
                      studies=["other"])
    assert why_untested(study, band).flags == {Flag.OTHER_STUDIES}
    assert "tested in other" in why_untested(study, band).reason
    band = band.model_copy(update={"studies": None})
    assert why_untested(study, band) is None
    training.stop_after_escape = 200        # as in the plateau study
    assert why_untested(study, band).flags == {Flag.ENDS_EARLY}
    assert why_untested(study, band.model_copy(update={"metric": "escape_step"})) is None


@pytest.mark.parametrize(("length", "arm", "shortest", "tested"), [
    (32, "short-first-quarter", 32, False), (64, "short-first-quarter", 17, False),
    (64, "short-first-quarter", 16, True), (64, "short-first-quarter", None, True),
    (32, "short-first-half", 32, False), (128, "short-first-quarter", 32, True), (32, "dynamic", 32, True)])
def test_a_claim_about_short_rows_needs_rows_that_are_long_enough(tmp_path, length, arm, shortest, tested):
    study = write_study(tmp_path, length, list(dict.fromkeys(["dynamic", arm])))
    claim = EQUAL.model_copy(update={"treatment": arm, "baseline": "dynamic", "shortest_row": shortest})
    verdict = why_untested(study, claim)
    if tested:
        assert verdict is None
    else:
        tokens = {"short-first-quarter": length // 4, "short-first-half": length // 2}[arm]
        assert (verdict.outcome, verdict.flags) == ("not testable here", {Flag.ROWS_TOO_SHORT})
        assert verdict.reason == f"{arm} has rows of {tokens} tokens here, but the claim requires {shortest} or more"


@pytest.mark.parametrize(("length", "tested"), [(64, {"S1.4", "L16", "L17"}),
                                                (128, {"S1.4", "L16", "L17", "L18", "S4.6"})])
def test_the_published_claims_about_short_rows_that_a_study_tests(tmp_path, length, tested):
    study = write_study(tmp_path, length, ["dynamic", "short-first-quarter", "short-first-half"])
    claims = load_claims(load_study(ROOT))
    assert {name for name in ("S1.4", "L16", "L17", "L18", "S4.6")
            if why_untested(study, claims[name]) is None} == tested


def write_study(folder, length, arms):
    """The settings of a study whose full rows have so many tokens."""
    (folder / "experiments").mkdir()
    shutil.copy(ROOT / "experiments/arms.yaml", folder / "experiments")
    return write_params(folder, "rows", arms, [0], lambda text: re.sub(
        r"^  max_seq_length: \d+", f"  max_seq_length: {length}", text, count=1, flags=re.M))


def test_a_metric_that_was_not_measured_is_untested(tmp_path):
    claims = {name: claim.model_copy(update={"treatment": "dynamic", "baseline": None, "metric": "nsp_over_chance"})
              for name, claim in (("direction", HIGHER), ("equal", EQUAL))}
    claims["range"] = RangeClaim(**TEXT, claim_type="range", arm="dynamic", metric="nsp_accuracy", low=0, high=1,
                                 min_seeds=2)
    outcomes = decide_all(StudyResults(fake_study(tmp_path)), claims, {})
    assert {outcome.outcome for outcome in outcomes.values()} == {"not testable here"}
    assert {outcome.flags for outcome in outcomes.values()} == {frozenset({Flag.NOT_MEASURED})}
    assert outcomes["range"].reason == "next-sentence accuracy was not measured in every cell of its arms"


def test_a_diverged_run_without_the_metric_leaves_its_claim_undecided(tmp_path):
    """Else whether a claim is shown would depend on what came out."""
    study = fake_study(tmp_path)
    path = study.cell("dynamic", 1) / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record | {"loss": None}) + "\n" for record in records))
    claims = {"point": PointClaim(**TEXT, claim_type="point", arm="dynamic", metric="running_loss", number=2.0,
                                  rounding=0.01, min_seeds=2),
              "higher": HIGHER.model_copy(update={"treatment": "static", "baseline": "dynamic",
                                                  "metric": "running_loss", "min_seeds": 2})}
    assert {outcome.outcome for outcome in decide_all(StudyResults(study), claims, {}).values()} == {
        "not testable here"}
    path = study.cell("dynamic", 1) / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "diverged"}))
    for outcome in decide_all(StudyResults(study), claims, {}).values():
        assert (outcome.outcome, outcome.flags) == ("undecided", {Flag.DIVERGED})
        assert outcome.reason.startswith("1 of 2 runs of dynamic diverged, and ")


# ---- other kinds of claims

@pytest.mark.parametrize(("mean", "verdict", "flag"), [
    (5.0, "holds", Flag.INSIDE_BAND), (9.0, "reversed", Flag.ABOVE_BAND),
    (1.0, "reversed", Flag.BELOW_BAND), (7.0, "undecided", Flag.CROSSES_BAND)])
def test_bands(mean, verdict, flag):
    band = RangeClaim(**TEXT, claim_type="range", arm="a", metric="nll", low=3.0, high=7.0, min_seeds=3)
    outcome = judge_band(band, Estimate(mean, 0.2, 4))
    assert (outcome.outcome, outcome.flags) == (verdict, {flag})
    open_band = band.model_copy(update={"low": None})
    assert judge_band(open_band, Estimate(-99.0, 0.2, 4)).outcome == "holds"
    for claim in (band, open_band):
        assert judge_band(claim, Estimate(mean, *statistics.UNKNOWN)).flags == {Flag.NO_INTERVAL}


def test_a_band_takes_test_rows_as_a_sample(tmp_path, monkeypatch):
    """Two runs of nearly the same accuracy on the same 500 rows: chance among the rows alone adds 4 points each way."""
    results = StudyResults(fake_study(tmp_path))
    band = RangeClaim(**TEXT, claim_type="range", arm="dynamic", metric="tutorial_probe", low=0.6, high=0.75,
                      min_seeds=2)
    sample = Sample(0.63 * 0.37 / 500, 500)
    for value, outcome in (({"sample": sample}, "undecided"), ({}, "holds")):
        monkeypatch.setattr(number_claims, "arm_metric", lambda results, arm, metric, value=value: [
            Value(0.631, **value), Value(0.630, **value)])
        assert decide_all(results, {"claim": band}, {})["claim"].outcome == outcome
    rows = [np.repeat([1.0, 0.0], [315, 185]), np.repeat([1.0, 0.0], [316, 184])]
    monkeypatch.setattr(number_claims, "arm_metric", lambda results, arm, metric: list(map(Value.of_texts, rows)))
    verdict = decide_all(results, {"claim": band}, {})["claim"]
    assert (verdict.outcome, verdict.flags) == ("undecided", {Flag.CROSSES_BAND})
    expected = statistics.two_way_estimate(np.array(rows))
    assert (verdict.effect, verdict.low, verdict.high) == (expected.mean, expected.low, expected.high)


def test_the_number_of_an_arm_that_fails_the_gate_decides_nothing(tmp_path, monkeypatch):
    failure = GateFailure(frozenset({Flag.NEVER_ESCAPED}), "2 of 2 runs of dynamic never left", {"dynamic": 2})
    monkeypatch.setattr(gate, "failed_gate", lambda results, arms: failure if "dynamic" in arms else None)
    results, arm = StudyResults(fake_study(tmp_path)), TEXT | {"arm": "dynamic", "min_seeds": 2}
    claims = {"band": RangeClaim(**arm, claim_type="range", metric="nll", low=1.0, high=3.0),
              "point": PointClaim(**arm, claim_type="point", metric="nll", number=2.05, rounding=0.01),
              "spread": SpreadClaim(**arm, claim_type="spread", metric="nll", margin=1e-9)}
    for verdict in decide_all(results, claims, {}).values():
        assert (verdict.outcome, verdict.reason, verdict.flags) == ("undecided", failure.reason, failure.flags)
        assert verdict.n == 2
    course = claims["band"].model_copy(update={"metric": "initial_excess", "low": -99.0, "high": 99.0})
    assert decide_all(results, {"course": course}, {})["course"].outcome == "holds"


def test_an_equal_difference_at_every_seed_has_no_interval():
    same = dataclasses.replace(compared(3, "escape_step", error=0.0), survival_p=0.001)
    claim = HIGHER.model_copy(update={"metric": "escape_step"})
    verdict = decide_families({"same": ClaimTest(claim, same)}, {})["same"]
    assert (verdict.outcome, verdict.effect) == ("holds", 1.0)
    assert np.isnan([verdict.low, verdict.high, verdict.plain_low, verdict.plain_high]).all()


def test_a_published_number_is_held_against_one_more_run(tmp_path):
    results = StudyResults(fake_study(tmp_path))            # dynamic has NLL 2.0 and 2.1
    low, high = statistics.prediction_interval(np.array([2.0, 2.1]))

    def outcome(number, min_seeds=2):
        claim = PointClaim(**TEXT, claim_type="point", arm="dynamic", metric="nll", number=number, rounding=0.01,
                           min_seeds=min_seeds)
        return decide_all(results, {"claim": claim}, {})["claim"]

    assert outcome(high + 0.005).flags == {Flag.LIKE_ONE_MORE_RUN}
    assert outcome(high + 0.02).flags == {Flag.UNLIKE_ONE_MORE_RUN}
    assert [outcome(number).outcome for number in (low - 0.02, 2.05)] == ["reversed", "holds"]
    assert (outcome(2.05).low, outcome(2.05).high) == pytest.approx((low, high))
    assert outcome(2.05, min_seeds=3).flags == {Flag.TOO_FEW_SEEDS}


@pytest.mark.parametrize(("diverged", "of_baseline", "verdict", "flag"), [
    (6, 0, "holds", Flag.MOST_RUNS_DIVERGE), (6, 6, "undecided", Flag.RATE_LIKE_BASELINE),
    (0, 0, "reversed", Flag.FEW_RUNS_DIVERGE), (5, 0, "undecided", Flag.RATE_UNRESOLVED)])
def test_rates(monkeypatch, diverged, of_baseline, verdict, flag):
    runs = {arm: [1.0] * count + [0.0] * (6 - count) for arm, count in (("a", diverged), ("b", of_baseline))}
    monkeypatch.setattr(number_claims, "_diverged", lambda results, arm: runs[arm])
    settings = SimpleNamespace(arms=["a", "b"], seeds=range(6), name="quick",
                               training=SimpleNamespace(stop_after_escape=None), finetune=SimpleNamespace(arms=[]))
    results = SimpleNamespace(study=SimpleNamespace(settings=settings, runs=Path("no-runs")))
    claim = RateClaim(**TEXT, claim_type="rate", treatment="a", baseline="b", min_seeds=5)
    outcome = decide_all(results, {"claim": claim}, {})["claim"]
    assert (outcome.outcome, outcome.flags) == (verdict, {flag})
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
    assert decided(HIGHER, 0.2, 0.06).outcome == "holds"
    assert decided(HIGHER, 0.2, 0.06, size=20).outcome == "undecided"
    assert decided(EQUAL, 0.3, 0.06).outcome == "reversed"
    assert decided(EQUAL, 0.3, 0.06, size=20).outcome == "undecided"
    assert decided(EQUAL, 0.0, 0.02).outcome == decided(HIGHER, 0.0, 0.02).outcome.replace("no difference", "holds")
    assert decided(EQUAL, 0.0, 0.02, size=20).outcome == "undecided"    # equivalence is adjusted too
    assert decided(HIGHER, 0.0, 0.02, size=20).outcome == "undecided"


def alike(error=0.001):
    """A comparison without a difference."""
    estimate, numbers = Estimate(0.0, error, 4), np.arange(5) / 100
    return Comparison("a", "b", "nll", estimate, estimate, numbers, numbers)


def test_every_claim_is_tested_at_the_level_of_its_whole_family():
    """A claim that is decided leaves the level of the others as it is: its other null hypothesis may be true."""
    apart, same = compared(5), alike()      # the first differs by 1.0; the margin is 0.05
    near = compared(5, mean=0.075, error=0.02)
    tests = {"apart": ClaimTest(EQUAL, apart), "alike": ClaimTest(EQUAL, same), "higher": ClaimTest(HIGHER, apart),
             "near": ClaimTest(HIGHER, near), "few": ClaimTest(HIGHER, apart, too_few(2, 3))}
    assert 0.05 / 5 < tests["near"].p < 0.05 / 2
    verdicts = decide_families(tests, dict.fromkeys(tests, list(tests)))
    assert [verdict.outcome for verdict in verdicts.values()] == ["reversed", "holds", "holds", "undecided",
                                                                  "undecided"]
    for (name, verdict), level in zip(verdicts.items(), (1, 2, 1, 1, 1), strict=True):
        interval = tests[name].comparison.estimate.interval(1 - level * 0.05 / 5)
        assert (verdict.low, verdict.high) == pytest.approx(interval), name
    assert verdicts["near"].low < 0         # as the reason says


def test_the_smallest_detectable_effect_and_the_seeds_needed_have_the_level_of_the_claim():
    alone, shared = (decide_families({"claim": ClaimTest(HIGHER, compared(5, error=0.03))},
                                     {"claim": ["claim", *others]})["claim"] for others in ([], list("abcdefghi")))
    estimate = compared(5, error=0.03).estimate
    assert alone.smallest_detectable_effect == estimate.smallest_detectable(alpha=0.05)
    assert shared.smallest_detectable_effect == estimate.smallest_detectable(alpha=0.005)
    assert shared.seeds_needed > alone.seeds_needed


def test_families_are_those_that_were_registered_whatever_became_of_their_arms():
    registered = dict.fromkeys("ab", ["a", "b", "never-trained"])
    tests = {"a": ClaimTest(HIGHER, compared(5)), "b": ClaimTest(HIGHER, compared(5), too_few(2, 3))}
    verdict = decide_families(tests, registered)["a"]
    assert verdict.p_adjusted == pytest.approx(3 * verdict.p)
    later = tests | {name: ClaimTest(HIGHER, compared(5)) for name in ("x", "y")}
    verdicts = decide_families(later, registered)
    assert verdicts["a"] == verdict         # claims that were added later do not count for the registered ones
    assert verdicts["x"].p_adjusted == pytest.approx(5 * verdicts["x"].p)


def test_families_do_not_affect_each_other():
    other = HIGHER.model_copy(update={"family": "probe"})
    tests = {"a": ClaimTest(HIGHER, compared(5)), "b": ClaimTest(other, compared(5)),
             "c": ClaimTest(other, compared(5))}
    outcomes = decide_families(tests, {})
    assert outcomes["a"].p_adjusted == outcomes["a"].p
    assert outcomes["b"].p_adjusted == pytest.approx(2 * outcomes["b"].p)


# ---- the positive control and the second look

@pytest.mark.parametrize(("above", "flags"), [(0.5, None), (3.0, {Flag.CONTROL_FAILED})])
def test_a_failed_positive_control_decides_nothing(tmp_path, monkeypatch, above, flags):
    monkeypatch.setattr(gate, "failed_gate", lambda results, arms: None)
    results = StudyResults(fake_study(tmp_path))            # dynamic has NLL 2.0 and 2.1
    control = {"arm": "dynamic", "metric": "nll", "above": above}
    claim = DirectionClaim(**TESTED | {"positive_control": control, "min_seeds": 2}, claim_type="direction",
                           direction="higher")
    verdict = obstacle(results, claim, compared(2))
    assert flags == (verdict and verdict.flags)
    assert verdict is None or "dynamic should exceed 3 nats (NLL on [MASK])" in verdict.reason


def test_a_positive_control_that_was_not_measured_is_named_as_readers_know_it(tmp_path):
    control = {"arm": "dynamic", "metric": "nsp_accuracy", "above": 0.5}
    claim = DirectionClaim(**TESTED | {"positive_control": control, "min_seeds": 2}, claim_type="direction",
                           direction="higher")
    assert obstacle(StudyResults(fake_study(tmp_path)), claim, compared(2)).reason == \
        "next-sentence accuracy was not measured in every cell of its arms"


@pytest.mark.parametrize(("metric", "above", "low", "high", "words"), [
    ("finetuned_rate", -3.0, -5.0, -4.0, "should exceed 0.001 (chosen learning rate of fine-tuning), but the interval "
                                         "of its mean is 1e-05 to 0.0001"),
    ("finetuned_rate_small", 1.0, math.log10(1.5), math.log10(2), "should exceed ×10.00 (ratio of the chosen learning "
                                                                  "rates, fewest rows to most), but the interval of "
                                                                  "its mean is ×1.50 to ×2.00")])
def test_a_positive_control_in_logarithms_is_shown_as_rates_and_ratios(monkeypatch, metric, above, low, high, words):
    claim = DirectionClaim(**TESTED | {"positive_control": {"arm": "dynamic", "metric": metric, "above": above}},
                           claim_type="direction", direction="higher")
    monkeypatch.setattr(difference_claims, "control_estimate", lambda *_: SimpleNamespace(low=low, high=high))
    assert words in obstacle(None, claim, compared(3)).reason


def test_a_difference_of_logarithms_is_shown_as_a_ratio():
    estimate = SimpleNamespace(mean=math.log10(1.5), low=math.log10(1.2), high=math.log10(1.9))
    ratio = dataclasses.replace(compared(3, "finetuned_rate"), estimate=estimate)
    assert conditions.shown(ratio) == "×1.50 [×1.20, ×1.90]"
    assert conditions.shown(dataclasses.replace(ratio, metric="finetuned_rate_small", baseline=None)) == \
        "×1.50 [×1.20, ×1.90]"
    rate = SimpleNamespace(mean=-4.0, low=-5.0, high=-3.0)
    assert conditions.shown(dataclasses.replace(ratio, estimate=rate, baseline=None)) == "0.0001 [1e-05, 0.001]"
    nats = SimpleNamespace(mean=0.5, low=0.25, high=0.75)
    assert conditions.shown(dataclasses.replace(ratio, estimate=nats, metric="nll")) == "+0.500 nats [+0.250, +0.750]"


def looked_at(monkeypatch, outcome, secondary=None, own=(), claim=HIGHER, mean=0.2):
    """The verdict on a difference of `mean` nats after a second look. secondary: the difference on a second metric,
    and its standard error. own: the differences under the arms' own conditions."""
    others = {"probe_accuracy": secondary, **{f"own-{number}": (mean, 0.01) for number, mean in enumerate(own)}}

    def compare(results, treatment, baseline, metric):
        estimate = Estimate(*others[metric], 4)
        name = "nll_mixed" if metric.startswith("own") else metric
        return Comparison("a", "b", name, estimate, estimate, np.zeros(2), np.zeros(2))

    monkeypatch.setattr(conditions, "compare_arms", compare)
    monkeypatch.setattr(conditions, "own_metrics", lambda *_: [name for name in others if name.startswith("own")])
    second = {"secondary": {"metric": "probe_accuracy", "margin": 0.02}} if secondary else {}
    claim = type(claim)(**claim.model_dump() | second)
    estimate = Estimate(mean, 0.03, 4)
    test = ClaimTest(claim, Comparison("a", "b", "nll", estimate, estimate, np.zeros(2), np.zeros(2)))
    flags = frozenset({Flag.WITHIN_MARGIN} if outcome == "no difference" or claim is EQUAL else {Flag.AS_CLAIMED})
    return second_look(None, test, Verdict(outcome, "because", flags=flags))


@pytest.mark.parametrize(("outcome", "secondary", "own", "expected"), [
    ("holds", None, (), "holds"), ("undecided", (0.3, 0.01), (-1.0,), "undecided"),
    # a higher NLL is worse: a higher accuracy disagrees
    ("holds", (0.05, 0.005), (), "split"), ("reversed", (0.05, 0.005), (), "split"),
    ("holds", (-0.05, 0.005), (), "holds"),
    ("holds", (0.015, 0.001), (), "holds"),             # inside the margin
    ("holds", (0.05, 0.04), (), "holds"),               # too uncertain to disagree
    ("no difference", (0.05, 0.005), (), "split"), ("no difference", (-0.05, 0.005), (), "split"),
    ("no difference", (0.015, 0.001), (), "no difference"),
    ("holds", None, (0.1,), "holds"), ("holds", None, (0.1, -0.01), "split"), ("reversed", None, (-0.01,), "split"),
    ("no difference", None, (-0.01,), "no difference")])
def test_a_second_look_splits_what_disagrees(monkeypatch, outcome, secondary, own, expected):
    verdict = looked_at(monkeypatch, outcome, secondary, own)
    assert verdict.outcome == expected
    assert (verdict.reason == "because") == (expected != "split")


def test_arms_are_compared_under_their_own_conditions_where_these_differ(study):
    configs = {arm: resolve(study, arm) for arm in ("dynamic", "static", "all-mask", "whole-word", "span", "rate-40",
                                                    "mlm-nsp", "left-to-right")}
    results = SimpleNamespace(of_arm=lambda arm: [SimpleNamespace(settings=configs[arm])])
    assert {arm: conditions.own_metric(config) for arm, config in configs.items()} == {
        "dynamic": "nll_mixed", "static": "nll_mixed", "all-mask": "nll", "whole-word": "nll_whole_word",
        "span": "nll_span", "rate-40": "nll_mask_only_40", "mlm-nsp": "nll_pairs", "left-to-right": None}
    assert conditions.own_metrics(results, ("static", "dynamic"), "nll") == []
    assert conditions.own_metrics(results, ("all-mask", "dynamic"), "nll") == ["nll_mixed"]
    assert conditions.own_metrics(results, ("mlm-nsp", "dynamic"), "nll") == ["nll_pairs", "nll_mixed"]
    assert conditions.own_metrics(results, ("whole-word", "dynamic"), "nll_whole_word") == ["nll_mixed"]
    assert conditions.own_metrics(results, ("whole-word", "dynamic"), "probe_accuracy") == []
    assert conditions.own_metrics(results, ("dynamic",), "nll") == []
