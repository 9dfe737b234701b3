"""What MLflow gets of a finished cell is what the tables have."""
import json

import pytest

from study.analysis.results import StudyResults
from study.analysis.tables import cell_table
from study.tracking.runs import FILES, final_metrics
from tests.support.fake_arms import many_arms


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return many_arms(tmp_path_factory.mktemp("many"), ["dynamic", "all-mask"])


def metrics(study, arm, seed, *without):
    files = [study.cell(arm, seed) / name for name in FILES if name.endswith(".json") and name not in without]
    return final_metrics(study, arm, seed, {path.name: json.loads(path.read_text()) for path in files if path.exists()})


def test_the_probe_of_a_cell_is_that_of_its_chosen_layer(many):
    table = cell_table(StudyResults(many)).set_index(["arm", "seed"])
    for arm, seed in many.cells:
        values, row = metrics(many, arm, seed), table.loc[(arm, seed)]
        assert values["probe_accuracy"] == pytest.approx(row.probe_accuracy)
        assert values["last_layer_accuracy"] == pytest.approx(row.last_layer_accuracy)
        assert values["probe_accuracy"] > values["last_layer_accuracy"] == values["probe_topic_mean"]


def test_without_scores_by_layer_it_is_that_of_the_last_layer(many):
    path = many.cell("all-mask", 10) / "probe.json"
    before = path.read_text()
    content = json.loads(before)
    del content["topic"]["more"]["trained"]["layers"]
    path.write_text(json.dumps(content))
    try:
        values = metrics(many, "all-mask", 10)
        assert values["probe_accuracy"] == values["last_layer_accuracy"] == content["topic"]["mean"]["accuracy"]
    finally:
        path.write_text(before)


def test_a_cell_that_was_not_probed_yet_has_no_probe_accuracy(many):
    values = metrics(many, "dynamic", 11, "probe.json")
    assert values["probe_accuracy"] is None
    assert values["nll"] == pytest.approx(json.loads((many.cell("dynamic", 11) / "evaluation.json").read_text())[
        "mask_only"]["nll"])
