"""A corpus folder: text as documents of paragraphs of sentences, the probe tasks, minimal pairs, and a manifest.

    train.parquet, validation.parquet, test.parquet   document, paragraph (int32 running numbers), text (one sentence)
    probe-<task>-train.parquet, probe-<task>-test.parquet   text, label
    pairs-<task>.parquet                              minimal pairs: good, bad, phenomenon, paradigm
    summary.json                                      what a reader should know before training (summary.py)
    manifest.json                                     counts, and the SHA-256 of the other files

corpus_text.py and corpus_synthetic.py provide the documents.
"""
from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from study import StudyError
from study.config.study import Study
from study.data.sources import SPLITS
from study.data.summary import corpus_summary
from study.data.tasks import write_pairs, write_task
from study.files import file_sha256, write_json

if TYPE_CHECKING:
    from pandas import DataFrame

Document = list[list[str]]                  # paragraphs of sentences


def write_corpus(study: Study, folder: Path, documents: Callable[[str], Iterable[Document]],
                 topic_rows: Callable[[str], DataFrame] | None, progress=lambda items, **_: items) -> dict:
    """Writes the corpus folder and returns the manifest.

    documents: the documents of a split. topic_rows: rows (text, label) of the synthetic corpus's probe task for a
    split, None for other text. Raises StudyError if a split or a probe task is unusable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits = {split: documents(split) for split in SPLITS}      # all opened first: a missing split fails at once
    counts: dict[str, int] = {}
    empty, remarks = Counter(), []
    for split in SPLITS:
        text = _not_empty(progress(splits[split], description=f"corpus {split}"), empty, split)
        counts |= write_documents(text, folder / f"{split}.parquet", f"{study.settings.name}: {split}")
    for task in study.settings.probe.tasks:
        counts |= write_task(study, task, folder, topic_rows, remarks)
    for pairs in study.settings.evaluation.minimal_pairs:
        counts |= write_pairs(study, pairs, folder)
    write_json(folder / "summary.json", corpus_summary(study, folder, empty, remarks), ensure_ascii=False)
    files = sorted(path for path in folder.iterdir() if path.suffix != ".json")
    manifest = {"counts": counts, "sha256": {path.name: file_sha256(path) for path in files}}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return manifest


def _not_empty(documents: Iterable[Document], empty: Counter, split: str) -> Iterator[Document]:
    """The documents with text. The others are counted in `empty`."""
    for document in documents:
        if document:
            yield document
        else:
            empty[split] += 1


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
