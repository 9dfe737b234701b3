"""The summaries of the tokenizer and of the examples: what becomes of the text as tokens."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from study.config.schema import Tokenizer
from study.config.study import Study
from study.data.scripts import marks_lost
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo
from study.data.unknown import MOST_UNKNOWN, PREDICTED, UnknownCounts, task_warnings, text_warnings

SAMPLE = 50_000                             # sentences, evenly spread, that the tokenizer is tried on
BLOCK_TOKENS = 1 << 24                      # tokens counted at once
MOST_MARKS = 0.01                           # share of marks that are removed, above which words cannot be told apart


def tokenizer_summary(study: Study, backend, warnings: list[str]) -> dict:
    """Returns the summary of the study's tokenizer on its training text.

    warnings: those about the vocabulary itself. Counts are over at least SAMPLE sentences, or all if the text has
    fewer. Counts of characters are there only if more than MOST_UNKNOWN of them are [UNK] and the share of pieces is
    smaller. Rows of probe tasks are in the warnings only.
    """
    corpus, settings = study.runs / "corpus", study.settings.tokenizer
    unknown, sentences, words, longest, marks = UnknownCounts(), 0, 0, 0, 0
    removes_marks = _removes_marks_unasked(settings)
    for batch in _sample(corpus / "train.parquet"):
        lengths = [len(word) for sentence in batch for word in sentence.split()]
        longest = max([longest, *lengths])
        sentences, words = sentences + len(batch), words + len(lengths)
        unknown.add(backend, batch)
        marks += sum(map(marks_lost, batch)) if removes_marks else 0
    result = {"vocabulary": backend.get_vocab_size(), "sentences": sentences, "words": words, "pieces": unknown.pieces,
              "written_unknown": unknown.written, "unknown": unknown.unknown, "longest_word": longest,
              "pieces_per_word": unknown.pieces / max(1, words)}
    if unknown.characters_say_more():
        result |= {"characters": unknown.characters, "unknown_characters": unknown.unknown_characters}
    result["warnings"] = [*warnings, *text_warnings(unknown, settings, study.quotable),
                          *_mark_warnings(marks, unknown.characters)]
    for task in study.settings.probe.tasks:
        result["warnings"] += task_warnings(backend, task.name, [corpus / f"probe-{task.name}-{split}.parquet"
                                                                 for split in ("train", "test")])
    return result


def _removes_marks_unasked(settings: Tokenizer) -> bool:
    """Whether a vocabulary is made for text without marks because that is the default."""
    return settings.source == "train" and settings.lowercase and settings.strip_accents is None


def _mark_warnings(marks: int, characters: int) -> list[str]:
    if marks <= MOST_MARKS * characters:
        return []
    return [f"`lowercase: true` also removes accents, and with them vowel signs and other marks of Thai, Indic scripts "
            f"or kana: {100 * marks / characters:.1f} per 100 characters of the training text. Different words then "
            f"look the same; set tokenizer.strip_accents to false"]


def _sample(corpus: Path) -> Iterator[list[str]]:
    """Batches of sentences from row groups that are evenly spread over the file."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(corpus)
    step = max(1, file.metadata.num_rows // SAMPLE)
    for number in range(0, file.metadata.num_row_groups, step):
        yield file.read_row_group(number, columns=["text"])["text"].to_pylist()


def examples_summary(stores: dict[str, TokenStore], tokenizer: TokenizerInfo, length: int, pairs: str | None) -> dict:
    """Returns the summary of the token stores by split. length: tokens of a row. pairs: why there are no pairs of
    segments, None if there are."""
    splits, warnings = {}, []
    for split, store in stores.items():
        unknown = sum(int((store.ids[begin:begin + BLOCK_TOKENS] == tokenizer.unk_id).sum())
                      for begin in range(0, len(store.ids), BLOCK_TOKENS))
        lengths = store.document_ends - store.documents[:-1]
        splits[split] = {"tokens": len(store.ids), "documents": len(lengths), "unknown": unknown,
                         "shorter_than_row": int((lengths < length - 2).sum()), "longest": int(np.max(lengths))}
        if unknown > MOST_UNKNOWN * len(store.ids):
            warnings.append(f"{unknown / len(store.ids):.1%} of the tokens of the split {split} are [UNK]; "
                            f"{PREDICTED}")
    if pairs is not None:
        warnings.append(f"no arm is scored on pairs of segments. {pairs[:1].upper()}{pairs[1:]}")
    return {"splits": splits, "pairs": pairs is None, "warnings": warnings}
