"""The corpus stage of a real-text study: WikiText or any data set of documents, from the hub or a local folder."""
from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from study import StudyError
from study.config.study import Study
from study.data.corpus import Document, load_rows, write_corpus

LONGEST_ROW = 10_000_000                    # characters; the longest article of Wikipedia has about two million

_SPLIT_MARKS = re.compile(r" @([-,.])@ ")   # WikiText writes "3 @,@ 000" for "3,000"
_TITLE = re.compile(r"^ = [^=].* = \s*$")


def write_text_corpus(study: Study, folder: Path, progress=lambda items, **_: items) -> dict:
    """Writes the corpus folder (see corpus.py) and returns its manifest. `progress` wraps iterables."""
    return write_corpus(study, folder, partial(_documents, study), None, progress)


def _documents(study: Study, split: str) -> Iterator[Document]:
    settings = study.settings.corpus
    rows = load_rows(study, settings, split, (settings.column,), settings.name)
    texts = _checked_texts(rows, settings.column, settings.path, split)
    documents = (_wikitext_articles(texts, settings.headings) if settings.layout == "wikitext"
                 else (text.split("\n") for text in texts))
    if split == "train" and settings.max_documents is not None:
        documents = itertools.islice(documents, settings.max_documents)
    return (_sentences(paragraphs, settings.language, settings.min_characters) for paragraphs in documents)


def _checked_texts(rows, column: str, path: str, split: str) -> Iterator[str]:
    for index, row in enumerate(rows):
        if not isinstance(row[column], str):
            raise StudyError(f"{path} ({split}): row {index}: column {column!r} holds {row[column]!r:.40}, not text")
        if len(row[column]) > LONGEST_ROW:
            raise StudyError(f"{path} ({split}): row {index}: column {column!r} has {len(row[column]):,} characters; "
                             f"split it into documents of at most {LONGEST_ROW:,}")
        yield row[column]


def _wikitext_articles(lines: Iterable[str], headings: bool) -> Iterator[list[str]]:
    """Yields articles as lists of paragraphs.

    An article begins at ` = Title = ` with a blank line before and after it. Unless `headings` are kept, lines that
    begin with ` = ` are left out. `@-@` becomes `-`, and `<unk>` becomes [UNK], which is never a target.
    """
    article: list[str] = []
    before, line = "", None
    for after in itertools.chain(lines, [""]):
        if line is not None:
            if not before.strip() and not after.strip() and _TITLE.match(line):
                if article:
                    yield article
                article = [_plain(line)] if headings else []
            elif line.strip() and (headings or not line.startswith(" = ")):
                article.append(_plain(line))
            before = line
        line = after
    if article:
        yield article


def _plain(line: str) -> str:
    return _SPLIT_MARKS.sub(r"\1", line).replace("<unk>", "[UNK]")


def _sentences(paragraphs: list[str], language: str, min_characters: int) -> Document:
    """The sentences of the paragraphs that have more than `min_characters` characters."""
    from sentencex import segment

    split = ([s.strip() for s in segment(language, text) if s.strip()] for text in map(str.strip, paragraphs)
             if len(text) > min_characters)
    return [sentences for sentences in split if sentences]
