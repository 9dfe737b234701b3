"""The count model of neighbours, against the same sums written out."""
import math

import numpy as np
import pytest

from study.data.references import DISCOUNT, bigrams, neighbour_nll

CLS, SEP, MASK = 0, 1, 2
TRAIN = np.array([3, 4, 5, 3, 4, 3, 1, 4, 5, 4, 3, 3, 5, 1])
UNIGRAM = np.array([np.inf, np.inf, np.inf, -math.log(0.5), -math.log(0.3), -math.log(0.2)])


@pytest.mark.parametrize("block", [1, 3, 100])
def test_counts_of_neighbours(block):
    after, before = bigrams(TRAIN, np.isfinite(UNIGRAM), block)
    pairs = list(zip(TRAIN[:-1].tolist(), TRAIN[1:].tolist(), strict=True))
    for given in range(6):
        for word in range(6):
            assert after[given, word] == (pairs.count((given, word)) if word > 2 else 0)
            assert before[given, word] == (pairs.count((word, given)) if word > 2 else 0)


def law(given, word, side):
    """P(word | neighbour), written out."""
    pairs = list(zip(TRAIN[:-1].tolist(), TRAIN[1:].tolist(), strict=True))
    pairs = [(a, b) if side == "left" else (b, a) for a, b in pairs]
    following = [b for a, b in pairs if a == given and b > 2]
    alone = math.exp(-UNIGRAM[word])
    if given == MASK or not following:
        return alone
    return (max(following.count(word) - DISCOUNT, 0) + DISCOUNT * len(set(following)) * alone) / len(following)


def test_a_law_sums_to_one():
    for given in range(6):
        for side in ("left", "right"):
            assert sum(law(given, word, side) for word in (3, 4, 5)) == pytest.approx(1)


def test_the_mixture_is_the_best_one_for_the_validation_set_and_is_scored_on_the_other():
    ids = np.array([[CLS, 3, 4, 5, 4, SEP], [CLS, 4, 3, 3, 5, SEP]])
    kind = np.array([[0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 0]], np.uint8)
    shown = np.where(kind, MASK, ids)
    known = np.array([[math.exp(-UNIGRAM[ids[r, t]]), law(shown[r, t - 1], ids[r, t], "left"),
                       law(shown[r, t + 1], ids[r, t], "right")] for r, t in zip(*np.nonzero(kind), strict=True)])
    found = neighbour_nll(TRAIN, UNIGRAM, (ids, shown, kind), (ids, shown, kind), MASK)
    grid = [(a, b, 1 - a - b) for a in np.linspace(0, 1, 51) for b in np.linspace(0, 1 - a, 51)]
    best = min(float(-np.log(np.maximum(known @ np.array(w), 1e-12)).mean()) for w in grid)
    assert found == pytest.approx(best, abs=0.02)
    assert found >= best - 1e-3
