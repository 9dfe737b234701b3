"""Cells trained anew: equal to the last bit where they must be, and every way to differ is told apart."""
import hashlib
import json

import pytest
import yaml

from study import StudyError
from study.evaluation.baselines import write_baselines
from study.evaluation.evaluate import evaluate
from study.evaluation.probe import probe
from study.orchestration.verify import chosen, parts_at, record_hash, verify
from study.training.pretrain import pretrain
from study.training.search import search
from tests.support.studies import tiny_study

NAME = "dynamic-0"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A study with one trained cell, and what dvc.lock says of its weights."""
    study = tiny_study(tmp_path_factory.mktemp("verify") / "study")
    write_baselines(study, study.runs / "examples")
    search(study)
    for stage in (pretrain, evaluate, probe):
        stage(study, "dynamic", 0)
    folder = study.cell("dynamic", 0)
    outs = [{"path": str(path), "md5": hashlib.md5(path.read_bytes()).hexdigest()}
            for path in folder.glob("*.safetensors")]
    (study.folder / "dvc.lock").write_text(yaml.safe_dump({"stages": {f"pretrain@{NAME}": {"outs": outs}}}))
    for path in folder.glob("*.safetensors"):
        path.unlink()                       # as in a fresh clone
    return study


@pytest.fixture
def kept(recorded):
    """The study, its recorded files put back after the test."""
    folder = recorded.cell("dynamic", 0)
    before = {path: path.read_bytes() for path in [*folder.iterdir(), recorded.folder / "dvc.lock"] if path.is_file()}
    yield recorded
    for path, content in before.items():
        path.write_bytes(content)


def test_a_cell_comes_out_again_to_the_last_bit(kept):
    found = verify(kept, NAME)
    assert found["outcome"] == "equal"
    assert found["weights_equal"]
    assert (found["differing"], found["parts_at"]) == (0, None)
    assert found["numbers"] > 200
    assert json.loads((kept.runs / NAME / "verification.json").read_text()) == found
    assert (found["same_machine"], found["same_versions"]) == (True, True)
    assert not list((kept.root / ".state" / "verify").iterdir())


def test_other_weights_with_the_same_numbers_are_not_equal(kept):
    lock = kept.folder / "dvc.lock"
    content = yaml.safe_load(lock.read_text())
    content["stages"][f"pretrain@{NAME}"]["outs"][0]["md5"] = "0" * 32
    lock.write_text(yaml.safe_dump(content))
    found = verify(kept, NAME)
    assert (found["outcome"], found["weights_equal"], found["differing"]) == ("within tolerance", False, 0)


@pytest.mark.parametrize(("by", "outcome"), [(1e-3, "within tolerance"), (0.2, "different")])
def test_a_score_that_differs_is_named_with_the_gap(kept, by, outcome):
    path = kept.cell("dynamic", 0) / "evaluation.json"
    content = json.loads(path.read_text())
    content["mask_only"]["nll"] += by
    path.write_text(json.dumps(content))
    found = verify(kept, NAME)
    assert (found["outcome"], found["first_differing"]) == (outcome, "evaluation.mask_only.nll")
    assert found["largest"]["nll"] == pytest.approx(by)


def test_the_step_at_which_curves_part_is_named(kept):
    path = kept.cell("dynamic", 0) / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[-2]["loss"] += 1e-6
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = verify(kept, NAME)
    assert found["parts_at"] == records[-2]["step"]
    assert found["outcome"] == "within tolerance"


@pytest.mark.parametrize(("file", "keys", "value", "outcome"), [
    ("training.json", ["status"], "diverged", "different"), ("training.json", ["steps"], 11, "different"),
    ("training.json", ["seconds"], 1e9, "equal"), ("training.json", ["hardware", "processor"], "another", "equal"),
    ("evaluation.json", ["hash"], "0" * 64, "different"), ("evaluation.json", ["span", "nll"], 9.0, "different"),
    ("evaluation.json", ["mask_only"], None, "different"),
    ("probe.json", ["topic", "cls", "accuracy"], 0.99, "different"),
    ("inputs.json", ["shares", "mask"], 0.5, "within tolerance")])
def test_what_matters_is_compared(kept, file, keys, value, outcome):
    path = kept.cell("dynamic", 0) / file
    content = json.loads(path.read_text())
    part = content
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(content))
    assert verify(kept, NAME)["outcome"] == outcome


def test_a_loss_that_ends_elsewhere_is_different(kept):
    path = kept.cell("dynamic", 0) / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[-1]["validation_nll"] += 1
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert verify(kept, NAME)["outcome"] == "different"


def test_the_record_has_another_name_when_the_cell_is_trained_again(kept):
    path = kept.cell("dynamic", 0) / "metrics.jsonl"
    before = record_hash(path.parent)
    path.write_text(path.read_text().replace("1", "2", 1))
    assert record_hash(path.parent) != before


def test_a_probe_that_reads_much_better_is_different(kept):
    path = kept.cell("dynamic", 0) / "probe.json"
    content = json.loads(path.read_text())
    content["topic"]["mean"]["accuracy"] = 1.0
    path.write_text(json.dumps(content))
    assert verify(kept, NAME)["outcome"] == "different"


def test_other_settings_or_text_than_recorded_are_refused(kept):
    path = kept.cell("dynamic", 0) / "settings.yaml"
    path.write_text(path.read_text().replace("rate: 0.15", "rate: 0.2"))
    with pytest.raises(StudyError, match=r"training\.json: dynamic-0 was trained on other text or with other settings"):
        verify(kept, NAME)
    assert not list((kept.root / ".state" / "verify").iterdir())


def test_what_was_never_recorded_is_named(kept):
    (kept.folder / "dvc.lock").write_text("stages: {}\n")
    with pytest.raises(StudyError, match=rf"dvc\.lock: nothing is recorded of pretrain@{NAME}"):
        verify(kept, NAME)
    with pytest.raises(StudyError, match=r"again-0/training\.json: not there yet"):
        verify(kept, "again-0")


def test_curves_part_where_the_first_record_differs():
    old = [{"step": step, "loss": 1.0} for step in (0, 10, 20)]
    assert parts_at(old, old) is None
    assert parts_at(old, old[:2]) == 20
    assert parts_at(old, [*old[:1], {"step": 10, "loss": 2.0}]) == 10


def test_cells_are_chosen_all_over_the_study(study):
    names = [f"{arm}-{seed}" for arm, seed in study.cells]
    assert chosen(study, 1) == names[:1]
    assert chosen(study, 2) == [names[0], names[-1]]
    assert chosen(study, 10_000) == names
