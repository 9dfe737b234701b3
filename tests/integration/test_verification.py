"""`study verify`: a retrained cell is equal to the last bit, and every kind of difference is reported."""
import json
import shutil

import pytest

from study import StudyError
from study.analysis.results import CellResults, record_hash
from study.data.corpus_synthetic import topic_rows
from study.data.task_rows import task_folder, write_task_rows
from study.evaluation.baselines import write_baselines
from study.evaluation.evaluate import evaluate
from study.evaluation.probe import probe
from study.finetuning.finetune import finetune
from study.orchestration.verify import compare_cells, first_differing_step, spread_cells, verify
from study.training.pretrain import pretrain
from study.training.search import search
from tests.support.studies import tiny_study

NAME = "dynamic-0"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A study with one trained cell, of whose weights only the hashes exist, as in a fresh clone."""
    study = tiny_study(tmp_path_factory.mktemp("verify") / "study")
    write_baselines(study, study.runs / "examples")
    search(study)
    for task in study.settings.finetune.tasks:
        task_folder(study, task).mkdir(parents=True)
        write_task_rows(study, task.name, task_folder(study, task), topic_rows)
    for stage in (pretrain, evaluate, probe, finetune):
        stage(study, "dynamic", 0)
    shutil.copytree(study.cell("dynamic", 0), study.root / "retrained")
    for path in study.cell("dynamic", 0).glob("*.safetensors"):
        path.unlink()
    return study


@pytest.fixture
def study(recorded):
    """The study. Its recorded files are restored after the test."""
    folder = recorded.cell("dynamic", 0)
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    yield recorded
    for path, content in before.items():
        path.write_bytes(content)


def compare(study) -> dict:
    """The comparison of the recorded cell with a retrained one, of which the first test shows that it is equal."""
    return compare_cells(study.cell("dynamic", 0), study.root / "retrained")


def edit_json(path, keys, change) -> None:
    """Replaces the value under `keys` by change(value)."""
    content = json.loads(path.read_text())
    part = content
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = change(part[keys[-1]])
    path.write_text(json.dumps(content))


def edit_curve(study, number: int, key: str, by: float) -> int:
    """Adds to a value of the learning curve. Returns the step of the changed record."""
    path = study.cell("dynamic", 0) / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[number][key] += by
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return records[number]["step"]


def test_a_retrained_cell_is_equal_to_the_last_bit(study):
    result = verify(study, NAME)
    assert result["outcome"] == "equal"
    assert result["weights_equal"]
    assert (result["differing"], result["parts_at"]) == (0, None)
    assert result["numbers"] > 200
    assert json.loads((study.runs / NAME / "verification.json").read_text()) == result
    assert (result["same_machine"], result["same_versions"]) == (True, True)
    assert not list((study.root / ".state" / "verify").iterdir())


def test_other_weights_with_the_same_numbers_are_not_equal(study):
    edit_json(study.cell("dynamic", 0) / "training.json", ["weights", "encoder.safetensors"], lambda _: "0" * 32)
    result = compare(study)
    assert (result["outcome"], result["weights_equal"], result["differing"]) == ("within tolerance", False, 0)


@pytest.mark.parametrize(("by", "outcome"), [(1e-3, "within tolerance"), (0.2, "different")])
def test_a_different_score_is_named_with_its_difference(study, by, outcome):
    edit_json(study.cell("dynamic", 0) / "evaluation.json", ["mask_only", "nll"], lambda nll: nll + by)
    result = compare(study)
    assert (result["outcome"], result["first_differing"]) == (outcome, "evaluation.mask_only.nll")
    assert result["largest"]["nll"] == pytest.approx(by)


def test_the_first_step_at_which_learning_curves_differ_is_named(study):
    step = edit_curve(study, -2, "loss", 1e-6)
    result = compare(study)
    assert result["parts_at"] == step
    assert result["outcome"] == "within tolerance"


@pytest.mark.parametrize(("file", "keys", "value", "outcome"), [
    ("training.json", ["status"], "diverged", "different"), ("training.json", ["steps"], 11, "different"),
    ("training.json", ["seconds"], 1e9, "equal"), ("training.json", ["hardware", "processor"], "another", "equal"),
    ("evaluation.json", ["hash"], "0" * 64, "different"), ("evaluation.json", ["span", "nll"], 9.0, "different"),
    ("evaluation.json", ["mask_only"], None, "different"),
    ("probe.json", ["topic", "cls", "accuracy"], 0.99, "different"),
    ("probe.json", ["topic", "mean", "accuracy"], 1.0, "different"),
    ("probe.json", ["topic", "mean", "untrained_accuracy"], 1.0, "different"),
    ("probe.json", ["topic", "mean", "cv_accuracy"], 1.0, "within tolerance"),
    ("probe.json", ["topic", "more", "untrained", "layers", 0, "accuracy"], 1.0, "different"),
    ("probe.json", ["topic", "more", "trained"], None, "different"),
    ("evaluation.json", ["token_identity", "layers", "trained", 1], 0.0, "different"),
    ("finetune.json", ["topic", "trained", "80", "accuracy"], 1.0, "different"),
    ("finetune.json", ["topic", "trained", "80", "runs", 0, "accuracy"], 0.0, "within tolerance"),
    ("inputs.json", ["shares", "mask"], 0.5, "within tolerance")])
def test_what_is_compared_and_how_closely(study, file, keys, value, outcome):
    edit_json(study.cell("dynamic", 0) / file, keys, lambda _: value)
    assert compare(study)["outcome"] == outcome


def test_what_an_older_version_did_not_record_is_no_difference(study):
    path = study.cell("dynamic", 0) / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert any("clipped" in record for record in records)
    for record in records:
        for key in ("clipped", "largest_gradient_norm", "largest_loss"):
            record.pop(key, None)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert compare(study)["outcome"] == "equal"


def test_another_final_loss_is_different(study):
    edit_curve(study, -1, "validation_nll", 1.0)
    assert compare(study)["outcome"] == "different"


def test_a_verification_is_void_when_the_cell_is_trained_again(study):
    folder = study.cell("dynamic", 0)
    before = record_hash(folder)
    (folder / "verification.json").write_text(json.dumps({"record": before, "outcome": "equal"}))
    assert CellResults(folder, "dynamic", 0).verification["outcome"] == "equal"
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text().replace("1", "2", 1))
    assert record_hash(folder) != before
    assert CellResults(folder, "dynamic", 0).verification is None


def test_other_settings_than_recorded_are_refused(study):
    path = study.cell("dynamic", 0) / "settings.yaml"
    changed = path.read_text().replace("mlm_probability: 0.15", "mlm_probability: 0.2")
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(StudyError, match=r"training\.json: dynamic-0 was trained with other settings or on another"):
        verify(study, NAME)
    assert not list((study.root / ".state" / "verify").iterdir())


def test_weights_whose_hash_an_earlier_version_did_not_record_are_not_compared(study):
    edit_json(study.cell("dynamic", 0) / "training.json", ["weights"], lambda _: None)
    result = compare(study)
    assert (result["outcome"], result["weights_equal"]) == ("equal", None)


def test_a_cell_without_a_record_is_named(study):
    with pytest.raises(StudyError, match=r"dynamic-reseeded-0/settings\.yaml: no such file yet"):
        verify(study, "dynamic-reseeded-0")


@pytest.mark.parametrize("file", ["training.json", "metrics.jsonl", "evaluation.json", "probe.npz", "finetune.json"])
def test_a_missing_result_is_named_before_the_cell_is_retrained(study, monkeypatch, file):
    monkeypatch.setattr("study.training.pretrain.pretrain", lambda *_, **__: pytest.fail("retrained"))
    (study.cell("dynamic", 0) / file).unlink()
    with pytest.raises(StudyError, match=f"dynamic-0/{file}: no such file yet"):
        verify(study, NAME)


def test_curves_differ_from_the_first_record_that_differs():
    old = [{"step": step, "loss": 1.0} for step in (0, 10, 20)]
    assert first_differing_step(old, old) is None
    assert first_differing_step(old, old[:2]) == 20
    assert first_differing_step(old, [*old[:1], {"step": 10, "loss": 2.0}]) == 10


def test_verified_cells_are_spread_over_the_study(recorded):
    names = [f"{arm}-{seed}" for arm, seed in recorded.cells]
    assert spread_cells(recorded, 1) == names[:1]
    assert spread_cells(recorded, 2) == [names[0], names[-1]]
    assert spread_cells(recorded, 10_000) == names
