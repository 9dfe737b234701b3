"""Text as documents of paragraphs of sentences, with a manifest of what was loaded.

Written to a folder: `train.parquet`, `validation.parquet`, `test.parquet` (columns document, paragraph: int32 running
numbers; text: one sentence), `probe-<task>-train.parquet` and `-test.parquet` (text, label), `manifest.json` (counts
and SHA-256 of each) and, for the synthetic language, `lexicon.txt` and the topics' exact references.
"""
from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from study import StudyError, randomness
from study.config.load import Study
from study.config.schema import ProbeTask, Synthetic, Text

SPLITS = ("train", "validation", "test")
Document = list[list[str]]                  # paragraphs of sentences
_JOINED = re.compile(r" @([-,.])@ ")        # WikiText writes "3 @,@ 000" for "3,000"
_TITLE = re.compile(r"^ = [^=].* = \s*$")


def data_folder(root: Path) -> Path:
    """Where local copies of corpora lie: STUDY_DATA, or data/ beside experiments/."""
    return Path(os.environ.get("STUDY_DATA") or root / "data")


def write_corpus(study: Study, folder: Path, progress=lambda items, **_: items) -> dict:
    """Writes the study's corpus and its probe tasks to `folder`; returns the manifest. `progress` wraps iterables."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = study.settings.corpus
    if isinstance(settings, Synthetic):
        language = synthetic_language(settings)
        (folder / "lexicon.txt").write_text("".join(f"{word}\n" for word in language.words))
        splits = {split: _synthetic_documents(language, settings, split) for split in SPLITS}
    else:
        splits = {split: _text_documents(study, settings, split) for split in SPLITS}
    counts: dict[str, int] = {}
    for split in SPLITS:
        counts |= _write_documents(progress(splits[split], description=f"corpus {split}"), folder / f"{split}.parquet",
                                   f"{study.settings.name}: {split}")
    for task in study.settings.probe.tasks:
        counts |= _write_task(study, task, folder)
    files = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    manifest = {"counts": counts, "sha256": {path.name: file_hash(path) for path in files}}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return manifest


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def synthetic_language(settings: Synthetic):
    """The language of a synthetic corpus, from its settings."""
    from study.data.synthetic import Language

    names = ("seed", "topics", "themes", "general", "topical", "thematic", "mixture", "advance", "smoothing")
    return Language(**{name: getattr(settings, name) for name in names})


def _spoken(language, documents: Iterable[list[list[int]]]) -> Iterator[list[str]]:
    for sentences in documents:
        yield [" ".join(language.words[word] for word in sentence) for sentence in sentences]


def _synthetic_documents(language, settings: Synthetic, split: str) -> Iterator[Document]:
    seed = settings.seed * 1000 + 1 + SPLITS.index(split)
    _, documents = language.sample(settings.documents[split], settings.document_tokens, seed)
    return ([sentences] for sentences in _spoken(language, documents))


def _text_documents(study: Study, settings: Text, split: str) -> Iterator[Document]:
    rows = load_rows(study, settings.path, settings.name, settings.revision, settings.local, split,
                     settings.splits[split], (settings.column,))
    texts = _nonnull(rows, settings.column, settings.path, split)
    documents = _wikitext_articles(texts) if settings.layout == "wikitext" else (text.split("\n") for text in texts)
    if split == "train" and settings.max_documents is not None:
        documents = itertools.islice(documents, settings.max_documents)
    return (_sentences(paragraphs, settings.language) for paragraphs in documents)


LONGEST = 10_000_000                        # characters a row; the longest article of Wikipedia has about two million


def _nonnull(rows, column: str, path: str, split: str) -> Iterator[str]:
    for index, row in enumerate(rows):
        if not isinstance(row[column], str):
            raise StudyError(f"{path} ({split}): row {index}: column {column!r} holds {row[column]!r:.40}, not text")
        if len(row[column]) > LONGEST:
            raise StudyError(f"{path} ({split}): row {index}: column {column!r} holds {len(row[column]):,} characters; "
                             f"split it into documents of at most {LONGEST:,}")
        yield row[column]


def _wikitext_articles(lines: Iterable[str]) -> Iterator[list[str]]:
    """Articles as lists of paragraphs. An article begins at ` = Title = ` with a blank line before and after it;
    other headings are left out; `@-@` is joined again and `<unk>` becomes [UNK], which is never a target."""
    article: list[str] = []
    before, line = "", None
    for after in itertools.chain(lines, [""]):
        if line is not None:
            if not before.strip() and not after.strip() and _TITLE.match(line):
                if article:
                    yield article
                article = []
            elif line.strip() and not line.startswith(" = "):
                article.append(_JOINED.sub(r"\1", line).replace("<unk>", "[UNK]"))
            before = line
        line = after
    if article:
        yield article


def _sentences(paragraphs: list[str], language: str) -> Document:
    from sentencex import segment

    split = ([s.strip() for s in segment(language, text) if s.strip()] for text in map(str.strip, paragraphs) if text)
    return [sentences for sentences in split if sentences]


def _write_documents(documents: Iterable[Document], path: Path, where: str) -> dict[str, int]:
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
        raise StudyError(f"{where}: {counts['documents']} documents with text; at least 2 are needed. Is it the right "
                         f"split, and the right `layout`?")
    return {f"{path.stem}_{name}": count for name, count in counts.items()}


def _blocks(documents: Iterable[Document], size: int = 500) -> Iterator[list[Document]]:
    documents = iter(documents)
    while block := list(itertools.islice(documents, size)):
        yield block


def _write_task(study: Study, task: ProbeTask, folder: Path) -> dict[str, int]:
    import pandas as pd

    counts = {}
    for split in ("train", "test"):
        frame = _topic_rows(study, split) if task.path == "corpus" else _task_rows(study, task, split)
        frame = _subset(frame, task.train_rows if split == "train" else task.test_rows)
        frame.to_parquet(folder / f"probe-{task.name}-{split}.parquet", index=False)
        counts[f"probe_{task.name}_{split}_rows"] = len(frame)
        found = sorted(pd.unique(frame.label).tolist())
        if found != list(range(len(task.labels))):
            raise StudyError(f"probe task {task.name} ({split}): labels {found} do not match "
                             f"the {len(task.labels)} names in probe.tasks.labels")
        fewest = int(frame.label.value_counts().min())
        if split == "train" and fewest < study.settings.probe.folds:
            raise StudyError(f"probe task {task.name}: a class has {fewest} training rows, fewer than probe.folds "
                             f"({study.settings.probe.folds}); give more in probe.tasks.train_rows")
    return counts


def _topic_rows(study: Study, split: str):
    import pandas as pd

    settings = study.settings.corpus
    if not isinstance(settings, Synthetic):
        raise StudyError("probe.tasks: path `corpus` is the synthetic corpus's topics; for text name a data set")
    language = synthetic_language(settings)
    topics, documents = language.sample_sentences(settings.probe_documents[split], *settings.probe_sentences,
                                                  settings.seed * 1000 + (11 if split == "train" else 12))
    return pd.DataFrame({"text": [" ".join(text) for text in _spoken(language, documents)],
                         "label": topics.astype("int64")})


def _task_rows(study: Study, task: ProbeTask, split: str):
    rows = load_rows(study, task.path, None, task.revision, task.local, split, task.splits[split],
                     (task.text, task.label))
    frame = rows.to_pandas()[[task.text, task.label]].set_axis(["text", "label"], axis=1)
    if frame.isna().any(axis=None):
        raise StudyError(f"{task.path} ({split}): row {int(frame.isna().any(axis=1).argmax())} has no text or label")
    if not (words := frame.text.map(lambda text: isinstance(text, str))).all():
        index = int((~words).argmax())
        raise StudyError(f"{task.path} ({split}): row {index}: column {task.text!r} holds {frame.text[index]!r:.40}, "
                         f"not text")
    return frame


def _subset(frame, rows: int | None):
    """The first `rows` of each class in a seeded order, as equal in number as they go; all when rows is None."""
    if rows is None or rows >= len(frame):
        return frame
    shuffled = frame.iloc[randomness.permutation(0, randomness.SUBSET, len(frame))]
    rank = shuffled.groupby("label").cumcount().to_numpy()
    return shuffled.iloc[np.sort(np.argsort(rank, kind="stable")[:rows])].reset_index(drop=True)


def load_rows(study: Study, path: str, name: str | None, revision: str | None, local: str | None, split: str,
              expression: str, columns: tuple[str, ...]):
    """A `datasets.Dataset` of one split: from the local folder where it is there, else from the hub.

    Raises StudyError when neither can be had, with what to put where, or when a column is missing.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)     # what goes wrong is said below, in a line
    place = data_folder(study.root) / local / f"{split}.parquet" if local else None
    try:
        if place is not None and place.exists():
            rows = datasets.load_dataset("parquet", data_files={split: str(place)}, split=split)
        else:
            os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "20")
            rows = datasets.load_dataset(path, name, revision=revision, split=expression)
    except Exception as error:  # the hub client raises a family of unrelated classes: all of them end here
        reason = " ".join(str(error.__cause__ or error).split())[:160]
        if place is not None and place.exists():
            raise StudyError(f"{place}: " + ("holds no rows; put the split's text there" if _empty(place) else
                                             f"cannot be read as parquet: {reason}")) from None
        put = f"; put {split}.parquet in {place.parent}" if place is not None else ""
        raise StudyError(f"study {study.settings.name}: {path} ({split}) could not be loaded from the hub"
                         f"{put} (or set STUDY_DATA to the folder that holds {local}/): {reason}") from None
    if missing := [column for column in columns if column not in rows.column_names]:
        raise StudyError(f"{place or path} ({split}): no column {missing[0]!r}; it has {', '.join(rows.column_names)}")
    return rows


def _empty(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path).num_rows == 0
    except (OSError, pa.ArrowException):
        return False
