"""A probe task may use the first rows of its data, as tutorials do."""
import pandas as pd
import pytest

from study.config.schema import ProbeTask
from study.data import tasks

TASK = {"name": "task", "path": "x", "revision": None, "local": None, "splits": {"train": "train", "test": "test"},
        "text": "text", "label": "label", "labels": ["a", "b"], "train_rows": 6, "test_rows": 4}


@pytest.mark.parametrize(("take", "balanced"), [("first", False), ("drawn", True)])
def test_the_first_rows_are_taken_as_they_stand(study, tmp_path, monkeypatch, take, balanced):
    frame = pd.DataFrame({"text": [f"text {n}" for n in range(20)], "label": [0, 1, 0, 1] + 8 * [0] + 8 * [1]})
    monkeypatch.setattr(tasks, "task_rows", lambda *_: frame)
    task = ProbeTask(**TASK, take=take)
    study = study.model_copy(update={"settings": study.settings.model_copy(update={
        "probe": study.settings.probe.model_copy(update={"folds": 2})})})
    tasks.write_task(study, task, tmp_path, None, [])
    for split, rows in (("train", 6), ("test", 4)):
        written = pd.read_parquet(tmp_path / f"probe-task-{split}.parquet")
        assert written.equals(frame[:rows]) is not balanced
        assert (written.label.value_counts().nunique() == 1) is (balanced or split == "test")


def test_draws_of_the_first_rows_are_refused():
    with pytest.raises(ValueError, match="draws of the first rows would be alike"):
        ProbeTask(**TASK, take="first", draws=2)
