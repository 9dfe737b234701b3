"""Claims about escape steps: differences that are bounds, and those that are as small as the steps are known."""
import json
import math

import pandas as pd
import pytest

from study.report.claims import claim_figure, claim_rows, measured
from study.report.findings import sentence
from study.report.formatting import in_unit, span
from tests.support.fake_results import compare, fake_study

NEVER = math.nan


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = fake_study(tmp_path_factory.mktemp("study") / "study")
    compare(study)
    return study


def shown(study, steps, values, effect, low=None, high=None, **more):
    """The row of a claim that compares the escape steps of static with those of dynamic (NaN: never escaped), of which
    `values` are the steps on the plateau within a limit."""
    table = study.reports / "tables" / "cells.csv"
    cells = pd.read_csv(table)
    cells["escape_step"] = [steps[arm][seed] for arm, seed in zip(cells.arm, cells.seed, strict=True)]
    cells.to_csv(table, index=False)
    path = study.reports / "claims.json"
    claims = json.loads(path.read_text())
    numbers = {"measured": "", "effect": effect, "low": low, "high": high, "plain_low": low, "plain_high": high,
               "values": values, "outcome": "holds", "p": 0.01, "p_adjusted": 0.02}
    test = {"treatment": "static", "baseline": "dynamic"}
    claims["P2"] |= test | more | {"result": claims["P2"]["result"] | numbers}
    path.write_text(json.dumps(claims))
    return next(row for row in claim_rows(study) if row["id"] == "P2")


def test_a_lower_bound_is_shown_as_one_everywhere(study):
    row = shown(study, {"static": [NEVER, NEVER], "dynamic": [8, 12]}, {"static": [40.0, 40.0], "dynamic": [8.0, 12.0]},
                30.0, 4.0, 56.0)
    assert row["measured"] == "≥ +30 steps [+4, ∞]"
    assert row["on_page"]["Censored"] == (
        "2 of 2 runs of static ended on the plateau, so the difference is a lower bound")
    assert row["details"]["On its own"].startswith("≥ +30 steps [+4, ∞] (95 %)")
    assert "plateau at least 30 steps later [4, ∞] than runs of dynamic" in sentence(row)
    assert "at least" in claim_figure(row)["svg"]


def test_an_upper_bound_is_shown_as_one_everywhere(study):
    row = shown(study, {"static": [8, 12], "dynamic": [NEVER, 20]}, {"static": [8.0, 12.0], "dynamic": [40.0, 20.0]},
                -20.0, -30.0, -10.0)
    assert row["measured"] == "≤ -20 steps [-∞, -10]"
    assert row["on_page"]["Censored"] == (
        "1 of 2 runs of dynamic ended on the plateau, so the difference is an upper bound")
    assert "plateau at least 20 steps earlier [10, ∞] than runs of dynamic" in sentence(row)
    assert "at most" in claim_figure(row)["svg"]


def test_runs_of_both_arms_that_never_escape_give_no_bound(study):
    row = shown(study, {"static": [NEVER, 12], "dynamic": [NEVER, 20]},
                {"static": [40.0, 12.0], "dynamic": [40.0, 20.0]}, -4.0, -30.0, 22.0)
    assert row["measured"] == "-4 steps [-30, +22]"
    assert row["on_page"]["Censored"] == (
        "1 of 2 runs of static and 1 of 2 runs of dynamic ended on the plateau, so the difference is that of the first "
        "40 steps")


def test_a_bound_with_the_same_number_at_every_seed_has_no_interval(study):
    row = shown(study, {"static": [NEVER, NEVER], "dynamic": [8, 8]}, {"static": [40.0, 40.0], "dynamic": [8.0, 8.0]},
                32.0)
    assert row["measured"] == "≥ +32 steps at every seed"
    assert "plateau at least 32 steps later at every seed than runs of dynamic" in sentence(row)


@pytest.mark.parametrize(("static", "effect", "ends", "told"), [
    ((16, 20), 8.0, (None, None), True),    # the same at every seed
    ((12, 20), 6.0, (-40.0, 50.0), True), ((12, 24), 8.0, (-40.0, 56.0), False), ((40, 36), 28.0, (4.0, 56.0), False)])
def test_a_difference_as_small_as_the_grid_says_how_finely_steps_are_known(study, static, effect, ends, told):
    """Runs are validated every four steps."""
    dynamic = (8, 12)
    values = {"static": [float(step) for step in static], "dynamic": [float(step) for step in dynamic]}
    row = shown(study, {"static": static, "dynamic": dynamic}, values, effect, *ends)
    expected = "an escape step is known to 4 steps, the interval between two validations"
    assert row["on_page"].get("Resolution") == (expected if told else None)
    assert "Censored" not in row["details"]
    assert row["result"]["bound"] == ""


def test_other_metrics_have_no_such_details(study):
    row = shown(study, {"static": [NEVER, NEVER], "dynamic": [8, 8]}, {"static": [2.0, 2.0], "dynamic": [1.0, 1.0]},
                1.0, 1.0, 1.0, metric="nll")
    assert row["measured"] == "+1.000 nats, the same at every seed"
    assert {"Censored", "Resolution"}.isdisjoint(row["details"])


def test_a_bound_opens_its_interval_on_one_side():
    assert span(1, 2, 0, sign="+", bound="≥") == "[+1, ∞]"
    assert span(1, 2, 0, sign="+", bound="≤") == "[-∞, +2]"
    assert span(math.nan, 2, 0, bound="≥") == ""
    single = {"effect": 592.0, "low": None, "high": None, "bound": "≥", "values": {"a": [2000.0], "b": [1408.0]}}
    assert in_unit("escape_step", single) == "≥ +592 steps"
    claim = {"claim_type": "direction", "metric": "escape_step", "result": single | {"measured": ""}}
    assert measured(claim) == "≥ +592 steps"
