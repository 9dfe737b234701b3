"""MLflow's saved views, and the best encoder in its model registry."""
import json
import re

import pytest

from study import StudyError
from study.analysis.compare import compare
from study.analysis.results import read_records
from study.evaluation.baselines import write_baselines
from study.evaluation.evaluate import evaluate
from study.evaluation.probe import probe
from study.tracking.client import find_runs, mlflow_client
from study.tracking.registry import best_cell, register_best
from study.tracking.runs import track
from study.tracking.views import VIEW, experiment_tags
from study.training.pretrain import pretrain
from study.training.search import search
from tests.support.studies import tiny_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Four trained cells that transformers can represent and two that it cannot. None is in MLflow yet."""
    study = tiny_study(tmp_path_factory.mktemp("registry") / "study", lambda text: re.sub(
        r"^arms: .*?\]", "arms: [dynamic, all-mask, no-embedding-norm]", text, count=1, flags=re.M | re.S).replace(
            "seeds: [0]", "seeds: [0, 1]"))
    write_baselines(study, study.runs / "examples")
    search(study)
    for arm, seed in study.cells:
        for stage in (pretrain, evaluate, probe):
            stage(study, arm, seed)
    return study


@pytest.fixture(scope="module")
def client(study):
    """MLflow with all cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        compare(study, {}, {})
        with pytest.raises(StudyError, match="MLflow does not have the current results of .*; run `study track` first"):
            register_best(study)
        track(study)
        yield mlflow_client(study)


def test_the_best_cell_has_the_lowest_validation_loss_of_those_that_transformers_knows(study):
    last = {cell: read_records(study.cell(*cell) / "metrics.jsonl")[-1]["validation_nll"] for cell in study.cells
            if cell[0] != "no-embedding-norm"}
    assert best_cell(study) == (min(last, key=last.get), 4)


def test_the_registered_encoder_can_be_loaded_by_its_alias_and_predicts(study, client):
    import mlflow
    import torch

    from study.evaluation.embedding import load_cell

    assert register_best(study).endswith("is version 1 of tiny-encoder, best")
    assert register_best(study).endswith("is version 1 of tiny-encoder, best")     # no second version
    mlflow.set_tracking_uri(f"sqlite:///{study.root / 'mlflow.db'}")
    fill = mlflow.transformers.load_model("models:/tiny-encoder@best")
    _, model = load_cell(study, *best_cell(study)[0])
    ids = fill.tokenizer("[MASK]", return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = fill.model(ids).logits[0, 1]
        ours = model.token_logits(ids, torch.tensor([1]))[0]
    assert torch.allclose(theirs, ours, atol=1e-4)
    assert fill("[MASK]")[0]["token"] == int(ours.argmax())


def test_the_registered_files_have_no_pickle_and_the_card_names_the_cell(study, client):
    version = client.get_model_version_by_alias("tiny-encoder", "best")
    (arm, seed), _ = best_cell(study)
    perplexity = json.loads((study.cell(arm, seed) / "evaluation.json").read_text())["mask_only"]["perplexity"]
    assert f"# {arm}-{seed}, trained in the study tiny" in version.description
    assert f"{perplexity:.2f}" in version.description
    assert "the lowest validation loss of 4 cells" in version.description
    fingerprint = json.loads((study.cell(arm, seed) / "training.json").read_text())["fingerprint"]
    assert version.source.rpartition("/")[2].startswith(f"encoder-{fingerprint}-")
    folder = f"{version.source.rpartition('/')[2]}/model"
    files = [file.path for file in client.list_artifacts(version.run_id, folder)]
    assert any(file.endswith(".safetensors") for file in files)
    assert [file for file in files if file.endswith((".bin", ".pkl", ".pt"))] == []


def test_a_version_remains_when_the_runs_of_its_cells_are_replaced(study, client):
    version = client.get_model_version_by_alias("tiny-encoder", "best")
    for arm, seed in study.cells:
        path = study.cell(arm, seed) / "predictions.json"
        path.write_text(path.read_text() + " ")
    track(study)
    assert client.get_run(version.run_id).info.lifecycle_stage == "active"
    assert register_best(study).endswith("is version 1 of tiny-encoder, best")


def test_the_card_follows_the_scores_and_other_weights_are_another_version(study, client):
    folder = study.cell(*best_cell(study)[0])
    evaluation, training = (json.loads((folder / name).read_text()) for name in ("evaluation.json", "training.json"))
    evaluation["mask_only"]["perplexity"] = 12.34
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    assert register_best(study).endswith("is version 1 of tiny-encoder, best")
    first = client.get_model_version_by_alias("tiny-encoder", "best")
    assert "| 12.34 (" in first.description
    training["weights"]["encoder.safetensors"] = "a" * 32
    (folder / "training.json").write_text(json.dumps(training))
    assert register_best(study).endswith("is version 2 of tiny-encoder, best")
    second = client.get_model_version_by_alias("tiny-encoder", "best")
    assert training["weights"].items() <= second.tags.items()
    assert first.source != second.source


def test_views_show_columns_and_charts_that_exist(study, client):
    experiment = client.get_experiment_by_name("tiny")
    assert experiment_tags(study).items() <= experiment.tags.items()
    views = {key.removeprefix(VIEW): json.loads(text) for key, text in experiment.tags.items() if key.startswith(VIEW)}
    assert {key: view["name"] for key, view in views.items()} == {
        "arms": "Arms: perplexity and probe accuracy", "curves": "Learning curves: cells by arm"}
    for key, kind in (("arms", "arm"), ("curves", "cell")):
        state = json.loads(views[key]["state"])
        assert state["searchFilter"] == f"tags.kind = '{kind}'"
        runs = find_runs(client, experiment.experiment_id, kind=kind)
        assert len(runs) == (3 if kind == "arm" else 6)
        values = {"metrics": runs[0].data.metrics, "params": runs[0].data.params, "tags": runs[0].data.tags}
        for column in [*state["selectedColumns"], state["orderByKey"]]:
            part, name = re.fullmatch(r"(\w+)\.`(\w+)`", column).groups()
            assert name in values[part], column
        if kind == "cell":
            assert {chart["metricKey"] for chart in state["compareRunCharts"]} <= values["metrics"].keys()


def test_a_study_without_weights_is_an_error_with_a_remedy(study, monkeypatch):
    monkeypatch.setattr("pathlib.Path.exists", lambda path: False)
    with pytest.raises(StudyError, match="no cell with weights .* run `dvc repro`, or `dvc pull`"):
        best_cell(study)
