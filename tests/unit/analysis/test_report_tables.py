"""What the compare stage writes for the report alone: probes, inputs, and what is shown beside a deciding number."""
import json

import pandas as pd
import pytest

from study.analysis.claims import load_claims
from study.analysis.conditions import control_estimate, evidence
from study.analysis.escape import escape_correlation
from study.analysis.results import StudyResults
from study.analysis.tables import input_table, probe_table
from study.report.facts import joined
from tests.support.fake_arms import many_arms
from tests.support.fake_results import fake_study

ARMS = ["dynamic", "all-mask", "mlm-pairs", "mlm-nsp", "mlm-sop"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return StudyResults(many_arms(tmp_path_factory.mktemp("many"), ARMS))


def test_probes_are_means_over_seeds_of_either_encoder(results):
    table = probe_table(results).set_index(["arm", "encoder", "by", "number"]).accuracy.sort_index()
    cells = [cell.probe["topic"]["more"] for cell in results.of_arm("all-mask")]
    for encoder in ("trained", "untrained"):
        for layer in range(3):
            accuracies = [cell[encoder]["layers"][layer]["accuracy"] for cell in cells]
            assert table["all-mask", encoder, "layers", layer] == pytest.approx(sum(accuracies) / 5)
    assert set(table["all-mask", "trained", "sizes"].index) == {100, 400}
    assert "sizes" not in table["all-mask", "untrained"]


def test_a_layer_that_one_run_lacks_is_left_out(tmp_path):
    study = fake_study(tmp_path)
    path = study.cell("static", 1) / "probe.json"
    content = json.loads(path.read_text())
    content["topic"]["more"]["trained"]["layers"].pop()
    path.write_text(json.dumps(content))
    table = probe_table(StudyResults(study))
    assert table[table.arm == "static"].number.tolist() == [0]
    assert table[(table.arm == "dynamic") & (table.by == "layers")].number.tolist() == [0, 1]


def test_results_without_layers_have_no_rows(tmp_path):
    study = fake_study(tmp_path)
    for arm, seed in study.cells:
        path = study.cell(arm, seed) / "probe.json"
        content = json.loads(path.read_text())
        del content["topic"]["more"]
        path.write_text(json.dumps(content))
    assert probe_table(StudyResults(study)).empty


def test_inputs_are_counted_once_per_arm(results):
    table = input_table(results)
    assert table.arm.tolist() == ARMS
    assert table.loc[0, ["mask", "random", "keep", "views_per_mask"]].tolist() == [0.8, 0.1, 0.1, 1.0]


def test_beside_a_claim_are_its_own_conditions_and_its_second_metric(results):
    claims = load_claims(results.study)
    beside = {(entry["role"], entry["metric"]) for entry in evidence(results, claims["L2"])["beside"]}
    assert beside == {("own conditions", "nll_mixed"), ("second metric", "probe_accuracy")}
    assert evidence(results, claims["S0.1"]) == {"beside": [], "control": None}


def test_the_positive_control_is_shown_with_its_interval(results):
    claim = load_claims(results.study)["L8"]
    control = evidence(results, claim)["control"]
    assert control["metric"] == claim.positive_control.metric
    estimate = control_estimate(results, claim.positive_control)
    assert (control["effect"], control["low"]) == (estimate.mean, estimate.low)
    assert control["effect"] == pytest.approx(0.3, abs=0.05)
    assert control["low"] < control["effect"] < control["high"]


def test_records_of_several_machines_are_joined_whatever_the_first_one_lacks():
    first, second = {"gpu": None, "threads": 2, "processor": "p"}, {"gpu": "H100", "threads": 2, "platform": "x"}
    alike = {"gpu": "H100", "threads": 2, "processor": "p", "platform": "x"}        # numbers stay numbers
    assert joined([first, second]) == joined([second, first]) == alike
    assert joined([first, first]) == first
    assert joined([first, second | {"threads": 4, "processor": "q"}, {"gpu": "A100"}]) == {
        "gpu": "A100, H100", "threads": "2, 4", "processor": "p, q", "platform": "x"}


def test_the_correlation_leaves_out_runs_that_never_left_the_plateau():
    cells = pd.DataFrame({"escape_step": [10, 20, 30, None, 5], "nll": [2.0, 2.1, 2.5, 1.0, None]})
    assert escape_correlation(cells) == pytest.approx(1.0)
    assert escape_correlation(cells.assign(nll=-cells.nll)) == pytest.approx(-1.0)
    assert escape_correlation(cells[:2]) != escape_correlation(cells[:2])       # NaN
