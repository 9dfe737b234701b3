"""The corpus stage of a real-text study: WikiText or any data set of documents, from the hub or a local folder."""
from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from study import StudyError
from study.config.study import Study
from study.data.corpus import Document, write_corpus
from study.data.sources import check_local_files, load_rows

LONGEST_ROW = 10_000_000                    # characters; the longest article of Wikipedia has about two million

_SPLIT_MARKS = re.compile(r" @([-,.])@ ")   # WikiText writes "3 @,@ 000" for "3,000"
_TITLE = re.compile(r"^ = [^=].* = \s*$")


def write_text_corpus(study: Study, folder: Path, progress=lambda items, **_: items) -> dict:
    """Writes the corpus folder (see corpus.py) and returns its manifest. `progress` wraps iterables.

    Raises StudyError if the text is unusable or its language is unknown.
    """
    check_language(study.settings.corpus.language)
    check_local_files(study)
    return write_corpus(study, folder, partial(_documents, study), None, progress)


def check_language(code: str) -> None:
    """Raises StudyError if `code` is no language: sentences would be split as in English without a word."""
    from babel import Locale

    names = Locale("en").languages
    if code not in names or "_" in code:
        by_name = {name.casefold(): known for known, name in names.items()}
        begin = re.split(r"[-_]", code.casefold())[0]
        hint = by_name.get(code.casefold()) or (begin if begin in names else None)
        raise StudyError(f"corpus.language: {code!r} is not an ISO 639 code"
                         + (f"; did you mean {hint}?" if hint else ", for example en, de or zh"))


def _documents(study: Study, split: str) -> Iterator[Document]:
    settings = study.settings.corpus
    rows = load_rows(study, settings, split, (settings.column,), settings.name)
    texts = _checked_texts(rows, settings.column, settings.local or settings.path, split)
    verbatim = settings.sentences == "periods"
    if settings.layout == "sentences":
        documents: Iterator = _sentence_documents(texts)
    elif settings.layout == "wikitext":
        documents = _wikitext_articles(texts, settings.headings, verbatim)
    else:
        documents = (text.split("\n") for text in texts)
    if split == "train" and settings.max_documents is not None:
        documents = itertools.islice(documents, settings.max_documents)
    if settings.layout == "sentences":
        return ([sentences] for sentences in documents)
    if verbatim:
        return (_split_at_periods(paragraphs, settings.min_characters) for paragraphs in documents)
    return (_sentences(paragraphs, settings.language, settings.min_characters) for paragraphs in documents)


def _sentence_documents(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yields documents of one sentence per line with a blank line after each, as BERT's `create_pretraining_data.py`
    reads them."""
    for has_text, group in itertools.groupby((line.strip() for line in lines), key=bool):
        if has_text:
            yield list(group)


def _checked_texts(rows, column: str, path: str, split: str) -> Iterator[str]:
    for index, row in enumerate(rows):
        if not isinstance(row[column], str):
            raise StudyError(f"{path} ({split}): row {index}: column {column!r} holds {row[column]!r:.40}, not text")
        if len(row[column]) > LONGEST_ROW:
            raise StudyError(f"{path} ({split}): row {index}: column {column!r} has {len(row[column]):,} characters; "
                             f"split it into documents of at most {LONGEST_ROW:,}")
        yield row[column]


def _wikitext_articles(lines: Iterable[str], headings: bool, verbatim: bool = False) -> Iterator[list[str]]:
    """Yields articles as lists of paragraphs.

    An article begins at ` = Title = ` with a blank line before and after it. Unless `headings` are kept, lines that
    begin with ` = ` are left out. `<unk>` becomes [UNK]. `@-@` becomes `-`; with `verbatim` it stays.
    """
    article: list[str] = []
    before, line = "", None
    for after in itertools.chain(lines, [""]):
        if line is not None:
            if not before.strip() and not after.strip() and _TITLE.match(line):
                if article:
                    yield article
                article = [_plain(line, verbatim)] if headings else []
            elif line.strip() and (headings or not line.startswith(" = ")):
                article.append(_plain(line, verbatim))
            before = line
        line = after
    if article:
        yield article


def _plain(line: str, verbatim: bool) -> str:
    return (line if verbatim else _SPLIT_MARKS.sub(r"\1", line)).replace("<unk>", "[UNK]")


def _sentences(paragraphs: list[str], language: str, min_characters: int) -> Document:
    """The sentences of the paragraphs that have more than `min_characters` characters."""
    from sentencex import segment

    split = ([s.strip() for s in segment(language, text) if s.strip()] for text in map(str.strip, paragraphs)
             if len(text) > min_characters)
    return [sentences for sentences in split if sentences]


def _split_at_periods(paragraphs: list[str], min_characters: int) -> Document:
    """Paragraphs of more than `min_characters` characters with " . ", split there (d2l.ai, "The Dataset for Pretraining
    BERT").

    The line break at the end of a line of WikiText counts as a piece, so a paragraph of one sentence stays, and the
    last sentence of every paragraph keeps its " .".
    """
    kept = (paragraph for paragraph in paragraphs
            if len(paragraph.strip()) > min_characters and len(paragraph.split(" . ")) >= 2)
    return [[sentence for sentence in paragraph.strip().split(" . ") if sentence.strip()] for paragraph in kept]
