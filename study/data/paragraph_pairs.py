"""Sentence pairs as Dive into Deep Learning makes them (d2l.ai, "The Dataset for Pretraining BERT").

Every two adjacent sentences of a paragraph make a pair, so most sentences are in two pairs. With probability 1/2 the
second sentence is replaced by a random one: a paragraph is drawn, then one of its sentences. It may come from the same
paragraph, and may even be the true one. A pair that is longer than a row is dropped. All this is done once, before
training: pairs do not change from epoch to epoch.

Shapes: N pairs.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from study import StudyError, randomness
from study.data.layouts import Spans
from study.data.token_store import TokenStore

SPECIAL_TOKENS = 3                          # [CLS] and two [SEP]


@dataclass(frozen=True)
class ParagraphPairs:
    """N pairs that were drawn once."""
    pairs: Spans
    padded: bool = True

    def __len__(self) -> int:
        return len(self.pairs.first)

    @property
    def mean_tokens(self) -> float:
        """Returns the mean number of real tokens per row, including special tokens."""
        return float((self.pairs.first_length + self.pairs.second_length).mean()) + SPECIAL_TOKENS

    def spans(self, epoch: np.ndarray, example: np.ndarray, seed: int) -> Spans:
        """Returns the spans of the examples, the same in every epoch. seed: not used, since the pairs are drawn."""
        drawn = self.pairs
        return replace(drawn, first=drawn.first[example], first_length=drawn.first_length[example],
                       second=drawn.second[example], second_length=drawn.second_length[example],
                       label=drawn.label[example])


def paragraph_pairs(store: TokenStore, length: int, seed: int) -> ParagraphPairs:
    """Returns the pairs of a text that fit into rows of `length` tokens.

    Raises StudyError if no two adjacent sentences of a paragraph fit.
    """
    starts, lengths = store.sentences[:-1], store.sentence_ends - store.sentences[:-1]
    paragraph = np.searchsorted(store.paragraphs, starts, side="right") - 1                 # (sentences,)
    first = np.flatnonzero(paragraph[1:] == paragraph[:-1])                                 # (candidates,)
    candidate = np.arange(len(first))
    label = (randomness.uniforms(seed, randomness.PAIR, 0, candidate) < 0.5).astype(np.int64)
    second = np.where(label == 1, _random_sentences(paragraph, candidate, seed), first + 1)
    fits = lengths[first] + lengths[second] + SPECIAL_TOKENS <= length
    if not fits.any():
        raise StudyError(f"inputs.format paragraph-pairs: no two adjacent sentences of a paragraph fit into rows of "
                         f"{length} tokens; choose a larger examples.max_seq_length, a training.curriculum with longer "
                         f"short rows, if it has one, or another format")
    first, second = first[fits], second[fits]
    return ParagraphPairs(Spans(starts[first], lengths[first], starts[second], lengths[second], label[fits]))


def _random_sentences(paragraph: np.ndarray, candidate: np.ndarray, seed: int) -> np.ndarray:
    """The index of a random sentence of a random paragraph for each candidate. paragraph: that of each sentence."""
    _, begin, count = np.unique(paragraph, return_index=True, return_counts=True)
    u, v = (randomness.uniforms(seed, randomness.NEGATIVE, 0, candidate, place) for place in (0, 1))
    drawn = (u * len(begin)).astype(np.int64)
    return begin[drawn] + (v * count[drawn]).astype(np.int64)
