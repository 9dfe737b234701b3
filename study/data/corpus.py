"""A corpus folder: text as documents of paragraphs of sentences, the probe tasks, and a manifest.

    train.parquet, validation.parquet, test.parquet   document, paragraph (int32 running numbers), text (one sentence)
    probe-<task>-train.parquet, probe-<task>-test.parquet   text, label
    manifest.json                                     counts, and the SHA-256 of every file
    made_with.yaml                                    the settings that decide all of this

corpus_text.py and corpus_synthetic.py provide the documents.
"""
from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from study import StudyError, randomness
from study.config.made_with import MADE_WITH, write_made_with
from study.config.schema import ProbeTask, Text
from study.config.study import Study
from study.files import file_sha256

if TYPE_CHECKING:
    from datasets import Dataset
    from pandas import DataFrame

SPLITS = ("train", "validation", "test")
Document = list[list[str]]                  # paragraphs of sentences


def data_folder(root: Path) -> Path:
    """Returns the folder with local copies of data sets: STUDY_DATA if it is set, else data/ next to experiments/."""
    return Path(os.environ.get("STUDY_DATA") or root / "data")


def write_corpus(study: Study, folder: Path, documents: Callable[[str], Iterable[Document]],
                 topic_rows: Callable[[str], DataFrame] | None, progress=lambda items, **_: items) -> dict:
    """Writes the corpus folder and returns the manifest.

    documents: the documents of a split. topic_rows: rows (text, label) of the synthetic corpus's probe task for a
    split, None for other text. Raises StudyError if a split or a probe task is unusable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits = {split: documents(split) for split in SPLITS}      # all opened first: a missing split fails at once
    counts: dict[str, int] = {}
    for split in SPLITS:
        counts |= write_documents(progress(splits[split], description=f"corpus {split}"),
                                  folder / f"{split}.parquet", f"{study.settings.name}: {split}")
    for task in study.settings.probe.tasks:
        counts |= _write_task(study, task, folder, topic_rows)
    files = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    manifest = {"counts": counts, "sha256": {path.name: file_sha256(path) for path in files}}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    write_made_with(study, "corpus", folder / MADE_WITH)
    return manifest


def write_documents(documents: Iterable[Document], path: Path, label: str) -> dict[str, int]:
    """Writes documents to a parquet file, one row per sentence, and returns their counts as `<file>_<unit>`.

    Empty documents are left out. `label` names the text in the StudyError that fewer than two documents raise.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("document", pa.int32()), ("paragraph", pa.int32()), ("text", pa.string())])
    counts = {"documents": 0, "paragraphs": 0, "sentences": 0, "words": 0}
    with pq.ParquetWriter(path, schema) as writer:
        for block in _blocks(document for document in documents if document):
            rows = []
            for document in block:
                for paragraph in document:
                    rows += [(counts["documents"], counts["paragraphs"], sentence) for sentence in paragraph]
                    counts["paragraphs"] += 1
                counts["documents"] += 1
            counts["sentences"] += len(rows)
            counts["words"] += sum(len(text.split()) for _, _, text in rows)
            writer.write_table(pa.table([pa.array(column, field.type) for column, field
                                         in zip(zip(*rows, strict=True), schema, strict=True)], schema=schema))
    if counts["documents"] < 2:
        raise StudyError(f"{label}: {counts['documents']} documents with text; at least 2 are needed. Check the split "
                         f"and `layout`")
    return {f"{path.stem}_{name}": count for name, count in counts.items()}


def _blocks(documents: Iterable[Document], size: int = 500) -> Iterator[list[Document]]:
    documents = iter(documents)
    while block := list(itertools.islice(documents, size)):
        yield block


def _write_task(study: Study, task: ProbeTask, folder: Path, topic_rows: Callable | None) -> dict[str, int]:
    import pandas as pd

    counts = {}
    for split in ("train", "test"):
        frame = _topic_rows(topic_rows, split) if task.path == "corpus" else _task_rows(study, task, split)
        rows = task.train_rows and task.train_rows * task.draws if split == "train" else task.test_rows
        frame = frame[:rows] if task.take == "first" else _subset(frame, rows)
        frame.to_parquet(folder / f"probe-{task.name}-{split}.parquet", index=False)
        counts[f"probe_{task.name}_{split}_rows"] = len(frame)
        labels = sorted(pd.unique(frame.label).tolist())
        if labels != list(range(len(task.labels))):
            raise StudyError(f"probe task {task.name} ({split}): labels {labels} do not match "
                             f"the {len(task.labels)} names in probe.tasks.labels")
        if split == "train":
            _check_pool(task, frame, study.settings.probe.folds)
    return counts


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
                         f"({folds}); raise probe.tasks.train_rows")


def _topic_rows(topic_rows: Callable | None, split: str) -> DataFrame:
    if topic_rows is None:
        raise StudyError("probe.tasks: path `corpus` means the synthetic corpus's topics; for text name a data set")
    return topic_rows(split)


def _task_rows(study: Study, task: ProbeTask, split: str) -> DataFrame:
    rows = load_rows(study, task, split, (task.text, task.label))
    frame = rows.to_pandas()[[task.text, task.label]].set_axis(["text", "label"], axis=1)
    if frame.isna().any(axis=None):
        raise StudyError(f"{task.path} ({split}): row {int(frame.isna().any(axis=1).argmax())} has no text or label")
    if not (is_text := frame.text.map(lambda text: isinstance(text, str))).all():
        index = int((~is_text).argmax())
        raise StudyError(f"{task.path} ({split}): row {index}: column {task.text!r} holds {frame.text[index]!r:.40}, "
                         f"not text")
    return frame


def _subset(frame: DataFrame, rows: int | None) -> DataFrame:
    """`rows` rows in a seeded order, with classes as equal in size as possible; all rows if `rows` is None."""
    if rows is None or rows >= len(frame):
        return frame
    shuffled = frame.iloc[randomness.permutation(0, randomness.SUBSET, len(frame))]
    rank = shuffled.groupby("label").cumcount().to_numpy()
    return shuffled.iloc[np.sort(np.argsort(rank, kind="stable")[:rows])].reset_index(drop=True)


def load_rows(study: Study, source: Text | ProbeTask, split: str, columns: tuple[str, ...],
              configuration: str | None = None) -> Dataset:
    """Returns one split of a data set, from the local folder if the file exists, else from the hub.

    configuration: the data set's configuration on the hub. Raises StudyError if the split cannot be loaded (the
    message says which file to put where) or a column is missing.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)     # errors are reported below, in one line
    local = data_folder(study.root) / source.local / f"{split}.parquet" if source.local else None
    try:
        if local is not None and local.exists():
            rows = datasets.load_dataset("parquet", data_files={split: str(local)}, split=split)
        else:
            os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "20")
            rows = datasets.load_dataset(source.path, configuration, revision=source.revision,
                                         split=source.splits[split])
    except Exception as error:  # the hub client raises many unrelated classes
        reason = " ".join(str(error.__cause__ or error).split())[:160]
        if local is not None and local.exists():
            raise StudyError(f"{local}: " + ("has no rows; put the split's text there" if _is_empty(local) else
                                             f"cannot be read as parquet: {reason}")) from None
        remedy = f"; put {split}.parquet in {local.parent}" if local is not None else ""
        raise StudyError(f"study {study.settings.name}: {source.path} ({split}) could not be loaded from the hub"
                         f"{remedy} (or set STUDY_DATA to the folder that holds {source.local}/): {reason}") from None
    if missing := [column for column in columns if column not in rows.column_names]:
        raise StudyError(f"{local or source.path} ({split}): no column {missing[0]!r}; it has "
                         f"{', '.join(rows.column_names)}")
    return rows


def _is_empty(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path).num_rows == 0
    except (OSError, pa.ArrowException):
        return False
