"""The stages tasks and finetune on the tiny study: what they write and read, and that the same settings give the
same bytes."""
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from study import StudyError
from study.config.load import load_study
from study.config.yaml_files import parse_yaml
from study.data.corpus_synthetic import topic_rows
from study.data.task_rows import read_task_rows, task_folder, write_task_rows
from study.evaluation.baselines import read_task
from study.finetuning.finetune import finetune
from study.objectives.pretraining_model import new_model
from study.orchestration.code_identity import _identity
from study.orchestration.dvc_commands import cell_stages
from tests.support.bad_input import exit_status
from tests.support.training import trained_project

SIZES, RUNS, RATES, TEST = ("24", "80"), 2, [0.0003, 0.003], 40


def with_rows(target, change=lambda text: text):
    """A copy of the trained study, with its settings changed and the rows of its task written."""
    shutil.copytree(trained_project(), target)
    params = target / "params.yaml"
    params.write_text(change(params.read_text()))
    study = load_study(target)
    for task in study.settings.finetune.tasks:
        folder = task_folder(study, task)
        folder.mkdir(parents=True)
        write_task_rows(study, task.name, folder, topic_rows)
    return study


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    study = with_rows(tmp_path_factory.mktemp("finetuned") / "study")
    return study, finetune(study, "dynamic", 0)


def test_the_rows_are_those_of_the_probe_of_the_same_topics(finetuned):
    study, _ = finetuned
    task = study.settings.finetune.tasks[0]
    assert read_task_rows(study, task, "train").equals(read_task(study, study.settings.probe.tasks[0], "train"))
    assert read_task_rows(study, task, "test").label.value_counts().to_dict() == dict.fromkeys(range(4), TEST // 4)


def test_every_encoder_size_and_run_has_its_scores_and_predictions(finetuned):
    study, result = finetuned
    folder = study.cell("dynamic", 0)
    assert json.loads((folder / "finetune.json").read_text()) == result
    scores = result["topic"]
    with np.load(folder / "finetune.npz") as file:
        arrays = dict(file)
    assert arrays.keys() == {"topic/label", *(f"topic/{size}/{name}/predicted" for size in SIZES
                                              for name in ("trained", "untrained", "more-epochs"))}
    assert (scores["rows"], scores["majority"]) == ({"train": 120, "test": TEST}, 0.25)
    for name in ("trained", "untrained", "more-epochs"):
        for size in SIZES:
            part, predicted = scores[name][size], arrays[f"topic/{size}/{name}/predicted"]
            right = (predicted == arrays["topic/label"]).mean(1)
            assert predicted.shape == (RUNS, TEST)
            assert part["accuracy"] == pytest.approx(right.mean())
            assert part["spread"] == pytest.approx(right.std(ddof=1))
            held_out = round(0.25 * int(size))
            assert part["rows"] == {"train": int(size) - held_out, "validation": held_out, "test": TEST}
            for run, accuracy in zip(part["runs"], right, strict=True):
                assert run["accuracy"] == pytest.approx(accuracy)
                assert [candidate["rate"] for candidate in run["candidates"]] == RATES
                assert run["rate"] in RATES


def test_variants_are_for_the_baseline_alone_and_change_what_they_say(finetuned):
    scores = finetuned[1]["topic"]
    steps = {name: scores[name]["80"]["runs"][0]["candidates"][0]["steps"] for name in ("trained", "more-epochs")}
    assert steps == {"trained": 2 * 8, "more-epochs": 6 * 8}


def test_the_same_settings_give_the_same_bytes(finetuned, tmp_path):
    study, result = finetuned
    again = with_rows(tmp_path / "again")
    assert finetune(again, "dynamic", 0) == result
    for name in ("finetune.json", "finetune.npz"):
        assert (again.cell("dynamic", 0) / name).read_bytes() == (study.cell("dynamic", 0) / name).read_bytes()


def test_the_untrained_encoder_can_be_left_out(tmp_path):
    study = with_rows(tmp_path / "study", lambda text: re.sub(r"  variants:\n.*\n", "", text).replace(
        "untrained: true", "untrained: false"))
    assert set(finetune(study, "dynamic", 0)["topic"]) == {"labels", "rows", "majority", "trained"}


def test_the_untrained_encoder_has_the_initialization_seed_of_its_arm(tmp_path, monkeypatch):
    study, plans = with_rows(tmp_path / "study"), {}
    path = study.cell("dynamic", 0) / "settings.yaml"
    content = yaml.safe_load(path.read_text())
    content["training"]["initialization_seed"] = 5
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setattr("study.finetuning.finetune.finetune_task",
                        lambda study, task, backend, made: plans.update(made) or ({}, {}))
    finetune(study, "dynamic", 0)
    model = plans["untrained"][0].model
    expected = new_model(plans["trained"][0].config, model.encoder.token.num_embeddings, 5)
    assert torch.equal(model.encoder.token.weight, expected.encoder.token.weight.to(model.device))


def test_test_rows_choose_nothing(finetuned, tmp_path):
    """With other labels of the test rows, the chosen rates and the predictions are the same."""
    study, result = finetuned
    other = with_rows(tmp_path / "study")
    path = task_folder(other, other.settings.finetune.tasks[0]) / "test.parquet"
    frame = pd.read_parquet(path)
    frame["label"] = (frame.label + 1) % 4
    frame.to_parquet(path)
    scores = finetune(other, "dynamic", 0)["topic"]["trained"]
    with np.load(study.cell("dynamic", 0) / "finetune.npz") as old, \
            np.load(other.cell("dynamic", 0) / "finetune.npz") as new:
        for size in SIZES:
            assert [run["rate"] for run in scores[size]["runs"]] == [
                run["rate"] for run in result["topic"]["trained"][size]["runs"]]
            key = f"topic/{size}/trained/predicted"
            assert (old[key] == new[key]).all()


def pair_task(target, rows: dict[str, pd.DataFrame], **values):
    """The trained study with a task of pairs in a local folder. values: other settings of the task."""
    data = target.parent / "data" / "pairs"
    data.mkdir(parents=True)
    for split, frame in rows.items():
        frame.to_parquet(data / f"{split}.parquet")
    settings = {"name": "pairs", "path": "pairs", "local": "pairs", "text": "first", "label": "same",
                "text_pair": "second", "labels": ["other", "same"]} | values

    def change(text: str) -> str:
        content = parse_yaml(text)
        content["finetune"]["tasks"][0] |= settings
        return yaml.safe_dump(content)

    return with_rows(target, change)


def pairs(words: list[str], rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = np.arange(rows) % 2
    first = [" ".join(rng.choice(words, 4)) for _ in range(rows)]
    second = [text if same else " ".join(rng.choice(words, 4)) for text, same in zip(first, label, strict=True)]
    return pd.DataFrame({"first": first, "second": second, "same": label})


def test_a_task_of_pairs_reads_both_texts(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    words = (trained_project() / "runs/tiny/corpus/lexicon.txt").read_text().split()[:30]
    study = pair_task(tmp_path / "study", {"train": pairs(words, 100, 0), "test": pairs(words, 60, 1)})
    task = study.settings.finetune.tasks[0]
    assert list(read_task_rows(study, task, "train").columns) == ["text", "text_pair", "label"]
    assert finetune(study, "dynamic", 0)["pairs"]["rows"] == {"train": 100, "test": TEST}


def test_the_summary_counts_classes_duplicates_and_test_rows_that_are_training_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    words = [f"w{number}" for number in range(300)]
    train, other = pairs(words, 100, 0), pairs(words, 10, 1)
    test = pd.concat([train[:50], train[:2].assign(first=lambda frame: frame["first"].str.upper()), other])
    test.iloc[-1, 1] = " "
    study = pair_task(tmp_path / "study", {"train": train, "test": test}, test_rows=None)
    summary = json.loads((task_folder(study, study.settings.finetune.tasks[0]) / "summary.json").read_text())
    facts = summary["splits"]["test"]
    assert [facts[key] for key in ("rows", "duplicates", "empty", "in_training")] == [62, 2, 1, 52]
    assert facts["labels"] == [["other", 31], ["same", 31]]
    assert "in_corpus" not in facts
    assert summary["splits"]["train"]["labels"] == [["other", 50], ["same", 50]]
    assert summary["warnings"] == [
        "52 of 62 (83.9%) test rows of the fine-tuning task pairs are among its training rows"]


def test_pairs_that_share_one_text_are_not_the_same_row(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    train = pairs([f"w{number}" for number in range(300)], 100, 0)
    study = pair_task(tmp_path / "study", {"train": train, "test": train.assign(second=train["second"] + " more")})
    summary = json.loads((task_folder(study, study.settings.finetune.tasks[0]) / "summary.json").read_text())
    assert summary["splits"]["test"]["in_training"] == 0


def test_the_stage_prints_the_summary(tmp_path, capsys):
    study = with_rows(tmp_path / "study")
    assert exit_status(study.folder, "tasks", "--task", "topic") == 0
    printed = capsys.readouterr().out
    assert re.search(r"fine-tuning task topic +rows", printed)
    assert re.search(r"classes of fine-tuning task topic +train +test *\n.*\n +topic-0 +34 +10 ", printed)
    assert "warning: the fine-tuning task topic: the class topic-0 has only 10 test rows" in printed


BAD_ROWS = {
    "no such column": ({"text_pair": "third"}, lambda frame: frame, "no column 'third'"),
    "a missing text": ({}, lambda frame: frame.assign(second=[None, *frame.second[1:]]), "row 0: column 'second'"),
    "a number for a text": ({}, lambda frame: frame.assign(second=range(len(frame))), "not text"),
    "a class without a name": ({}, lambda frame: frame.assign(same=np.arange(len(frame)) % 3),
                               "do not match the 2 names in finetune.tasks.labels"),
    "too few rows": ({}, lambda frame: frame[:30], "80 rows are more than the 30 training rows of pairs"),
}


@pytest.mark.parametrize(("values", "change", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_unusable_rows_are_one_line_with_the_cause(tmp_path, monkeypatch, values, change, message):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    frame = pairs(["a", "b", "c"], 100, 0)
    with pytest.raises(StudyError, match=re.escape(message)) as error:
        pair_task(tmp_path / "study", {"train": change(frame), "test": frame}, **values)
    assert "\n" not in str(error.value)


def test_missing_inputs_name_the_command(tmp_path):
    study = with_rows(tmp_path / "study")
    with pytest.raises(StudyError, match="study pretrain --arm dynamic --seed 0"):
        shutil.rmtree(study.cell("dynamic", 0)) or finetune(study, "dynamic", 0)
    shutil.rmtree(study.runs / "tasks")
    with pytest.raises(StudyError, match="study tasks --task topic"):
        read_task_rows(study, study.settings.finetune.tasks[0], "train")
    with pytest.raises(StudyError, match="finetune.tasks has no task more; it has topic"):
        write_task_rows(study, "more", tmp_path)


def test_the_identity_of_the_stage_follows_recipe_and_tasks_and_not_the_list_of_arms(tmp_path):
    def identity(change):
        (tmp_path / "study").exists() and shutil.rmtree(tmp_path / "study")
        return _identity(with_rows(tmp_path / "study", change), "finetune")

    before = identity(lambda text: text)
    more = "  arms: [dynamic, static]\n  tasks"
    assert identity(lambda text: text.replace("  arms: [dynamic]\n  tasks", more)) == before
    for old, new in (("epochs: 2", "epochs: 3"), ("more-epochs: {epochs: 6}", "more-epochs: {epochs: 7}"),
                     ("test_rows: 40", "test_rows: 44")):
        assert identity(lambda text, old=old, new=new: text.replace(old, new)) != before


def test_only_cells_of_the_listed_arms_have_the_stage(tmp_path):
    study = with_rows(tmp_path / "study")
    assert cell_stages(study, "dynamic-0") == ["pretrain@dynamic-0", "evaluate@dynamic-0", "finetune@dynamic-0"]
    assert cell_stages(study, "static-0") == ["pretrain@static-0", "evaluate@static-0"]
