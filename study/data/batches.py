"""Batches as a pure function of the step: rows gathered from the memory map, masked all at once.

Shapes: N rows, T positions, S selected positions in the batch.
"""
from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from study import randomness
from study.config.schema import PAIRS, RunConfig
from study.data.examples import PairLayout, SingleLayout, Spans, TokenStore, pair_layout, single_layout
from study.data.masking import mask_rows
from study.data.tokenizer_info import TokenizerInfo


@dataclass(frozen=True)
class Rows:
    """Unmasked rows. `attention_mask` (N, T) bool is None when no row is padded; `label` (N,) is None without pairs."""
    ids: np.ndarray                         # (N, T) int64
    token_type_ids: np.ndarray              # (N, T) int64
    attention_mask: np.ndarray | None
    label: np.ndarray | None


@dataclass(frozen=True)
class Batch:
    """What one step trains on. `positions` (S,) are flat indices into (N T); `targets` (S,) the true ids there."""
    input_ids: np.ndarray
    token_type_ids: np.ndarray
    attention_mask: np.ndarray | None
    positions: np.ndarray
    targets: np.ndarray
    next_sentence_label: np.ndarray | None
    tokens: int                             # real tokens, padding left out
    corruption: np.ndarray | None                 # (N, T) index into masking.CORRUPTIONS; None left to right


def gather(ids: np.ndarray, spans: Spans, length: int, tokenizer: TokenizerInfo, padded: bool) -> Rows:
    """Rows (N, length) from token spans; the second span, where there is one, has token type 1."""
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


class BatchSource:
    """`batch(step)` for a cell: data order, pairs and masks depend on (seed, step) alone."""

    def __init__(self, store: TokenStore, tokenizer: TokenizerInfo, config: RunConfig, seed: int, length: int, batch_size: int):
        self.store, self.tokenizer, self.config, self.seed, self.length = store, tokenizer, config, seed, length
        self.layout = layout_of(store, config, length)
        self.rows = max(1, round(len(self.layout) * config.training.data_share))
        fill = length / self.layout.mean_tokens if config.inputs.batch == "tokens" and self.layout.padded else 1.0
        self.batch_size = round(batch_size * fill)      # rows; more of them where padded ones are to give equal tokens
        self._order: dict[int, np.ndarray] = {}

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
        """The rows of one step, masked; step counts from 0."""
        return self.rows_of(*self._examples(step))

    def rows_of(self, epoch: np.ndarray, example: np.ndarray) -> Batch:
        """The named examples (N,) as they are shown at the named epochs (N,). Static: pairs and masks come back."""
        if self.config.masking.schedule == "static":
            epoch = epoch % self.config.masking.dupe_factor
        rows = gather(self.store.ids, self.layout.spans(epoch, example, self.seed), self.length,
                      self.tokenizer, self.layout.padded)
        if self.config.objective.sentence_objective == "none":
            rows = replace(rows, label=None)
        if self.config.objective.token_objective == "causal":
            return causal_batch(rows, self.tokenizer)
        return masked_batch(rows, self.tokenizer, self.config, self.seed, epoch, example)


def layout_of(store: TokenStore, config: RunConfig, length: int) -> SingleLayout | PairLayout:
    """The layout that a cell's inputs ask for."""
    if config.inputs.format in PAIRS:
        return pair_layout(store, config.inputs.format, length, swap=config.objective.sentence_objective == "sop")
    return single_layout(store, config.inputs.format, length)


def masked_batch(rows: Rows, tokenizer: TokenizerInfo, config: RunConfig, seed: int, epoch: np.ndarray, example: np.ndarray) -> Batch:
    """Masks rows as the cell's settings say; a part of the selected may be corrupted but not predicted."""
    masked = mask_rows(rows.ids, tokenizer.is_ordinary[rows.ids], ~tokenizer.is_continuation[rows.ids], tokenizer,
                       config.masking, seed, epoch, example)
    targets = masked.selected
    if config.objective.target_fraction < 1:
        u = randomness.uniforms(seed, randomness.PREDICT, epoch[:, None], example[:, None],
                                np.arange(rows.ids.shape[1])[None])
        targets = targets & (u < config.objective.target_fraction)
    return _batch(rows, masked.shown, targets, rows.ids, masked.corruption)


def causal_batch(rows: Rows, tokenizer: TokenizerInfo) -> Batch:
    """Left-to-right: position t predicts the ordinary token at t + 1."""
    following = np.roll(rows.ids, -1, axis=1)
    targets = tokenizer.is_ordinary[following]
    targets[:, -1] = False
    return _batch(rows, rows.ids, targets, following, None)


def _batch(rows: Rows, shown: np.ndarray, targets: np.ndarray, truth: np.ndarray, kind: np.ndarray | None) -> Batch:
    tokens = rows.ids.size if rows.attention_mask is None else int(rows.attention_mask.sum())
    positions = np.flatnonzero(targets)
    return Batch(shown, rows.token_type_ids, rows.attention_mask, positions, truth.reshape(-1)[positions], rows.label,
                 tokens, kind)


def prefetch(source, steps: range, depth: int = 2) -> Iterator[Batch]:
    """`source.batch(step)` for each step, made one thread ahead."""
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
        except BaseException as error:  # handed to the consumer, who raises it
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
