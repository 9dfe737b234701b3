"""The rows of a fine-tuning task: a folder with train.parquet and test.parquet (text, label, and text_pair of pairs),
summary.json (summary.py) and made_with.yaml, the settings that decide the rows.

They are what `finetune.tasks` names: a data set from the hub or a local folder, or the topics of the synthetic corpus.
"""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from study import StudyError
from study.config.made_with import MADE_WITH, write_made_with
from study.config.schema import FinetuneTask
from study.config.study import Study
from study.data.summary import task_summary
from study.data.tasks import check_labels, subset, task_rows
from study.data.tokenizer import load
from study.data.unknown import task_warnings
from study.files import write_json

SPLITS = ("train", "test")


def task_named(study: Study, name: str) -> FinetuneTask:
    """Returns a fine-tuning task of the study. Raises StudyError for another name."""
    tasks = {task.name: task for task in study.settings.finetune.tasks}
    if name not in tasks:
        raise StudyError(f"{study.params_path}: finetune.tasks has no task {name}; it has {', '.join(tasks) or 'none'}")
    return tasks[name]


def task_folder(study: Study, task: FinetuneTask) -> Path:
    """Returns the folder with the rows of a fine-tuning task."""
    return study.runs / "tasks" / task.name


def write_task_rows(study: Study, name: str, folder: Path,
                    topic_rows: Callable[..., pd.DataFrame] | None = None) -> dict[str, int]:
    """Writes the rows of a fine-tuning task to a folder, with their summary. Returns the number of rows by split.

    topic_rows: corpus_synthetic.topic_rows in a study of the synthetic corpus, None for other text. Raises StudyError
    if a split is unusable, or has too few rows for recipe.train_sizes.
    """
    task, counts, remarks = task_named(study, name), {}, []
    for split in SPLITS:
        frame = _rows(study, task, split, topic_rows, remarks)
        rows = task.train_rows if split == "train" else task.test_rows
        frame = frame[:rows] if task.take == "first" else subset(frame, rows)
        check_labels(task, split, frame, "finetune.tasks")
        if split == "train":
            _check_sizes(study, task, frame)
        frame.to_parquet(folder / f"{split}.parquet", index=False)
        counts[split] = len(frame)
    summary = task_summary(task, lambda split: pd.read_parquet(folder / f"{split}.parquet"), remarks)
    write_json(folder / "summary.json", summary, ensure_ascii=False)
    write_made_with(study, "tasks", folder / MADE_WITH, name)
    return counts


def read_task_rows(study: Study, task: FinetuneTask, split: str) -> pd.DataFrame:
    """Returns a split of a fine-tuning task. Raises StudyError if it is missing or damaged."""
    path = task_folder(study, task) / f"{split}.parquet"
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: no usable rows ({' '.join(str(error).split()):.120}); run `study tasks --task "
                         f"{task.name}` (or `dvc repro`)") from None


def unknown_warnings(study: Study, task: FinetuneTask) -> list[str]:
    """Returns a warning for each split of a fine-tuning task of which too much is [UNK] in the study's tokenizer.

    The rows do not depend on the tokenizer, so their summary lacks it. Raises StudyError if the tokenizer is missing.
    """
    paths = [task_folder(study, task) / f"{split}.parquet" for split in SPLITS]
    return task_warnings(load(study.runs / "tokenizer"), f"the fine-tuning task {task.name}",
                         [path for path in paths if path.exists()])


def _rows(study: Study, task: FinetuneTask, split: str, topic_rows: Callable | None,
          remarks: list[str]) -> pd.DataFrame:
    if task.path != "corpus":
        return task_rows(study, task, split, remarks, "finetune.tasks", task.text_pair)
    if topic_rows is None:
        raise StudyError(f"{study.params_path}: finetune.tasks: path `corpus` of {task.name} means the synthetic "
                         f"corpus's topics; for text name a data set")
    if task.text_pair is not None:
        raise StudyError(f"{study.params_path}: finetune.tasks: {task.name}: the synthetic corpus's topics have no "
                         f"text_pair; set it to null")
    return topic_rows(study.settings.corpus, split)


def _check_sizes(study: Study, task: FinetuneTask, frame: pd.DataFrame) -> None:
    """Raises StudyError if a draw needs more rows than there are."""
    recipe = study.settings.finetune.recipe
    if (largest := max(recipe.train_sizes)) > len(frame):
        raise StudyError(f"{study.params_path}: finetune.recipe.train_sizes: {largest} rows are more than the "
                         f"{len(frame)} training rows of {task.name}; lower it")
