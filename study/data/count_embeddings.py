"""Token embeddings from counts: words with similar neighbours have similar vectors, without any training.

The positive pointwise mutual information of each token with its left and its right neighbour, reduced to a few
dimensions by singular value decomposition (Levy and Goldberg 2014; Levy et al. 2015).

Shapes: V vocabulary, H hidden size.
"""
from __future__ import annotations

import numpy as np

SMOOTHING = 0.75                            # power of the neighbours' frequencies (Levy et al. 2015)


def count_embeddings(train: np.ndarray, vocabulary: int, width: int) -> np.ndarray:
    """Returns embeddings (V, H) float32 with root mean square 1; zero for tokens that are not in the text.

    train (tokens,): the training text. width: H, smaller than V.
    """
    from scipy import sparse
    from scipy.sparse.linalg import svds

    ids = np.asarray(train, np.int64)
    here, there = np.concatenate([ids[1:], ids[:-1]]), np.concatenate([ids[:-1], ids[1:] + vocabulary])
    counts = sparse.csr_array((np.ones(len(here)), (here, there)), shape=(vocabulary, 2 * vocabulary))
    counts.sum_duplicates()
    row, column = counts.nonzero()
    tokens, neighbours = np.asarray(counts.sum(1)).ravel(), np.asarray(counts.sum(0)).ravel() ** SMOOTHING
    information = np.log(counts.data * neighbours.sum() / (tokens[row] * neighbours[column]))
    positive = sparse.csr_array((np.maximum(information, 0), (row, column)), shape=counts.shape)
    left, values, _ = svds(positive, k=width, v0=np.ones(vocabulary))
    left = left * np.where(left[np.abs(left).argmax(0), np.arange(width)] < 0, -1, 1)      # svds leaves the sign open
    vectors = np.where(tokens[:, None] > 0, left * np.sqrt(values), 0)
    return (vectors / np.sqrt(np.mean(vectors**2))).astype(np.float32)
