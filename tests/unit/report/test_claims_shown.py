"""Numbers and claims as the report shows them."""
import math

from study.report.claims import (
    QUESTIONS,
    by_question,
    claim_rows,
    failed_runs,
    measured,
    natural,
    outcome_counts,
    with_runs,
)
from study.report.formatting import counts, escape_markdown, number, p_value, percent, signed, span
from tests.support.fake_results import compare, fake_study


def test_numbers_are_formatted_with_their_signs_and_gaps():
    assert number(None) == number(float("nan")) == percent(None) == p_value(None) == p_value(math.nan) == "–"
    assert number(1234.567, 1) == "1,234.6"
    assert number(-0.001) == "0.00"
    assert percent(0.123) == "12.3"
    assert p_value(0.00001) == "< 0.0001"
    assert span(0.1, 0.2, 1, 100) == "[10.0, 20.0]"
    assert span(math.nan, 1) == ""
    assert signed({"effect": 0.05, "low": -0.0004, "high": 0.1}, 1, 100) == "+5.0 [+0.0, +10.0]"
    assert signed({"effect": -0.05, "low": math.nan, "high": math.nan}, 2) == "-0.05"
    assert counts({"holds": 2, "reversed": 0, "split": 1}) == "2 holds, 1 split"
    assert escape_markdown("a|b<c>_d") == "a\\|b&lt;c&gt;\\_d"
    assert sorted(["S0.10", "S0.2", "L1"], key=natural) == ["L1", "S0.2", "S0.10"]


def test_rows_are_sorted_by_question_and_counted(tmp_path):
    study = fake_study(tmp_path)
    compare(study)
    rows = claim_rows(study)
    order = list(QUESTIONS)
    assert [order.index(row["question"]) for row in rows] == sorted(order.index(row["question"]) for row in rows)
    assert sum(outcome_counts(rows).values()) == len(rows) > 50
    shown = with_runs(rows)
    assert {"S0.11", "L10"} <= {row["id"] for row in shown}
    assert not {"S0.2", "S0.13", "L2"} & {row["id"] for row in shown}       # a check, out of scope, no such arm
    assert [row for part in by_question(shown).values() for row in part] == shown
    questions = {row["id"]: row["question"] for row in rows}
    assert questions["S0.10"] == "What the baseline learns"
    assert questions["S0.15"] == questions["L2"] == "Corruption"     # the baseline against an arm, and the reverse
    assert questions["A/A"] == "Noise"
    assert questions["P2"] == "Positions and the plateau"
    assert len({row["anchor"] for row in rows}) == len({row["file"] for row in rows}) == len(rows)
    assert len({row["statement"] for row in rows}) == len(rows)     # none refers to another claim's wording


def test_a_measurement_has_its_unit_and_interval():
    claim = {"claim_type": "direction", "metric": "probe_accuracy",
             "result": {"measured": "", "effect": 0.0152, "low": 0.002, "high": 0.028}}
    assert measured(claim) == "+1.5 points [+0.2, +2.8]"
    assert measured(claim | {"claim_type": "range"}) == "1.5 points [0.2, 2.8]"
    assert measured(claim | {"result": claim["result"] | {"low": None}}) == "+1.5 points"
    assert measured(claim | {"result": {"measured": "2 of 5 runs", "effect": None}}) == "2 of 5 runs"


def test_every_factor_belongs_to_one_question(study):
    factors = [factor for part in QUESTIONS.values() for factor in part]
    assert sorted(factors) == sorted({arm.factor for arm in study.arms.values()})


def test_failed_runs_in_a_number_are_named():
    claim = {"metric": "nll", "treatment": "static", "baseline": "dynamic", "result": {"effect": 1.0}}
    text = failed_runs(claim, {"static": 2, "dynamic": 0})
    assert text == "failed runs, counted at the unigram level: 2 of static"
    assert failed_runs(claim, {"static": 0, "dynamic": 0}) == ""
    assert failed_runs(claim | {"metric": "probe_accuracy"}, {"static": 2}) == ""
