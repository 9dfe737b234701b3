"""The rows of a probe task: texts and the numbers of their classes, drawn with classes as equal in size as possible.
Minimal pairs are loaded here too."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from study import StudyError, randomness
from study.config.schema import MinimalPairs, ProbeTask
from study.config.study import Study
from study.data.hub import prepare_client
from study.data.labels import class_numbers, renamed
from study.data.local_files import quiet_datasets
from study.data.minimal_pairs import frame_of, pairs_path
from study.data.sources import load_rows

if TYPE_CHECKING:
    from datasets import Dataset
    from pandas import DataFrame


def write_task(study: Study, task: ProbeTask, folder: Path, topic_rows: Callable | None,
               remarks: list[str]) -> dict[str, int]:
    """Writes probe-<task>-<split>.parquet (text, label) for both splits, and returns the numbers of rows.

    topic_rows: as in corpus.py. What a reader should know about the data is appended to `remarks`. Raises StudyError if
    the task is unusable.
    """
    counts = {}
    for split in ("train", "test"):
        frame = _topic_rows(topic_rows, split) if task.path == "corpus" else task_rows(study, task, split, remarks)
        rows = task.train_rows and task.train_rows * task.draws if split == "train" else task.test_rows
        frame = frame[:rows] if task.take == "first" else subset(frame, rows)
        frame.to_parquet(folder / f"probe-{task.name}-{split}.parquet", index=False)
        counts[f"probe_{task.name}_{split}_rows"] = len(frame)
        check_labels(task, split, frame)
        if split == "train":
            _check_pool(task, frame, study.settings.probe.folds)
    return counts


def check_labels(task: ProbeTask, split: str, frame: DataFrame, section: str = "probe.tasks") -> None:
    """Raises StudyError unless every class occurs. section: of the settings, with the task."""
    if absent := sorted(set(range(len(task.labels))) - set(frame.label)):
        rows = task.train_rows if split == "train" else task.test_rows
        all_used = rows is None or len(frame) < rows
        remedy = "name another split in `splits`" if all_used else f"raise {section}.{split}_rows ({rows})"
        raise StudyError(f"{task.local or task.path} ({split}): task {task.name}: labels "
                         f"{sorted(set(frame.label.tolist()))} do not match the {len(task.labels)} names in "
                         f"{section}.labels: no row of {task.labels[absent[0]]}; {remedy} in params.yaml, or remove "
                         f"the name")


def write_pairs(study: Study, task: MinimalPairs, folder: Path) -> dict[str, int]:
    """Writes pairs-<task>.parquet (minimal_pairs.py) and returns the number of pairs. Raises StudyError if the pairs
    cannot be loaded."""
    columns = (task.good, task.bad, task.phenomenon, task.paradigm)
    names = configurations(task) if task.local is None else [None]
    parts = [load_rows(study, task, "test", tuple(filter(None, columns)), name) for name in names]
    rows = quiet_datasets().concatenate_datasets(parts)
    frame = frame_of(rows.to_pandas(), *columns, task.pairs_per_paradigm, f"{task.local or task.path} (test)")
    frame.to_parquet(pairs_path(folder, task), index=False)
    return {f"pairs_{task.name}": len(frame)}


def configurations(task: MinimalPairs) -> list[str | None]:
    """Returns the configurations of a data set on the hub; BLiMP has one per paradigm."""
    datasets = quiet_datasets()
    prepare_client()
    try:
        return datasets.get_dataset_config_names(task.path, revision=task.revision)
    except Exception:       # the hub client raises many unrelated classes; load_rows reports the reason
        return [None]


def _check_pool(task: ProbeTask, frame: DataFrame, folds: int) -> None:
    """Raises StudyError if draws of training rows cannot differ, or if one has too few rows of a class for the folds.

    frame: the rows (text, label) to draw from. A draw leaves out at least one row per class.
    """
    fewest = int(frame.label.value_counts().min())
    if task.draws > 1:
        if len(frame) < task.train_rows + len(task.labels):
            raise StudyError(f"probe task {task.name}: {len(frame)} training rows are too few for {task.draws} draws "
                             f"of {task.train_rows}; lower probe.tasks.train_rows")
        fewest = fewest * task.train_rows // len(frame)     # draws have the classes in the proportions of the pool
    if fewest < folds:
        raise StudyError(f"probe task {task.name}: a class has {fewest} training rows, fewer than probe.folds "
                         f"({folds}); "
                         + ("lower probe.folds or add rows" if task.train_rows is None else
                            "raise probe.tasks.train_rows"))


def _topic_rows(topic_rows: Callable | None, split: str) -> DataFrame:
    if topic_rows is None:
        raise StudyError("probe.tasks: path `corpus` means the synthetic corpus's topics; for text name a data set")
    return topic_rows(split)


def task_rows(study: Study, task: ProbeTask, split: str, remarks: list[str], section: str = "probe.tasks",
              text_pair: str | None = None) -> DataFrame:
    """Returns the rows of a task's data set, with columns text and label, and text_pair if that column is named.

    remarks: what a reader should know about the data is appended. section: of the settings, with the task. Raises
    StudyError if the split cannot be loaded, a value is missing or no text, or a label is unknown.
    """
    columns = {"text": task.text, **({"text_pair": text_pair} if text_pair else {}), "label": task.label}
    rows = load_rows(study, task, split, tuple(columns.values()))
    frame = rows.to_pandas()[list(columns.values())].set_axis(list(columns), axis=1)
    place = f"{task.local or task.path} ({split})"
    for name, column in columns.items():
        if (missing := frame[name].isna()).any():
            raise StudyError(f"{place}: row {int(missing.argmax())}: column {column!r} has no value; fill it in, or "
                             f"remove the row")
    for name in list(columns)[:-1]:
        if not (is_text := frame[name].map(lambda text: isinstance(text, str))).all():
            index = int((~is_text).argmax())
            raise StudyError(f"{place}: row {index}: column {columns[name]!r} holds {frame[name][index]!r:.40}, not "
                             f"text")
    names = _names_of_classes(rows, task.label)
    numbers = class_numbers(task, frame.label, names, f"task {task.name} ({split})", section)
    if (remark := renamed(task, names)) and remark not in remarks:
        remarks.append(remark)
    kept = frame[numbers >= 0].reset_index(drop=True)
    if not len(kept):
        raise StudyError(f"task {task.name} ({split}): every row has one of {section}.ignored_labels "
                         f"({', '.join(map(str, task.ignored_labels))}); name another split in `splits`")
    return kept.assign(label=numbers[numbers >= 0])


def _names_of_classes(rows: Dataset, column: str) -> list[str] | None:
    """The names that a data set itself has for the numbers 0, 1, ... in a column; None if it has none."""
    return getattr(rows.features[column], "names", None)


def subset(frame: DataFrame, rows: int | None) -> DataFrame:
    """Returns `rows` rows in a seeded order, with classes as equal in size as possible; all rows if `rows` is None.

    All rows keep their order, unless the file is sorted by class: its first rows would then be of one class.
    """
    shuffled = frame.iloc[randomness.permutation(0, randomness.SUBSET, len(frame))]
    if rows is None or rows >= len(frame):
        blocks = 1 + np.count_nonzero(np.diff(frame.label))
        return shuffled.reset_index(drop=True) if blocks == frame.label.nunique() > 1 else frame
    rank = shuffled.groupby("label").cumcount().to_numpy()
    return shuffled.iloc[np.sort(np.argsort(rank, kind="stable")[:rows])].reset_index(drop=True)
