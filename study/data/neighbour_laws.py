"""Laws of a token given the words next to it, from counts in the training text.

The law given one word, P(x | nearest), uses absolute discounting (Ney, Essen and Kneser 1994) and backs off to the
unigram law. The law given two words, P(x | nearest, next), does the same and backs off to the law given one. A word
that is not known, or that was never seen in training, gives nothing: its law is the one that it backs off to.

A law is stored as what its counts add to the unigram law, which is sparse:

    P(x | nearest) = s P(x) (1 + e(x))            e(x) = (count - D) / (D K P(x)),  s = D K / total
    P(x | nearest, next) = s' s P(x) (1 + e(x) + e'(x))

with D the discount, K the number of different tokens that were seen with these words, and `total` how many were. Words
on the right are those on the left of the reversed text.

Shapes: V vocabulary, S selected positions, C contexts.
"""
from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

DISCOUNT = 0.75                             # subtracted from every count
BLOCK_TOKENS = 1 << 22                      # training tokens counted at once, to bound memory
UNKNOWN = -1                                # a word that is masked or outside the text; a context with such a word
WORDS = 2                                   # words on each side that a law can use


@dataclass(frozen=True)
class MaskedTokens:
    """Tokens to predict: `truth` (S,), and the ids on each side as shown, (S, WORDS), the nearest first. UNKNOWN where
    [MASK] is shown, and outside the text of the row."""
    truth: np.ndarray
    left: np.ndarray
    right: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, part: slice) -> MaskedTokens:
        return MaskedTokens(self.truth[part], self.left[part], self.right[part])


def masked_tokens(ids: np.ndarray, shown: np.ndarray, corruption: np.ndarray,
                  layout_ids: Collection[int]) -> MaskedTokens:
    """Returns the selected tokens of rows, row-major. ids, shown and corruption (N, T): a mask set.

    layout_ids: [MASK] and the tokens that the layout adds: [CLS], [SEP] and [PAD]. They are no neighbours, since a row
    or segment may begin and end anywhere in its document.
    """
    row, position = np.nonzero(corruption)
    words = np.where(np.isin(shown, list(layout_ids)), UNKNOWN, shown)
    words = np.pad(words, ((0, 0), (WORDS, WORDS)), constant_values=UNKNOWN)
    sides = [np.stack([words[row, position + WORDS + sign * step] for step in range(1, WORDS + 1)], 1)
             for sign in (-1, 1)]
    return MaskedTokens(ids[row, position], *sides)


@dataclass(frozen=True)
class Law:
    """What counts of contexts of one length add to the law given one word less.

    `keys` (C,) are the contexts, sorted; `excess` (C, V), sparse, and `scale` (C,) are e and s in the formulas above.
    """
    keys: np.ndarray
    excess: sparse.csr_array
    scale: np.ndarray

    def rows(self, keys: np.ndarray) -> np.ndarray:
        """The row of each context. All of them must be among those that the law was made for."""
        return np.searchsorted(self.keys, keys)


def side_laws(stream: np.ndarray, neighbours: np.ndarray, unigram: np.ndarray, block: int = BLOCK_TOKENS) -> list[Law]:
    """Returns the laws given one and given two words, for the contexts in `neighbours` (S, WORDS) and no others.

    stream (tokens,): the training text, read towards the token: reversed for words on the right. unigram (V,): nats,
    infinite for tokens that are never predicted, which are not counted.
    """
    predicted, laws = np.isfinite(unigram), []
    for words in range(1, WORDS + 1):
        keys = np.union1d([UNKNOWN], context_keys(neighbours[:, :words], len(unigram)))
        counts = count_contexts(stream, keys, words, predicted, block)
        total, kinds = np.asarray(counts.sum(1)).ravel(), np.diff(counts.indptr)
        seen = total > 0
        scale = np.where(seen, DISCOUNT * kinds / np.where(seen, total, 1), 1.0)
        below = 1.0 if words == 1 else laws[0].scale[laws[0].rows(np.where(keys < 0, UNKNOWN, keys // len(unigram)))]
        excess = counts
        excess.data = ((counts.data - DISCOUNT) * np.exp(unigram[counts.indices])
                       / np.repeat(DISCOUNT * kinds * below, kinds))
        laws.append(Law(keys, excess, scale * below))
    return laws


def context_keys(neighbours: np.ndarray, vocabulary: int) -> np.ndarray:
    """One number per context (S,), from its words (S, 1 or 2), the nearest first; UNKNOWN if one of them is."""
    keys = neighbours[:, 0].astype(np.int64)
    for column in neighbours.T[1:]:
        keys = keys * vocabulary + column
    return np.where((neighbours == UNKNOWN).any(1), UNKNOWN, keys)


def count_contexts(stream: np.ndarray, keys: np.ndarray, words: int, predicted: np.ndarray,
                   block: int = BLOCK_TOKENS) -> sparse.csr_array:
    """Returns how often each token follows each context, sparse (C, V).

    stream (tokens,). keys (C,): the contexts of this many words, sorted. predicted (V,): bool, the tokens that are
    counted; the columns of other tokens are empty.
    """
    from scipy import sparse

    counts = sparse.csr_array((len(keys), len(predicted)))
    for begin in range(0, len(stream) - words, block):
        part = np.asarray(stream[begin:begin + block + words], np.int64)
        before = np.stack([part[words - step:len(part) - step] for step in range(1, words + 1)], 1)
        key, token = context_keys(before, len(predicted)), part[words:]
        row = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        kept = (keys[row] == key) & predicted[token]
        counts = counts + sparse.csr_array((np.ones(kept.sum()), (row[kept], token[kept])), shape=counts.shape)
    return counts


def excess(laws: list[Law], neighbours: np.ndarray) -> sparse.csr_array:
    """Returns, sparse (S, V), what the words on one side add: P(x | them) is proportional to P(x) (1 + excess).

    neighbours (S, WORDS). As many words are used as there are laws.
    """
    vocabulary = laws[0].excess.shape[1]
    parts = [law.excess[law.rows(context_keys(neighbours[:, :words], vocabulary))]
             for words, law in enumerate(laws, 1)]
    return sum(parts[1:], parts[0])
