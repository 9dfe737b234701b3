"""What a reader should know about a text before training on it: summary.json in the folders of the corpus, the
tokenizer, the examples and each fine-tuning task.

Texts count as equal if they differ only in white space and upper case. They are compared by hashes of 64 bits, so
memory grows by 8 bytes per document and paragraph.
"""
from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from study.config.schema import FinetuneTask, ProbeTask
from study.config.study import Study
from study.data.sources import SPLITS

if TYPE_CHECKING:
    from pandas import DataFrame

MOST_OVERLAP = 0.001                        # share of rows that are elsewhere as well
FEWEST_ROWS = 20                            # of a class
BATCH_ROWS = 10_000                         # sentences read at once


@dataclass
class Texts:
    """Counts of the texts of a split, and the hash of each: `whole` of documents or rows, `parts` of paragraphs."""
    words: int = 0
    shortest: int | None = None
    longest: int = 0
    whole: array = field(default_factory=lambda: array("Q"))
    parts: array = field(default_factory=lambda: array("Q"))

    def add(self, words: int, digest: int) -> None:
        """Counts one document or row."""
        self.words += words
        self.shortest = words if self.shortest is None else min(words, self.shortest)
        self.longest = max(words, self.longest)
        self.whole.append(digest)

    @property
    def hashes(self) -> np.ndarray:
        """Returns the hashes of whole texts, (texts,)."""
        return np.frombuffer(self.whole, np.uint64)

    @property
    def known(self) -> np.ndarray:
        """Returns the hashes of whole texts and of paragraphs, sorted, each once."""
        return np.unique(np.concatenate([self.hashes, np.frombuffer(self.parts, np.uint64)]))

    def facts(self, unit: str) -> dict[str, int]:
        """Returns the counts. unit: `documents` or `rows`."""
        return {unit: len(self.whole), "words": self.words, "duplicates": len(self.whole) - len(np.unique(self.hashes)),
                "shortest": self.shortest or 0, "longest": self.longest}


def corpus_summary(study: Study, folder: Path, empty: Counter, remarks: Iterable[str]) -> dict:
    """Returns the summary of a corpus folder.

    empty: documents without text by split, which the folder does not have. remarks: more warnings. The result has
    `splits`, `tasks` and `warnings`; lengths are in words.
    """
    result: dict = {"splits": {}, "tasks": {}, "warnings": list(remarks)}
    known, validation = None, np.array([], np.uint64)
    for split in SPLITS:
        texts = _read_documents(folder / f"{split}.parquet")
        facts = texts.facts("documents") | {"empty": empty[split]}
        if known is None:
            training, known = np.unique(texts.hashes), texts.known
        else:
            facts["in_training"] = int(np.isin(texts.hashes, training).sum())
            _warn_of_overlap(result["warnings"], facts["in_training"], facts["documents"],
                             f"documents of the split {split} are in the training text too")
        if split == "validation":
            validation = texts.hashes
        elif split == "test" and (shared := int(np.isin(texts.hashes, validation).sum())):
            facts["in_validation"] = shared             # without such documents, the file is as it was
            _warn_of_overlap(result["warnings"], shared, facts["documents"],
                             "documents of the split test are in the validation text too")
        result["splits"][split] = facts
    for task in study.settings.probe.tasks:
        result["tasks"][task.name] = _task_facts(task, task.name, partial(_probe_rows, folder, task),
                                                 result["warnings"], known)
    return result


def task_summary(task: FinetuneTask, rows: Callable[[str], DataFrame], remarks: Iterable[str]) -> dict:
    """Returns the summary of a fine-tuning task: `splits` and `warnings`.

    rows: the rows of a split. remarks: more warnings.
    """
    warnings = list(remarks)
    return {"splits": _task_facts(task, f"the fine-tuning task {task.name}", rows, warnings), "warnings": warnings}


def _read_documents(path: Path) -> Texts:
    """The documents of a parquet file of a corpus folder (document, paragraph, text), read in parts."""
    texts, document, paragraph, words = Texts(), None, None, 0
    whole = part = None
    for number, section, sentence in _sentences(path):
        if number != document:
            if whole is not None:
                texts.add(words, _value(whole))
            document, whole, words = number, hashlib.blake2b(digest_size=8), 0
        if section != paragraph:
            if part is not None:
                texts.parts.append(_value(part))
            paragraph, part = section, hashlib.blake2b(digest_size=8)
        pieces = sentence.split()
        words += len(pieces)
        content = "".join(pieces).casefold().encode()
        whole.update(content)
        part.update(content)
    if whole is not None:
        texts.add(words, _value(whole))
        texts.parts.append(_value(part))
    return texts


def _sentences(path: Path) -> Iterator[tuple[int, int, str]]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=["document", "paragraph", "text"]):
        yield from zip(*(batch[name].to_pylist() for name in ("document", "paragraph", "text")), strict=True)


def _value(digest) -> int:
    return int.from_bytes(digest.digest(), "little")


def _row_texts(frame: DataFrame) -> Texts:
    """The texts of a task's rows. Both texts of a pair count as one."""
    texts = Texts()
    for row in zip(*(frame[name] for name in _text_columns(frame)), strict=True):
        parts = [text.split() for text in row]
        content = "\0".join("".join(pieces) for pieces in parts).casefold()
        texts.add(sum(map(len, parts)), _value(hashlib.blake2b(content.encode(), digest_size=8)))
    return texts


def _text_columns(frame: DataFrame) -> list[str]:
    return [name for name in ("text", "text_pair") if name in frame]


def _probe_rows(folder: Path, task: ProbeTask, split: str) -> DataFrame:
    import pandas as pd

    return pd.read_parquet(folder / f"probe-{task.name}-{split}.parquet")


def _task_facts(task: ProbeTask, name: str, rows: Callable[[str], DataFrame], warnings: list[str],
                known: np.ndarray | None = None) -> dict[str, dict]:
    """Facts about both splits of a task.

    name: of the task in warnings. rows: the rows of a split. known: hashes of the training text of the corpus, sorted;
    without them, rows are not looked up there.
    """
    facts: dict[str, dict] = {}
    training = np.array([], np.uint64)
    for split in ("train", "test"):
        frame = rows(split)
        texts = _row_texts(frame)
        counts = frame.label.value_counts()
        labels = [(label, int(counts.get(number, 0))) for number, label in enumerate(task.labels)]
        empty = sum(frame[column].str.strip() == "" for column in _text_columns(frame))
        facts[split] = texts.facts("rows") | {"empty": int((empty > 0).sum()), "labels": labels}
        if known is not None:
            facts[split]["in_corpus"] = int(np.isin(texts.hashes, known).sum())
            _warn_of_overlap(warnings, facts[split]["in_corpus"], len(frame),
                             f"{split} rows of {name} are in the training text of the corpus")
        if split == "test":
            facts[split]["in_training"] = int(np.isin(texts.hashes, training).sum())
            _warn_of_overlap(warnings, facts[split]["in_training"], len(frame),
                             f"test rows of {name} are among its training rows")
        training = texts.hashes
        warnings += [f"{name}: the class {label} has only {count} {split} rows"
                     for label, count in labels if count < FEWEST_ROWS]
    return facts


def _warn_of_overlap(warnings: list[str], count: int, total: int, what: str) -> None:
    if total and count / total > MOST_OVERLAP:
        warnings.append(f"{count:,} of {total:,} ({count / total:.1%}) {what}")
