"""The summaries of the tokenizer and of the examples: what becomes of the text as tokens."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from study.data.summary import MOST_UNKNOWN
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo

SAMPLE = 50_000                             # sentences, evenly spread, that the tokenizer is tried on
BLOCK_TOKENS = 1 << 24                      # tokens counted at once
SHOWN_WORDS = 5                             # unknown words in a warning
PREDICTED = "these are predicted only with `masking.unknown: true`"


def tokenizer_summary(backend, corpus: Path, quotable: bool, warnings: list[str]) -> dict:
    """Returns the summary of a tokenizer on the training text.

    corpus: the parquet file of the training split. quotable: whether words of the text may be shown. warnings: those
    about the vocabulary itself. Counts are over at least SAMPLE sentences, or all if the text has fewer.
    """
    unknown, counts, longest = Counter(), Counter(), 0
    unk_id = backend.token_to_id("[UNK]")
    for sentences in _sample(corpus):
        words = [word for sentence in sentences for word in sentence.split()]
        longest = max([longest, *map(len, words)])
        counts.update(sentences=len(sentences), words=len(words),
                      written_unknown=sum(sentence.count("[UNK]") for sentence in sentences))
        for sentence, encoded in zip(sentences, backend.encode_batch(sentences, add_special_tokens=False), strict=True):
            counts["pieces"] += len(encoded.ids)
            if unk_id in encoded.ids:
                unknown.update(sentence[slice(*offsets)] for index, offsets
                               in zip(encoded.ids, encoded.offsets, strict=True) if index == unk_id)
    result = {"vocabulary": backend.get_vocab_size(), **{name: counts[name] for name in (
        "sentences", "words", "pieces", "written_unknown")}, "unknown": unknown.total(), "longest_word": longest,
        "pieces_per_word": counts["pieces"] / max(1, counts["words"]), "warnings": list(warnings)}
    if unknown.total() > MOST_UNKNOWN * counts["pieces"]:
        result["warnings"].append(_unknown_warning(result, unknown, quotable))
    return result


def _unknown_warning(facts: dict, unknown: Counter, quotable: bool) -> str:
    text = f"{facts['unknown'] / facts['pieces']:.1%} of the pieces of the training text are [UNK]"
    if facts["written_unknown"] > facts["unknown"] / 2:
        return f"{text}, most of them because the text itself says so; {PREDICTED}"
    words = [repr(word[:30]) for word, _ in unknown.most_common(SHOWN_WORDS)]
    shown = f" (most often {', '.join(words)})" if quotable else ""
    return (f"{text}{shown}; {PREDICTED}, so perplexities mislead. Check the vocabulary, `lowercase`, "
            f"`strip_accents` and `word_splitting`")


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
