"""Masking: which tokens are selected for prediction, and what the encoder sees in their place.

A mask is a pure function of (seed, epoch, example, position). One uniform number u per token decides everything. With
p = mlm_probability and mask + random + keep = 1, the unit interval is divided into

    0            p * mask            p * (mask + random)            p              1
    |   [MASK]      |    random token          |   original token   | not selected |

so that

- the fractions of the selected tokens are exactly mask, random and keep: the 80/10/10 of Devlin et al. (2019) cannot
  become the 81/10/9 of two overlapping draws;
- selections are nested: a token selected at 15 % is also selected at 40 %;
- recipes that differ only in mask, random and keep select the same positions.

Random tokens are drawn uniformly from the ordinary vocabulary, so they are never special tokens. With
`random_from: vocabulary` they are drawn from all ids, as collators of tutorials and of `transformers` do.

Three ways to select, each with an expected rate of p:

- `token`: each token by its own u.
- `whole-word` (BERT's whole-word masking release): a word by the u of its first piece; each further piece draws its
  own corruption.
- `span` (SpanBERT, Joshi et al. 2020): runs of whole words, all corrupted alike. A two-state Markov chain over words
  gives geometric lengths with mean span_mean and the same rate at every position.

Shapes: N rows, T positions.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study import randomness
from study.config.schema import Masking
from study.data.tokenizer import TokenizerInfo

UNTOUCHED, MASK, RANDOM, KEEP = range(4)
CORRUPTIONS = ("untouched", "mask", "random", "keep")


@dataclass(frozen=True)
class MaskedRows:
    """`shown` (N, T) token ids as the encoder sees them; `corruption` (N, T) uint8 index into CORRUPTIONS."""
    shown: np.ndarray
    corruption: np.ndarray

    @property
    def selected(self) -> np.ndarray:
        """Returns (N, T) bool."""
        return self.corruption != UNTOUCHED


def draw_epoch(masking: Masking, epoch: np.ndarray) -> np.ndarray:
    """Returns the epoch whose random draws are used.

    Dynamic masking draws new masks in every epoch. Static masking (Devlin et al. 2019) makes `dupe_factor` copies of
    the data and cycles through them.
    """
    return epoch % masking.dupe_factor if masking.schedule == "static" else epoch


def mask_rows(ids: np.ndarray, eligible: np.ndarray, word_start: np.ndarray, tokenizer: TokenizerInfo, masking: Masking,
              seed: int, epoch: np.ndarray | int, example: np.ndarray) -> MaskedRows:
    """Returns rows of token ids (N, T) after masking.

    eligible (N, T): bool, true at ordinary tokens, which alone can be selected. word_start (N, T): bool, true at the
    first piece of a word. epoch (scalar or N,) and example (N,) name the random draws; see `draw_epoch` for the
    schedule.
    """
    epoch = np.broadcast_to(np.asarray(epoch), example.shape)
    draw = _Draws(seed, epoch[:, None], example[:, None], np.arange(ids.shape[1])[None])
    # `relative` is uniform over [0, 1) among selected tokens: u / p where u alone decides
    if masking.selection == "token":
        u = draw.uniforms(randomness.SELECT)
        selected, relative = u < masking.mlm_probability, u / masking.mlm_probability
    elif masking.selection == "whole-word":
        selected, relative = _select_whole_words(draw, word_start, masking.mlm_probability)
    else:
        selected, relative = _select_spans(draw, word_start, eligible, masking.mlm_probability, masking.span_mean)
    corruption = np.select([relative < masking.mask, relative < masking.mask + masking.random], [MASK, RANDOM], KEEP)
    corruption = np.where(selected & eligible, corruption, UNTOUCHED).astype(np.uint8)
    replacements = tokenizer.ordinary if masking.random_from == "words" else np.arange(tokenizer.vocabulary_size)
    return MaskedRows(_corrupt(ids, corruption, tokenizer.mask_id, replacements, draw), corruption)


@dataclass(frozen=True)
class _Draws:
    """Uniforms (N, T) at the coordinates of a batch of rows."""
    seed: int
    epoch: np.ndarray
    example: np.ndarray
    position: np.ndarray

    def uniforms(self, stream: int) -> np.ndarray:
        return randomness.uniforms(self.seed, stream, self.epoch, self.example, self.position)


def _corrupt(ids: np.ndarray, corruption: np.ndarray, mask_id: int, replacements: np.ndarray,
             draw: _Draws) -> np.ndarray:
    """Token ids (N, T) as shown; random tokens are drawn uniformly from the ids `replacements` (R,)."""
    shown = np.where(corruption == MASK, mask_id, ids)
    if (corruption == RANDOM).any():
        pick = (draw.uniforms(randomness.REPLACE) * len(replacements)).astype(np.int64)
        shown = np.where(corruption == RANDOM, replacements[pick], shown)
    return shown


def _select_whole_words(draw: _Draws, word_start: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Selected positions and relative uniforms, both (N, T)."""
    u = np.take_along_axis(draw.uniforms(randomness.SELECT), _first_piece(word_start), axis=1)
    return u < rate, np.where(word_start, u / rate, draw.uniforms(randomness.CORRUPT))


def _first_piece(word_start: np.ndarray) -> np.ndarray:
    """For each position (N, T), the position of the first piece of its word. A row may begin inside a word."""
    starts = np.where(word_start, np.arange(word_start.shape[1])[None], 0)
    return np.maximum.accumulate(starts, axis=1)


def _select_spans(draw: _Draws, word_start: np.ndarray, eligible: np.ndarray, rate: float,
                  mean: float) -> tuple[np.ndarray, np.ndarray]:
    """Selected positions and relative uniforms, both (N, T); all tokens of a span have the same relative uniform.

    A token that is not eligible ends the span before it. After it the chain restarts from its stationary distribution.
    """
    u, fresh_relative = draw.uniforms(randomness.SPAN), draw.uniforms(randomness.CORRUPT)
    begin = rate / (rate + mean * (1 - rate))           # P(a span begins | the previous word is not selected)
    stay = 1 - 1 / mean                                 # P(the span continues | the previous word is selected)
    inside, relative = u[:, 0] < rate, fresh_relative[:, 0]
    selected, relatives = np.empty(u.shape, bool), np.empty(u.shape)
    for t in range(u.shape[1]):
        if t:
            restarts = ~eligible[:, t - 1]
            continues, new_word = inside & (u[:, t] < stay), word_start[:, t]
            # where a span ends, the rest of u is rescaled to [0, 1) and decides whether another span begins
            rescaled = np.where(inside, (u[:, t] - stay) / (1 - stay) if stay < 1 else 0.0, u[:, t])
            begins = ~continues & (rescaled < begin)
            relative = np.where((new_word & begins) | restarts, fresh_relative[:, t], relative)
            inside = np.where(restarts, u[:, t] < rate, np.where(new_word, continues | begins, inside))
        selected[:, t], relatives[:, t] = inside, relative
    return selected, relatives
