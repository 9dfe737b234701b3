"""Batches as a pure function of the step: rows are gathered from the memory map and then given targets.

Which tokens of a row are targets, and what the encoder sees in their place, is decided by the objective
(study/objectives), which is passed in.

Shapes: N rows, T positions, S positions with a target.
"""
from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from study import randomness
from study.config.schema import RunConfig
from study.data.layouts import PairLayout, SingleLayout, Spans, pair_layout, single_layout
from study.data.masking import draw_epoch
from study.data.paragraph_pairs import ParagraphPairs, paragraph_pairs
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo

PAIR_FORMATS = ("segment-pairs", "sentence-pairs", "paragraph-pairs")
REPEATED_ROWS = 100                         # rows that the copies of `inputs.repeated_fraction` have the text of
ROUND = 32                                  # micro-batches have a multiple of this number of positions


@dataclass(frozen=True)
class Rows:
    """Rows of tokens without targets.

    ids, token_type_ids (N, T) int64. attention_mask (N, T) bool; None if no row is padded. label (N,): 0 if the second
    segment follows the first, else 1; None without pairs.
    """
    ids: np.ndarray
    token_type_ids: np.ndarray
    attention_mask: np.ndarray | None
    label: np.ndarray | None


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    input_ids (N, T): what the encoder sees. positions (S,): flat indices into (N T), sorted. targets (S,): the labels
    there. tokens: number of tokens without padding. corruption (N, T): index into masking.CORRUPTIONS; None if the
    objective corrupts nothing.
    """
    input_ids: np.ndarray
    token_type_ids: np.ndarray
    attention_mask: np.ndarray | None
    positions: np.ndarray
    targets: np.ndarray
    next_sentence_label: np.ndarray | None
    tokens: int
    corruption: np.ndarray | None


class BatchMaker(Protocol):
    """The part of an objective that makes batches."""
    config: RunConfig

    @property
    def swap_segments(self) -> bool:
        """Whether the negatives among segment pairs are swapped segments rather than segments of other documents."""

    def make_batch(self, rows: Rows, tokenizer: TokenizerInfo, seed: int, epoch: np.ndarray,
                   example: np.ndarray) -> Batch:
        """Returns the rows with targets; epoch and example (N,) name the random draws."""


def gather(ids: np.ndarray, spans: Spans, length: int, tokenizer: TokenizerInfo, padded: bool) -> Rows:
    """Returns rows (N, length) of token spans with their special tokens. The second span has token type 1."""
    t = np.arange(length)[None]
    first = spans.first_length[:, None]
    index = spans.first[:, None] + t - 1
    used, separators, types = first + 2, t == first + 1, None
    if spans.second is not None:
        types = t > first + 1
        index = np.where(types, spans.second[:, None] + t - first - 2, index)
        used = first + spans.second_length[:, None] + 3
        separators = separators | (t == used - 1)
    rows = np.asarray(ids[np.clip(index, 0, len(ids) - 1)], np.int64)
    rows[np.broadcast_to(separators, rows.shape)] = tokenizer.sep_id
    rows[:, 0] = tokenizer.cls_id
    mask = None
    if padded:
        mask = np.array(np.broadcast_to(t < used, rows.shape))
        rows[~mask] = tokenizer.pad_id
    types = np.zeros_like(rows) if types is None else (types & (t < used)).astype(np.int64)
    return Rows(rows, types, mask, spans.label)


def with_targets(rows: Rows, input_ids: np.ndarray, has_target: np.ndarray, labels: np.ndarray,
                 corruption: np.ndarray | None) -> Batch:
    """Returns a batch with the targets `labels` (N, T) wherever `has_target` (N, T)."""
    tokens = rows.ids.size if rows.attention_mask is None else int(rows.attention_mask.sum())
    positions = np.flatnonzero(has_target)
    return Batch(input_ids, rows.token_type_ids, rows.attention_mask, positions, labels.reshape(-1)[positions],
                 rows.label, tokens, corruption)


def predicted(fraction: float, length: int, seed: int, epoch: np.ndarray, example: np.ndarray) -> np.ndarray:
    """Returns which positions stay targets if only this fraction of them do: (N, length) bool. epoch, example (N,)."""
    u = randomness.uniforms(seed, randomness.PREDICT, epoch[:, None], example[:, None], np.arange(length)[None])
    return u < fraction


class BatchSource:
    """The batches of a run at one row length: `batch(step)` depends only on the arguments given here and the step."""

    def __init__(self, store: TokenStore, tokenizer: TokenizerInfo, objective: BatchMaker, seed: int, length: int,
                 batch_size: int, mask_seed: int | None = None):
        """seed: of the order and the text of the rows. mask_seed: of what the objective draws; None: the same.
        batch_size: rows per batch. If `inputs.batch` is `tokens` and rows are padded, there are more rows, so that
        a batch has about as many tokens as that number of full rows."""
        self.store, self.tokenizer, self.seed, self.length = store, tokenizer, seed, length
        self.mask_seed = seed if mask_seed is None else mask_seed
        self.objective, self.config = objective, objective.config
        self.layout = layout_of(store, self.config.inputs.format, length, objective.swap_segments, seed)
        self.rows = max(1, round(len(self.layout) * self.config.training.data_fraction))
        by_tokens = self.config.inputs.batch == "tokens" and self.layout.padded
        self.batch_size = round(batch_size * (length / self.layout.mean_tokens if by_tokens else 1.0))
        self._order: dict[int, np.ndarray] = {}             # epoch -> permutation of the rows

    def _examples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Epoch and example index (N,) of the rows of a step."""
        number = step * self.batch_size + np.arange(self.batch_size)
        epoch, place = number // self.rows, number % self.rows
        for needed in np.unique(epoch).tolist():
            if needed not in self._order:
                self._order = {e: order for e, order in self._order.items() if e >= epoch[0]}
                self._order[needed] = randomness.permutation(self.seed, randomness.ORDER, self.rows, needed)
        example = np.concatenate([self._order[e][place[epoch == e]] for e in np.unique(epoch).tolist()])
        return epoch, example

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step, counted from 0."""
        return self.rows_of(*self._examples(step))

    def rows_of(self, epoch: np.ndarray, example: np.ndarray) -> Batch:
        """Returns the examples (N,) as they appear in the epochs (N,). With static masking, masks and pairs repeat."""
        epoch = draw_epoch(self.config.masking, epoch)
        spans = self.layout.spans(epoch, self.text_of(example), self.seed)
        rows = gather(self.store.ids, spans, self.length, self.tokenizer, self.layout.padded)
        return self.objective.make_batch(rows, self.tokenizer, self.mask_seed, epoch, example)


    def text_of(self, example: np.ndarray) -> np.ndarray:
        """The row (N,) whose text each example has: its own, or a repeated one. Masks stay those of the example."""
        fraction = self.config.inputs.repeated_fraction
        if not fraction:
            return example
        repeated = randomness.uniforms(self.seed, randomness.REPEAT, example) < fraction
        return np.where(repeated, example % max(1, min(REPEATED_ROWS, self.rows // 10)), example)


def layout_of(store: TokenStore, form: str, length: int, swap_segments: bool = False,
              seed: int = 0) -> SingleLayout | PairLayout | ParagraphPairs:
    """Returns the layout of an input format in rows of `length` tokens. seed: of pairs that are drawn once."""
    if form == "paragraph-pairs":
        return paragraph_pairs(store, length, seed)
    if form in PAIR_FORMATS:
        return pair_layout(store, form, length, swap=swap_segments)
    return single_layout(store, form, length)


def micro_batches(batch: Batch, count: int) -> Iterator[tuple[np.ndarray | None, ...]]:
    """Yields the batch in `count` parts of equally many rows, give or take one; one part per row if there are fewer.

    A part has the arguments of PretrainingModel.forward: input_ids, token_type_ids, attention_mask, positions, targets,
    next_sentence_label. Positions without a target are appended up to a multiple of ROUND. Otherwise every step would
    have its own number of positions, and matrix products of a new shape are slow the first time.
    """
    rows, length = batch.input_ids.shape
    bounds = np.linspace(0, rows, min(count, rows) + 1).round().astype(int).tolist()
    for begin, end in itertools.pairwise(bounds):
        part = slice(begin, end)
        inside = (batch.positions >= begin * length) & (batch.positions < end * length)
        positions = batch.positions[inside] - begin * length
        yield (batch.input_ids[part], batch.token_type_ids[part],
               None if batch.attention_mask is None else batch.attention_mask[part],
               np.pad(positions, (0, -len(positions) % ROUND)), batch.targets[inside],
               None if batch.next_sentence_label is None else batch.next_sentence_label[part])


def blocks(count: int, size: int) -> Iterator[slice]:
    """Yields slices of at most `size` rows that cover `count` rows."""
    return (slice(begin, min(begin + size, count)) for begin in range(0, count, size))


def prefetch(source: BatchSource, steps: range, depth: int = 2) -> Iterator[Batch]:
    """Yields `source.batch(step)` for each step. A thread makes up to `depth` batches ahead."""
    ready: queue.Queue = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def offer(item) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for step in steps:
                if stop.is_set():
                    return
                offer(source.batch(step))
        except BaseException as error:      # passed to the consumer, which raises it
            offer(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in steps:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
