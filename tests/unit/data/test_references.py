"""Count-model references, against the same sums written out."""
import math

import numpy as np
import pytest

from study.data.references import DISCOUNT, MaskedText, bigram_counts, neighbour_nll

CLS, SEP, MASK = 0, 1, 2
TRAIN = np.array([3, 4, 5, 3, 4, 3, 1, 4, 5, 4, 3, 3, 5, 1])
UNIGRAM = np.array([np.inf, np.inf, np.inf, -math.log(0.5), -math.log(0.3), -math.log(0.2)])


@pytest.mark.parametrize("block", [1, 3, 100])
def test_counts_of_neighbours(block):
    after, before = bigram_counts(TRAIN, np.isfinite(UNIGRAM), block)
    pairs = list(zip(TRAIN[:-1].tolist(), TRAIN[1:].tolist(), strict=True))
    for neighbour in range(6):
        for word in range(6):
            assert after[neighbour, word] == (pairs.count((neighbour, word)) if word > 2 else 0)
            assert before[neighbour, word] == (pairs.count((word, neighbour)) if word > 2 else 0)


def probability(neighbour, word, side):
    """P(word | neighbour on that side), written out."""
    pairs = list(zip(TRAIN[:-1].tolist(), TRAIN[1:].tolist(), strict=True))
    pairs = [(a, b) if side == "left" else (b, a) for a, b in pairs]
    following = [b for a, b in pairs if a == neighbour and b > 2]
    frequency = math.exp(-UNIGRAM[word])
    if neighbour == MASK or not following:
        return frequency
    return (max(following.count(word) - DISCOUNT, 0) + DISCOUNT * len(set(following)) * frequency) / len(following)


def test_probabilities_sum_to_one():
    for neighbour in range(6):
        for side in ("left", "right"):
            assert sum(probability(neighbour, word, side) for word in (3, 4, 5)) == pytest.approx(1)


def test_the_mixture_is_the_best_one_for_the_validation_set():
    ids = np.array([[CLS, 3, 4, 5, 4, SEP], [CLS, 4, 3, 3, 5, SEP]])
    corruption = np.array([[0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 0]], np.uint8)
    shown = np.where(corruption, MASK, ids)
    probabilities = np.array([[math.exp(-UNIGRAM[ids[r, t]]), probability(shown[r, t - 1], ids[r, t], "left"),
                               probability(shown[r, t + 1], ids[r, t], "right")]
                              for r, t in zip(*np.nonzero(corruption), strict=True)])
    text = MaskedText(ids, shown, corruption)
    nll = neighbour_nll(TRAIN, UNIGRAM, text, text, MASK)
    grid = [(a, b, 1 - a - b) for a in np.linspace(0, 1, 51) for b in np.linspace(0, 1 - a, 51)]
    best = min(float(-np.log(np.maximum(probabilities @ np.array(w), 1e-12)).mean()) for w in grid)
    assert nll == pytest.approx(best, abs=0.02)
    assert nll >= best - 1e-3


def test_the_weights_come_from_the_validation_set_and_the_score_from_the_test_set():
    ids = np.array([[CLS, 3, 4, 5, 4, SEP]])
    corruption = np.array([[0, 0, 1, 0, 0, 0]], np.uint8)
    test = MaskedText(ids, np.where(corruption, MASK, ids), corruption)
    hidden = MaskedText(ids, np.full_like(ids, MASK), corruption)       # no neighbours: all models are equal there
    thirds = [math.exp(-UNIGRAM[4]), probability(3, 4, "left"), probability(5, 4, "right")]
    assert neighbour_nll(TRAIN, UNIGRAM, hidden, test, MASK) == pytest.approx(-math.log(sum(thirds) / 3))
