"""What a count model knows that looks at one neighbour on each side: a reference for text whose optimum is unknown.

P(x | left, right) is a mixture of three laws of the training text: of x alone, of x after its left neighbour and of x
before its right one. The last two are bigram counts with absolute discounting (Ney, Essen and Kneser 1994) that back
off to the first; the weights come from the validation set by EM. A neighbour that is masked itself says nothing.
"""
from __future__ import annotations

import numpy as np

DISCOUNT, ROUNDS = 0.75, 30


def neighbour_nll(train: np.ndarray, unigram: np.ndarray, validation: tuple, test: tuple, mask_id: int) -> float:
    """Mean NLL (nats) of the selected tokens of `test` under the mixture that is best for those of `validation`.

    train (tokens,) ids; unigram (V,) nats, infinite for what is never predicted; the sets are (ids, shown, kind), each
    (N, T), and rows begin and end with a special token.
    """
    after, before = bigrams(train, np.isfinite(unigram))

    def laws(ids: np.ndarray, shown: np.ndarray, kind: np.ndarray) -> np.ndarray:
        row, place = np.nonzero(kind)
        truth, alone = ids[row, place], np.exp(-unigram[ids[row, place]])
        return np.stack([alone, _backed_off(after, shown[row, place - 1], truth, alone, mask_id),
                         _backed_off(before, shown[row, place + 1], truth, alone, mask_id)])

    known, weight = laws(*validation), np.full(3, 1 / 3)
    for _ in range(ROUNDS):
        share = weight[:, None] * known
        weight = (share / share.sum(0)).mean(1)
    return float(-np.log(weight @ laws(*test)).mean())


def bigrams(train: np.ndarray, predicted: np.ndarray, block: int = 1 << 22):
    """Counts (V, V) of the `predicted` ids after each id, and before each id, as sparse arrays, a row a neighbour."""
    from scipy import sparse

    both = [sparse.csr_array((len(predicted), len(predicted)))] * 2
    for begin in range(0, len(train) - 1, block):
        part = np.asarray(train[begin:begin + block + 1], np.int64)
        for number, (given, truth) in enumerate(((part[:-1], part[1:]), (part[1:], part[:-1]))):
            kept = predicted[truth]
            both[number] = both[number] + sparse.csr_array((np.ones(kept.sum()), (given[kept], truth[kept])),
                                                           shape=both[number].shape)
    return both


def _backed_off(counts, given: np.ndarray, truth: np.ndarray, alone: np.ndarray, mask_id: int) -> np.ndarray:
    """P(truth | given) (S,); `alone` where the neighbour is masked or never stood there in training."""
    total, kinds = np.asarray(counts.sum(1)).ravel()[given], np.diff(counts.indptr)[given]
    seen = np.asarray(counts[given, truth]).ravel()
    told = (total > 0) & (given != mask_id)
    total = np.where(told, total, 1)
    return np.where(told, (np.maximum(seen - DISCOUNT, 0) + DISCOUNT * kinds * alone) / total, alone)
