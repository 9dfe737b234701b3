"""Which tokens are hidden, and how: masks as a pure function of (seed, epoch, example, position).

Shapes: N rows, T positions.

One uniform u a token decides everything: it is partitioned into

    [0, rate mask) shown as [MASK]  |  [.., rate (mask + random)) shown as a random word  |  [.., rate) shown as it is
    [rate, 1)       not selected

so rates nest (a token selected at 15 % is selected at 40 %), mixes share their positions, and the 80/10/10 of Devlin
et al. (2019) cannot become the 81/10/9 of overlapping draws. Whole words (BERT's later release) are selected by the
uniform of their first piece and each piece is corrupted on its own; spans (SpanBERT, Joshi et al. 2020) are runs of
whole words, corrupted alike, from a two-state Markov chain over words, which makes their lengths geometric and the
rate the same at every position.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study import randomness
from study.config.schema import Masking
from study.data.tokenizer_info import TokenizerInfo

UNTOUCHED, MASK, RANDOM, KEEP = range(4)
CORRUPTIONS = ("untouched", "mask", "random", "keep")


@dataclass(frozen=True)
class Masked:
    """Masked rows: `shown` (N, T) token ids as the model sees them; `kind` (N, T) uint8 index into CORRUPTIONS."""
    shown: np.ndarray
    corruption: np.ndarray

    @property
    def selected(self) -> np.ndarray:       # (N, T) bool
        return self.corruption != UNTOUCHED


def mask_rows(ids: np.ndarray, eligible: np.ndarray, word_start: np.ndarray, tokenizer: TokenizerInfo, masking: Masking,
              seed: int, epoch: np.ndarray | int, example: np.ndarray) -> Masked:
    """Masks rows of token ids.

    ids (N, T) int; eligible (N, T) bool, true at ordinary tokens; word_start (N, T) bool, true at the first piece of
    a word; epoch and example (N,) name the draw. A static schedule cycles through `dupe_factor` maskings.
    """
    epoch = np.broadcast_to(np.asarray(epoch), example.shape)
    if masking.schedule == "static":
        epoch = epoch % masking.dupe_factor
    draw = _Draws(seed, epoch[:, None], example[:, None], np.arange(ids.shape[1])[None])
    if masking.selection == "token":
        u = draw.uniforms(randomness.SELECT)
        selected, share = u < masking.mlm_probability, u / masking.mlm_probability
    elif masking.selection == "whole-word":
        selected, share = _whole_words(draw, word_start, masking.mlm_probability)
    else:
        selected, share = _spans(draw, word_start, eligible, masking.mlm_probability, masking.span_mean)
    kind = np.select([share < masking.mask, share < masking.mask + masking.random], [MASK, RANDOM], KEEP)
    kind = np.where(selected & eligible, kind, UNTOUCHED).astype(np.uint8)
    return Masked(shown=_corrupt(ids, kind, tokenizer, draw), corruption=kind)


@dataclass(frozen=True)
class _Draws:
    seed: int
    epoch: np.ndarray
    example: np.ndarray
    position: np.ndarray

    def uniforms(self, stream: int) -> np.ndarray:
        return randomness.uniforms(self.seed, stream, self.epoch, self.example, self.position)


def _corrupt(ids: np.ndarray, kind: np.ndarray, tokenizer: TokenizerInfo, draw: _Draws) -> np.ndarray:
    shown = np.where(kind == MASK, tokenizer.mask_id, ids)
    if (kind == RANDOM).any():
        pick = (draw.uniforms(randomness.REPLACE) * len(tokenizer.ordinary)).astype(np.int64)
        shown = np.where(kind == RANDOM, tokenizer.ordinary[pick], shown)
    return shown


def _first_piece(word_start: np.ndarray) -> np.ndarray:
    """For each position, that of the first piece of its word: (N, T). A row may begin in the middle of a word."""
    here = np.where(word_start, np.arange(word_start.shape[1])[None], 0)
    return np.maximum.accumulate(here, axis=1)


def _whole_words(draw: _Draws, word_start: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    u = np.take_along_axis(draw.uniforms(randomness.SELECT), _first_piece(word_start), axis=1)
    own = draw.uniforms(randomness.KIND)
    return u < rate, np.where(word_start, u / rate, own)


def _spans(draw: _Draws, word_start: np.ndarray, eligible: np.ndarray, rate: float,
           mean: float) -> tuple[np.ndarray, np.ndarray]:
    """Selected positions and, alike within a span, the share that decides its corruption.

    A special ends the span before it; behind it the chain begins anew, by its stationary law.
    """
    u, kind = draw.uniforms(randomness.SPAN), draw.uniforms(randomness.KIND)
    begin = rate / (rate + mean * (1 - rate))           # probability that a span begins after an unselected word
    stay = 1 - 1 / mean                                 # that it goes on after a selected one
    inside, share = u[:, 0] < rate, kind[:, 0]
    selected, shares = np.empty(u.shape, bool), np.empty(u.shape)
    for t in range(u.shape[1]):
        if t:
            begins = ~eligible[:, t - 1]
            goes_on, new_word = inside & (u[:, t] < stay), word_start[:, t]
            # the part of u that does not continue a span is spread over [0, 1) again to decide on a new one
            fresh = np.where(inside, (u[:, t] - stay) / (1 - stay) if stay < 1 else 0.0, u[:, t])
            starts = ~goes_on & (fresh < begin)
            share = np.where((new_word & starts) | begins, kind[:, t], share)
            inside = np.where(begins, u[:, t] < rate, np.where(new_word, goes_on | starts, inside))
        selected[:, t], shares[:, t] = inside, share
    return selected, shares
