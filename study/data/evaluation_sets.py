"""The fixed evaluation sets of a study: rows, masks and sentence pairs, made once, saved and hashed.

Every arm is scored on the same rows under the same masks. A row is a window inside one held-out document or, if the
settings say so, of the text with [SEP] between documents. Mask sets:

    mask_only      15 %, all shown as [MASK]: the headline        mixed         15 %, 80/10/10
    whole_word     15 %, whole words, all [MASK]                  span          15 %, spans of 3 words, all [MASK]
    mask_only_40   40 %, all [MASK]

There are also fixed pairs of segments, laid out like the training rows of arms on segment pairs, half of them
consecutive text: `nsp`, where the others are segments of two documents, and `sop`, where the others are swapped. The
pairs of `nsp` have a mask set too:

    mask_only_pairs   15 %, all [MASK]

A text without two adjacent sentences in a document has no pairs. If the exact floor of the text is known, each set has
the Bayes-optimal NLL of every selected token, and each pair its exact log-odds.

Shapes: N rows, T positions, V vocabulary, S selected positions of a mask set.
"""
from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from study import StudyError, randomness
from study.config.schema import Examples, Masking
from study.data.batches import Rows, gather
from study.data.layouts import Segments, Spans, pair_layout, single_layout
from study.data.masking import mask_rows
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo

_ALL_MASK = {"mask": 1.0, "random": 0.0, "keep": 0.0}
_MIXED = {"mask": 0.8, "random": 0.1, "keep": 0.1}
SETS = {"mask_only": (0.15, _ALL_MASK, "token"), "mixed": (0.15, _MIXED, "token"),
        "whole_word": (0.15, _ALL_MASK, "whole-word"), "span": (0.15, _ALL_MASK, "span"),
        "mask_only_40": (0.40, _ALL_MASK, "token")}
PAIR_SET = "mask_only_pairs"                # masks of the pairs of `nsp`, drawn like those of mask_only


@dataclass(frozen=True)
class MaskSet:
    """One set of masks: `shown` ids (N, T), `corruption` (N, T) uint8, and `floor` (S,) nats, None if unknown."""
    shown: np.ndarray
    corruption: np.ndarray
    floor: np.ndarray | None


@dataclass(frozen=True)
class PairSet:
    """Pairs of segments: `rows` (N, T) with labels; `masks` of nsp, None for sop; and `log_odds` (N,), in nats, that a
    pair is consecutive given all its words, None if unknown. `documents` (N,): that of the first segment; None if not
    recorded."""
    rows: Rows
    masks: MaskSet | None
    log_odds: np.ndarray | None
    documents: np.ndarray | None = None

    @property
    def best_is_correct(self) -> np.ndarray | None:
        """Returns whether the best possible classifier is right, (N,) bool; None if it is unknown.

        It knows where sentences end. Lengths alone say little about the label.
        """
        return None if self.log_odds is None else (self.log_odds < 0) == (self.rows.label == 1)


@dataclass(frozen=True)
class EvaluationSet:
    """A fixed evaluation set: true `ids` (N, T), mask sets, `pairs` by task (nsp and sop; neither in a text that has
    none), `unigram` (V,) nats per token, the document of each row, `documents` (N,), None if not recorded, and
    `paragraphs`, padded rows for `examples.remasked`, None without."""
    ids: np.ndarray
    sets: dict[str, MaskSet]
    pairs: dict[str, PairSet]
    unigram: np.ndarray
    hash: str
    documents: np.ndarray | None = None
    paragraphs: Rows | None = None

    @property
    def unigram_nll(self) -> float:
        """Returns the NLL of unigram frequencies on [MASK] in rows of one segment, in nats."""
        return float(self.unigram[self.ids[self.sets["mask_only"].corruption > 0]].mean())


class ExactFloor(Protocol):
    """The best possible predictions, for a text drawn from a known distribution."""
    document_tokens: int
    """The floor holds within this many first tokens of a document, so rows are taken from there."""

    def nll(self, ids: np.ndarray, shown: np.ndarray, corruption: np.ndarray, offsets: np.ndarray,
            masking: Masking) -> np.ndarray:
        """Returns the Bayes-optimal NLL (S,) of the selected tokens, nats, row-major.

        ids, shown, corruption (N, T); offsets (N,): where in its document each row begins.
        """

    def context_perplexities(self, ids: np.ndarray, corruption: np.ndarray, offsets: np.ndarray,
                             floor: np.ndarray) -> dict[str, float]:
        """Returns the best perplexity given only a few words on each side, by the number of words.

        The arguments describe an all-[MASK] set; floor (S,) is its NLL.
        """

    def pair_nll(self, store: TokenStore, segments: Segments, spans: Spans, corruption: np.ndarray) -> np.ndarray:
        """Returns a lower bound of the mean NLL (S,) of the masked tokens of pairs, nats, row-major.

        segments and spans: the pairs (N,) before and after they were cut; corruption (N, T) of an all-[MASK] set.
        """

    def pair_log_odds(self, store: TokenStore, segments: Segments, spans: Spans, swap: bool) -> np.ndarray:
        """Returns the log-odds (N,), nats, that a pair is consecutive rather than swapped (`swap`) or random."""


def masking_of(name: str) -> Masking:
    """Returns the masking of one mask set."""
    rate, mix, selection = SETS[name]
    return Masking(mlm_probability=rate, selection=selection, span_mean=3.0, schedule="dynamic", dupe_factor=1, **mix)


def document_windows(store: TokenStore, length: int, rows: int, limit: int | None,
                     seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (starts, offsets in the document), both (N,), of at most `rows` windows of length - 2 tokens.

    A window is inside one document and, if `limit` is given, inside its first `limit` tokens. Raises StudyError if no
    document is long enough.
    """
    size = length - 2
    usable = store.document_ends - store.documents[:-1]
    usable = usable if limit is None else np.minimum(usable, limit)
    count = usable // size
    offset = (np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)) * size
    starts = np.repeat(store.documents[:-1], count) + offset
    if not len(starts):
        raise StudyError(f"examples.max_seq_length {length}: no held-out document has {size} tokens; choose a smaller "
                         f"length or, with real text, set examples.windows to text")
    chosen = np.sort(randomness.permutation(seed, randomness.SUBSET, len(starts))[:rows])
    return starts[chosen], offset[chosen]


def text_windows(store: TokenStore, length: int, rows: int, seed: int) -> np.ndarray:
    """Returns the starts (N,) of at most `rows` windows of length - 2 tokens of the whole text, which has [SEP] between
    documents. Raises StudyError if the text is shorter than a window."""
    size = length - 2
    starts = np.arange(len(store.ids) // size) * size
    if not len(starts):
        raise StudyError(f"examples.max_seq_length {length}: the held-out text has only {len(store.ids)} tokens; "
                         f"choose a smaller length")
    return np.sort(randomness.permutation(seed, randomness.SUBSET, len(starts))[:rows] * size)


def build_evaluation_set(settings: Examples, store: TokenStore, unigram: np.ndarray, tokenizer: TokenizerInfo,
                         rows: int, exact: ExactFloor | None = None, documents: bool = False,
                         paragraphs: int = 0) -> dict[str, np.ndarray]:
    """Returns the arrays of one evaluation set, as `load_evaluation_set` reads them.

    store: a held-out split. unigram (V,): nats per token. rows: how many at most; no more pairs either. exact: the
    floor, None if unknown, as it is for windows that span documents. documents: whether to record the document of each
    row (the first, if there are several), for comparisons over texts. paragraphs: how many of the first paragraphs are
    kept for `examples.remasked`. Raises StudyError if nothing can be masked.
    """
    if settings.windows == "text":
        starts, offsets = text_windows(store, settings.max_seq_length, rows, settings.seed), None
    else:
        starts, offsets = document_windows(store, settings.max_seq_length, rows, exact and exact.document_tokens,
                                           settings.seed)
    spans = Spans(starts, np.full(len(starts), settings.max_seq_length - 2))
    ids = gather(store.ids, spans, settings.max_seq_length, tokenizer, padded=False).ids
    arrays = {"ids": ids.astype(np.int32), "unigram": unigram}
    if documents:
        arrays["documents"] = store.document_of(starts).astype(np.int32)
    for name in SETS:
        masking = masking_of(name)
        masked = mask_rows(ids, tokenizer.is_ordinary[ids], ~tokenizer.is_continuation[ids], tokenizer, masking,
                           settings.seed, 0, np.arange(len(ids)))
        arrays |= {f"{name}/shown": masked.shown.astype(np.int32), f"{name}/kind": masked.corruption}
        if not masked.corruption.any():
            raise StudyError(_nothing_masked(ids, tokenizer))
        if exact is not None:
            # on a text without pieces of words, the masks of whole words are those of single tokens
            same = next((other for other in SETS if f"{other}/floor" in arrays and SETS[other][:2] == SETS[name][:2]
                         and np.array_equal(arrays[f"{other}/kind"], masked.corruption)), None)
            floor = arrays[f"{same}/floor"] if same else exact.nll(ids, masked.shown, masked.corruption, offsets,
                                                                   masking)
            arrays[f"{name}/floor"] = floor.round(12) + 0.0     # the last bit and -0 differ between machines
    if paragraphs:
        arrays |= _paragraphs(store, tokenizer, settings.max_seq_length, paragraphs)
    if why_no_pairs(store, settings.max_seq_length):
        return arrays
    return arrays | _pairs(settings, store, tokenizer, min(rows, settings.pair_rows), exact, documents)


def _nothing_masked(ids: np.ndarray, tokenizer: TokenizerInfo) -> str:
    unknown, ordinary = (ids == tokenizer.unk_id).mean(), tokenizer.is_ordinary[ids].sum()
    return (f"the evaluation rows have {ordinary} tokens that could be masked, and {unknown:.0%} of their tokens are "
            f"[UNK]; check the tokenizer (source, lowercase, strip_accents, word_splitting), or take more rows")


def why_no_pairs(store: TokenStore, length: int) -> str | None:
    """Returns why a text has no pairs of segments, None if it has."""
    try:
        pair_layout(store, "segment-pairs", length, swap=False)
    except StudyError as error:
        return str(error)
    return None


def _paragraphs(store: TokenStore, tokenizer: TokenizerInfo, length: int, count: int) -> dict[str, np.ndarray]:
    layout = single_layout(store, "paragraphs", length)
    spans = Spans(layout.starts[:count], layout.lengths[:count])
    rows = gather(store.ids, spans, length, tokenizer, padded=True)
    return {"paragraphs/ids": rows.ids.astype(np.int32), "paragraphs/attention": rows.attention_mask}


def _pairs(settings: Examples, store: TokenStore, tokenizer: TokenizerInfo, count: int,
           exact: ExactFloor | None, documents: bool) -> dict[str, np.ndarray]:
    arrays = {}
    for task, swap in (("nsp", False), ("sop", True)):
        layout = pair_layout(store, "segment-pairs", settings.max_seq_length, swap)
        example = np.sort(randomness.permutation(settings.seed, randomness.SUBSET, len(layout))[:count])
        segments = layout.segments(np.zeros_like(example), example, settings.seed)
        spans = layout.cut(segments)
        pairs = gather(store.ids, spans, settings.max_seq_length, tokenizer, padded=True)
        arrays |= {f"{task}/ids": pairs.ids.astype(np.int32), f"{task}/types": pairs.token_type_ids.astype(np.uint8),
                   f"{task}/attention": pairs.attention_mask, f"{task}/label": pairs.label.astype(np.uint8)}
        if documents:
            arrays[f"{task}/documents"] = store.document_of(segments.first).astype(np.int32)
        if exact is not None:
            arrays[f"{task}/log_odds"] = exact.pair_log_odds(store, segments, spans, swap).round(6) + 0.0
        if not swap:
            masked = mask_rows(pairs.ids, tokenizer.is_ordinary[pairs.ids], ~tokenizer.is_continuation[pairs.ids],
                               tokenizer, masking_of("mask_only"), settings.seed, 0, np.arange(len(pairs.ids)))
            arrays |= {f"{PAIR_SET}/shown": masked.shown.astype(np.int32), f"{PAIR_SET}/kind": masked.corruption}
            if exact is not None:
                floor = exact.pair_nll(store, segments, spans, masked.corruption)
                arrays[f"{PAIR_SET}/floor"] = floor.round(12) + 0.0
    return arrays


def content_hash(arrays: dict[str, np.ndarray]) -> str:
    """Returns the SHA-256 of names, types, shapes and values, which does not depend on how the file is compressed."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def load_evaluation_set(path: Path) -> EvaluationSet:
    """Returns the evaluation set in a file. Raises StudyError if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StudyError(f"{path}: no usable evaluation set ({error}); run `study examples` again") from None
    masks = {name: MaskSet(arrays[f"{name}/shown"].astype(np.int64), arrays[f"{name}/kind"],
                           arrays.get(f"{name}/floor")) for name in (*SETS, PAIR_SET) if f"{name}/shown" in arrays}
    pairs = {task: PairSet(Rows(arrays[f"{task}/ids"].astype(np.int64), arrays[f"{task}/types"].astype(np.int64),
                                arrays[f"{task}/attention"], arrays[f"{task}/label"].astype(np.int64)),
                           masks[PAIR_SET] if task == "nsp" else None, arrays.get(f"{task}/log_odds"),
                           arrays.get(f"{task}/documents"))
             for task in ("nsp", "sop") if f"{task}/ids" in arrays}
    paragraphs = arrays.get("paragraphs/ids")
    if paragraphs is not None:
        paragraphs = Rows(paragraphs.astype(np.int64), np.zeros(paragraphs.shape, np.int64),
                          arrays["paragraphs/attention"], None)
    return EvaluationSet(arrays["ids"].astype(np.int64), {name: masks[name] for name in SETS}, pairs,
                         arrays["unigram"], content_hash(arrays), arrays.get("documents"), paragraphs)
