"""References from word counts: how far prediction gets without an encoder. They put an encoder's perplexity on a scale
where the best possible perplexity of a text is unknown.

    unigram       P(x): the frequency of a token
    neighbours    P(x | left, right): a mixture of the unigram model and the two bigram models below

The bigram models, P(x | left neighbour) and P(x | right neighbour), use absolute discounting (Ney, Essen and Kneser
1994) and back off to the unigram model. The weights of the mixture are fitted to the validation set by EM. If a
neighbour is masked itself, its bigram model backs off entirely.

Shapes: V vocabulary, N rows, T positions, S selected positions.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study.data.tokenizer import TokenizerInfo

DISCOUNT = 0.75                             # subtracted from every bigram count
EM_ROUNDS = 30
BLOCK_TOKENS = 1 << 22                      # training tokens counted at once, to bound memory


@dataclass(frozen=True)
class MaskedText:
    """Masked rows that are scored: true `ids`, `shown` ids and `corruption`, each (N, T).

    Rows begin and end with a special token, so every selected token has two neighbours.
    """
    ids: np.ndarray
    shown: np.ndarray
    corruption: np.ndarray


def unigram_nll(train: np.ndarray, tokenizer: TokenizerInfo) -> np.ndarray:
    """Returns -ln P(token), (V,) nats: add-one smoothed counts of ordinary tokens in `train` (tokens,); infinite for
    other tokens."""
    counts = np.zeros(tokenizer.vocabulary_size)
    for begin in range(0, len(train), BLOCK_TOKENS):
        counts += np.bincount(train[begin:begin + BLOCK_TOKENS], minlength=len(counts))[:len(counts)]
    counts = np.where(tokenizer.is_ordinary, counts + 1, 0)
    with np.errstate(divide="ignore"):
        return -np.log(counts / counts.sum())


def neighbour_nll(train: np.ndarray, unigram: np.ndarray, validation: MaskedText, test: MaskedText,
                  mask_id: int) -> float:
    """Returns the mean NLL (nats) of the selected tokens of `test` under the neighbour model.

    train (tokens,): token ids. unigram (V,): nats, infinite for tokens that are never predicted. validation: the text
    that the weights of the mixture are fitted to.
    """
    after, before = bigram_counts(train, np.isfinite(unigram))

    def probabilities(text: MaskedText) -> np.ndarray:                                  # (3, S)
        row, position = np.nonzero(text.corruption)
        truth = text.ids[row, position]
        frequency = np.exp(-unigram[truth])
        return np.stack([frequency,
                         _backed_off(after, text.shown[row, position - 1], truth, frequency, mask_id),
                         _backed_off(before, text.shown[row, position + 1], truth, frequency, mask_id)])

    return float(-np.log(_mixture_weights(probabilities(validation)) @ probabilities(test)).mean())


def bigram_counts(train: np.ndarray, predicted: np.ndarray, block: int = BLOCK_TOKENS):
    """Returns two sparse (V, V) arrays with one row per neighbour: how often each token follows it, and precedes it.

    predicted (V,): bool, the tokens that are counted; the columns of other tokens are zero.
    """
    from scipy import sparse

    counts = [sparse.csr_array((len(predicted), len(predicted)))] * 2
    for begin in range(0, len(train) - 1, block):
        part = np.asarray(train[begin:begin + block + 1], np.int64)
        for side, (neighbour, token) in enumerate(((part[:-1], part[1:]), (part[1:], part[:-1]))):
            kept = predicted[token]
            counts[side] = counts[side] + sparse.csr_array((np.ones(kept.sum()), (neighbour[kept], token[kept])),
                                                           shape=counts[side].shape)
    return counts


def _backed_off(counts, neighbour: np.ndarray, truth: np.ndarray, frequency: np.ndarray, mask_id: int) -> np.ndarray:
    """P(truth | neighbour) (S,); the unigram `frequency` (S,) where the neighbour is masked or has no counts."""
    total, distinct = np.asarray(counts.sum(1)).ravel()[neighbour], np.diff(counts.indptr)[neighbour]
    count = np.asarray(counts[neighbour, truth]).ravel()
    usable = (total > 0) & (neighbour != mask_id)
    total = np.where(usable, total, 1)
    return np.where(usable, (np.maximum(count - DISCOUNT, 0) + DISCOUNT * distinct * frequency) / total, frequency)


def _mixture_weights(probabilities: np.ndarray) -> np.ndarray:
    """Weights (K,) under which a mixture of K models makes the tokens likeliest, by EM. probabilities (K, S)."""
    weights = np.full(len(probabilities), 1 / len(probabilities))
    for _ in range(EM_ROUNDS):
        posterior = weights[:, None] * probabilities
        weights = (posterior / posterior.sum(0)).mean(1)
    return weights
