"""Numbers and claims as the report shows them."""
import math

from study.report.claims import claim_rows, failed_runs, measured, natural, verdict_counts
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
    assert counts({"supported": 2, "contradicted": 0, "untested": 1}) == "2 supported, 1 untested"
    assert escape_markdown("a|b<c>_d") == "a\\|b&lt;c&gt;\\_d"
    assert sorted(["S0.10", "S0.2", "L1"], key=natural) == ["L1", "S0.2", "S0.10"]


def test_rows_are_sorted_by_verdict_and_counted(tmp_path):
    study = fake_study(tmp_path)
    compare(study)
    rows = claim_rows(study)
    order = list(verdict_counts(rows))
    assert [order.index(row["verdict"]) for row in rows] == sorted(order.index(row["verdict"]) for row in rows)
    assert sum(verdict_counts(rows).values()) == len(rows) > 50
    assert len({row["anchor"] for row in rows}) == len({row["file"] for row in rows}) == len(rows)
    assert len({row["statement"] for row in rows}) == len(rows)     # none refers to another claim's wording


def test_a_measurement_has_its_unit_and_interval():
    claim = {"claim_type": "direction", "metric": "probe_accuracy",
             "outcome": {"measured": "", "effect": 0.0152, "low": 0.002, "high": 0.028}}
    assert measured(claim) == "+1.5 points [+0.2, +2.8]"
    assert measured(claim | {"claim_type": "range"}) == "1.5 points [0.2, 2.8]"
    assert measured(claim | {"outcome": claim["outcome"] | {"low": None}}) == "+1.5 points"
    assert measured(claim | {"outcome": {"measured": "2 of 5 runs", "effect": None}}) == "2 of 5 runs"


def test_failed_runs_in_a_number_are_named():
    claim = {"metric": "nll", "treatment": "static", "baseline": "dynamic", "outcome": {"effect": 1.0}}
    text = failed_runs(claim, {"static": 2, "dynamic": 0})
    assert text == "failed runs, counted at the unigram level: 2 of static"
    assert failed_runs(claim, {"static": 0, "dynamic": 0}) == ""
    assert failed_runs(claim | {"metric": "probe_accuracy"}, {"static": 2}) == ""
