"""Rows for fine-tuning that the vocabulary cannot spell: a warning before the work begins."""
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from study import StudyError
from study.cli.app import app
from study.config.load import load_study
from study.data.task_rows import task_folder, unknown_warnings
from tests.support.bad_input import exit_status
from tests.support.training import trained_project

THAI = "ภาษาไทยไม่มีช่องว่างระหว่างคำ"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The trained study with the rows of its fine-tuning task. The test rows are Thai."""
    root = tmp_path_factory.mktemp("unknown") / "study"
    shutil.copytree(trained_project(), root)
    assert exit_status(root, "tasks", "--task", "topic") == 0
    path = task_of(root) / "test.parquet"
    pd.read_parquet(path).assign(text=THAI).to_parquet(path)
    return root


def task_of(root):
    study = load_study(root)
    return task_folder(study, study.settings.finetune.tasks[0])


def test_the_stage_warns_of_each_split(root, monkeypatch, capsys):
    monkeypatch.setattr("study.finetuning.finetune.finetune", lambda study, arm, seed: {})
    for check in ("study.cli.stages.check_cell", "study.analysis.current.check_trained_cell"):
        monkeypatch.setattr(check, lambda *_: None)
    assert exit_status(root, "finetune", "--arm", "dynamic", "--seed", "0") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("warning:") == 1
    assert "warning: 100.0% of the pieces of the test rows of the fine-tuning task topic are [UNK]" in printed


def test_making_the_rows_warns_if_there_is_a_tokenizer(root, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "study"
    shutil.copytree(root, copy)
    monkeypatch.setattr("study.data.task_rows.task_warnings", lambda backend, task, paths: [f"{task} is read"])
    assert exit_status(copy, "tasks", "--task", "topic") == 0
    assert "warning: the fine-tuning task topic is read" in capsys.readouterr().out
    shutil.rmtree(copy / "runs/tiny/tokenizer")
    assert exit_status(copy, "tasks", "--task", "topic") == 0
    assert "is read" not in capsys.readouterr().out


def test_rows_of_the_text_are_no_warning(root):
    study = load_study(root)
    assert [warning.partition(" rows")[0] for warning in unknown_warnings(study, study.settings.finetune.tasks[0])] == [
        "100.0% of the pieces of the test"]


def test_a_file_by_hand_is_warned_about(root, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise StudyError("stops here")

    monkeypatch.setattr("study.finetuning.by_hand.finetune_file", stop)
    words = (root / "runs/tiny/corpus/lexicon.txt").read_text().split()
    for name, texts in (("train", [words[0], words[1]]), ("test", [THAI, THAI])):
        pd.DataFrame({"text": texts, "label": ["a", "b"]}).to_csv(tmp_path / f"{name}.csv", index=False)
    result = CliRunner().invoke(app, ["finetune", "dynamic-0", "--task", str(tmp_path / "train.csv"), "--test",
                                      str(tmp_path / "test.csv"), "--study", str(root)])
    assert str(result.exception) == "stops here"
    printed = "".join(result.output.split())
    assert printed.count("warning:") == 1
    assert f"warning:100.0%ofthepiecesoftherowsof{tmp_path / 'test.csv'}are[UNK]" in printed
