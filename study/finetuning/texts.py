"""Labelled texts as token ids, and batches of texts of similar length.

Shapes: N texts, B texts in a batch, T tokens of the longest of them.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from study import randomness
from study.data.batches import blocks

# Streams of random numbers (study/randomness.py counts its own from 0).
DRAW, HEAD, ORDER, DROPOUT = 101, 102, 103, 104
POOL = 50                                   # batches whose rows are sorted by length together


@dataclass(frozen=True)
class Texts:
    """N encoded texts or pairs: token ids and segment ids, which start with [CLS], and labels (N,) int64."""
    ids: list[list[int]]
    types: list[list[int]]
    labels: np.ndarray

    def rows(self, index: np.ndarray) -> Texts:
        """Returns the texts at these indices."""
        return Texts([self.ids[i] for i in index], [self.types[i] for i in index], self.labels[index])


@dataclass(frozen=True)
class TextBatch:
    """ids, types (B, T) int64. mask (B, T) bool, true at tokens; None if no text is padded. labels (B,) int64."""
    ids: np.ndarray
    types: np.ndarray
    mask: np.ndarray | None
    labels: np.ndarray


def encode_texts(backend, frame, length: int) -> Texts:
    """Returns the rows of a data frame (text, label, and text_pair for pairs) as token ids.

    Rows with more than `length` tokens, [CLS] and [SEP] included, are truncated; of a pair, the longer text first.
    """
    backend.enable_truncation(length, strategy="longest_first")
    try:
        texts = frame.text.tolist()
        inputs = list(zip(texts, frame.text_pair.tolist(), strict=True)) if "text_pair" in frame else texts
        encoded = backend.encode_batch_fast(inputs, add_special_tokens=True)
    finally:
        backend.no_truncation()
    return Texts([row.ids for row in encoded], [row.type_ids for row in encoded], frame.label.to_numpy(np.int64))


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns the indices of labels (N,) in a seeded order of which every beginning has the classes in about the
    proportions of the whole. So the rows of a small draw are among those of a larger one."""
    shuffled = randomness.permutation(seed, DRAW, len(labels))
    _, classes = np.unique(labels[shuffled], return_inverse=True)
    counts, place = np.bincount(classes), np.empty(len(labels))
    for number, count in enumerate(counts):
        place[classes == number] = (np.arange(count) + 0.5) / count
    return shuffled[np.argsort(place, kind="stable")]


def epoch_batches(texts: Texts, batch_size: int, pad_id: int, seed: int, run: int, epoch: int) -> Iterator[TextBatch]:
    """Yields the batches of one epoch of training.

    The rows are shuffled. Within every POOL batches they are then sorted by length, so that there is little padding,
    and the batches of the epoch are shuffled again. A small data set is sorted as a whole.
    """
    order = randomness.permutation(seed, ORDER, len(texts.ids), run, epoch, 0)
    lengths = np.array([len(row) for row in texts.ids])
    batches = []
    for block in blocks(len(order), POOL * batch_size):
        pool = order[block]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[part] for part in blocks(len(pool), batch_size)]
    for number in randomness.permutation(seed, ORDER, len(batches), run, epoch, 1):
        yield padded(texts, batches[number], pad_id)


def ordered_batches(texts: Texts, batch_size: int, pad_id: int) -> Iterator[tuple[np.ndarray, TextBatch]]:
    """Yields the indices (B,) and the batch of every text once, in order of length."""
    order = np.argsort([len(row) for row in texts.ids], kind="stable")
    for block in blocks(len(order), batch_size):
        yield order[block], padded(texts, order[block], pad_id)


def padded(texts: Texts, index: np.ndarray, pad_id: int) -> TextBatch:
    """Returns the texts at these indices, padded to the longest of them."""
    lengths = np.array([len(texts.ids[i]) for i in index])
    ids, types = np.full((len(index), lengths.max()), pad_id, np.int64), np.zeros((len(index), lengths.max()), np.int64)
    for row, i in enumerate(index):
        ids[row, :lengths[row]], types[row, :lengths[row]] = texts.ids[i], texts.types[i]
    is_padded = lengths.min() < lengths.max()
    return TextBatch(ids, types, np.arange(lengths.max())[None] < lengths[:, None] if is_padded else None,
                     texts.labels[index])
