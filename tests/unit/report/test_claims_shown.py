"""Numbers and claims as the report shows them."""
import math
import re

import pytest

from study.analysis.along_training import Course
from study.analysis.claims import OWN_SOURCE
from study.analysis.questions import QUESTIONS
from study.report.claims import (
    by_question,
    claim_figure,
    claim_rows,
    failed_runs,
    measured,
    natural,
    outcome_counts,
    with_runs,
)
from study.report.details import COURSES, claim_details, for_page, without_repeats
from study.report.facts import titles
from study.report.formatting import counts, escape_markdown, number, p_value, percent, signed, span, tally
from tests.support.fake_arms import NEVER_ESCAPES, many_arms
from tests.support.fake_results import compare, fake_study

ARMS = ["dynamic", "dynamic-reseeded", "all-mask", "mlm-pairs", "mlm-nsp", "mlm-sop", "untrained", NEVER_ESCAPES]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    study = many_arms(tmp_path_factory.mktemp("many"), ARMS)
    compare(study)
    return {row["id"]: row for row in claim_rows(study)}


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
    assert counts({"lasting": 2, "none": 0, "growing": 1}) == "2 lasting, 1 growing"
    assert tally({"holds": 2, "reversed": 0, "split": 1}) == "holds 2, split 1"
    assert escape_markdown("a|b<c>_d") == "a\\|b&lt;c&gt;\\_d"
    assert sorted(["S0.10", "S0.2", "L1"], key=natural) == ["L1", "S0.2", "S0.10"]


def test_rows_are_sorted_by_question_and_counted(tmp_path):
    study = fake_study(tmp_path)
    compare(study)
    rows = claim_rows(study)
    order = [*QUESTIONS, None]
    assert [order.index(row["question"]) for row in rows] == sorted(order.index(row["question"]) for row in rows)
    assert sum(outcome_counts(rows).values()) == len(rows) > 50
    shown = with_runs(rows)
    assert {"S0.11", "L10"} <= {row["id"] for row in shown}
    assert not {"S0.2", "S0.13", "L2"} & {row["id"] for row in shown}       # a check, out of scope, no such arm
    assert [row for part in by_question(shown).values() for row in part] == shown
    assert len({row["file"] for row in rows}) == len(rows)
    assert len({row["statement"] for row in rows}) == len(rows)     # none refers to another claim's wording


def test_a_measurement_has_its_unit_and_interval():
    claim = {"claim_type": "direction", "metric": "probe_accuracy",
             "result": {"measured": "", "effect": 0.0152, "low": 0.002, "high": 0.028}}
    assert measured(claim) == "+1.5 points [+0.2, +2.8]"
    assert measured(claim | {"claim_type": "range"}) == "1.5 points [0.2, 2.8]"
    assert measured(claim | {"result": claim["result"] | {"low": None}}) == "+1.5 points"
    assert measured(claim | {"result": {"measured": "2 of 5 runs", "effect": None}}) == "2 of 5 runs"
    steps = {"measured": "", "effect": 4096000.0, "low": None}
    assert measured({"claim_type": "range", "metric": "escape_tokens", "result": steps | {"high": None}}) == (
        "4,096,000 tokens")


def test_failed_runs_in_a_number_are_named():
    claim = {"metric": "nll", "treatment": "static", "baseline": "dynamic", "result": {"effect": 1.0}}
    text = failed_runs(claim, {"static": 2, "dynamic": 0})
    assert text == "diverged runs, counted at the unigram level: 2 of static"
    assert failed_runs(claim, {"static": 0, "dynamic": 0}) == ""
    assert failed_runs(claim | {"metric": "probe_accuracy"}, {"static": 2}) == ""


def test_details_have_source_test_second_look_and_precision(rows):
    details = rows["L2"]["details"]
    assert details["Quotation"].startswith(f"“{rows['L2']['quote']}” (")
    assert details["Test"] == "all-mask − dynamic, NLL on [MASK]; margin 0.05 nats"
    assert details["Own conditions"].startswith("NLL under 80/10/10 masking, +0.")
    assert details["Second metric"].endswith("; margin 2 points")
    assert details["Learning gate"] == "passed by all runs"
    assert re.fullmatch(r"0\.\d{3} nats; its margin needs \d+ seeds", details["Detects"])
    assert details["Along training"] in COURSES.values()
    assert details["On its own"].startswith(rows["L2"]["measured"].split(" [")[0])
    assert details["Differs"] == rows["L2"]["differs"]
    control = rows["L8"]["details"]["Positive control"]
    assert control.startswith("mlm-sop, sentence-order accuracy minus its base rate, +")
    assert control.endswith("; has to be above 2 points")


def test_a_claim_without_a_quotation_says_why(rows):
    row = rows["S2.1"]
    assert row["unquoted"]
    assert row["details"]["Not quoted"] == row["on_page"]["Not quoted"] == row["unquoted"]
    assert "Quotation" not in row["details"]
    assert "Not quoted" not in rows["L2"]["details"]
    assert {"Quotation", "Not quoted"}.isdisjoint(rows["A/A"]["details"])
    assert all("Quotation" in row["details"] or row["unquoted"] or row["source"] == OWN_SOURCE for row in rows.values())


def test_a_number_that_is_the_same_at_every_seed_is_called_so():
    steps = {"claim_type": "direction", "metric": "escape_step", "result": {
        "measured": "", "effect": -100.0, "low": None, "high": None,
        "values": {"a": [300.0, 260.0, 280.0], "b": [400.0, 360.0, 380.0]}}}
    assert measured(steps) == "-100 steps, the same at every seed"
    assert claim_figure(steps) is None
    band = steps | {"claim_type": "range", "result": {"measured": "", "effect": 20.0, "low": 20.0, "high": 20.0}}
    assert measured(band) == "20 steps, the same at every seed"
    for values in ({"a": [300.0], "b": [400.0]}, {"a": [300.0, 260.0], "b": [400.0, 370.0]}):
        assert measured(steps | {"result": steps["result"] | {"values": values}}) == "-100 steps"
    one_arm = steps["result"] | {"values": {"a": [-100.0, -100.0]}}
    assert measured(steps | {"result": one_arm}) == "-100 steps, the same at every seed"


@pytest.mark.parametrize(("published", "quote", "shown"), [
    ("30-40 %", "30-40%", ""), ("5.8, 4.7 at 3, 6 layers", "5.8, 4.7", ""), ("no number", "", ""),
    ("none: our own question beside L5", "", ""), ("NSP 0.718", "0.718", "NSP 0.718"), ("at 3e-4", "at 3", "at 3e-4"),
    ("94.6 against 94.9", "performs much worse than ours", "94.6 against 94.9"),
    ("a figure", "it converges faster", ""), ("another figure", "faster", "another figure")])
def test_published_numbers_are_shown_unless_the_quotation_has_them(rows, published, quote, shown):
    row = rows["L2"] | {"published": published, "quote": quote, "place": "table 6, 3 and 6 layers"}
    assert claim_details(row, []).get("Published", "") == shown


def test_what_claims_of_a_question_have_in_common_is_without_repeats():
    long, short = "x" * 41, "x" * 40
    rows = [{"id": name, "on_page": {"Differs": differs, "Scope": long, "Test": long}}
            for name, differs in (("a", long), ("b", short), ("c", short), ("d", long))]
    told = [row["on_page"] for row in without_repeats(rows)]
    assert [details["Differs"] for details in told] == [long, short, short, "as for a"]
    assert [details["Scope"] for details in told] == [long, "as for a", "as for a", "as for a"]
    assert {details["Test"] for details in told} == {long}
    assert rows[3]["on_page"]["Differs"] == long


def test_a_failed_gate_is_a_detail_and_a_reason(rows):
    row = next(row for row in rows.values() if NEVER_ESCAPES in (row.get("treatment"), row.get("baseline"))
               and row["metric"] == "nll")
    assert row["outcome"] == "undecided"
    assert row["details"]["Learning gate"] == "failed"
    assert "never left the unigram plateau" in row["on_page"]["Reason"]


def test_the_gate_is_told_of_numbers_of_one_arm_and_of_diverged_runs(rows):
    number = next(row for row in rows.values() if row["claim_type"] == "range" and row["metric"] == "probe_cls"
                  and row["outcome"] != "not testable here")
    assert number["details"]["Learning gate"] == "passed by all runs"
    diverged = number | {"result": number["result"] | {"flags": ["run_diverged"]}}
    assert claim_details(diverged, [])["Learning gate"] == "failed"


def test_the_page_leaves_out_what_repeats_the_outcome_or_belongs_to_the_terminal(rows):
    decided = next(row for row in rows.values() if row["outcome"] in ("holds", "reversed") and row.get("margin"))
    assert {"Reason", "Detects", "Rules", "On its own"}.isdisjoint(decided["on_page"])
    assert decided["on_page"]["Scope"] == decided["scope"]
    assert {"Reason", "Test"} <= decided["details"].keys()
    open_one = decided | {"outcome": "undecided", "result": decided["result"] | {"flags": ["imprecise"]}}
    assert {"Reason", "Detects"} <= for_page(open_one).keys()
    assert not rows["L2"]["on_page"]["Second metric"].endswith(" points")
    assert for_page(rows["L2"] | {"outcome": "split"})["Second metric"] == rows["L2"]["details"]["Second metric"]


def test_what_an_outcome_says_of_the_claim_is_shown_with_it(rows):
    assert rows["S0.1"]["shown"] == "holds, claim supported"
    assert rows["S1.1"]["shown"] == "reversed, claim contradicted"
    assert rows["A/A"]["shown"] == rows["A/A"]["outcome"]               # nobody has published it
    assert rows["A/A"]["verdict"] == rows["S0.19b"]["verdict"] == ""
    assert not any("claim" in row["shown"] for row in rows.values() if row["fidelity"] in ("proxy", "same question"))


@pytest.mark.parametrize("course", list(Course))
def test_every_course_of_an_effect_has_a_sentence(course):
    assert COURSES[course]


def test_every_source_of_a_claim_is_named_once():
    rows = [{"source": source} for source in ("S1; BERT", "S0", "this study", "S1")]
    assert titles(rows, {"S0": "A tutorial", "S1": "Another", "S2": "A third"}) == {"S0": "A tutorial", "S1": "Another"}
