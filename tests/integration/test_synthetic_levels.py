"""The synthetic language at its default size: the perplexities and accuracies that the protocol states."""
import itertools

import numpy as np
import pytest

from study.data.synthetic import ABSENT
from study.data.synthetic_pairs import Text, next_sentence_log_odds, sentence_order_log_odds
from tests.support.synthetic_text import corrupted, default_language, windows


@pytest.fixture(scope="module")
def language():
    return default_language()


def test_perplexities(language):
    truth, offset = windows(language)
    unigram = language.unigram()
    assert len(language.words) == 1743
    assert np.exp(-(unigram * np.log(unigram)).sum()) == pytest.approx(243, rel=0.1)
    levels = {}
    for rate, mask, random in ((0.15, 1.0, 0.0), (0.4, 1.0, 0.0), (0.8, 1.0, 0.0), (0.15, 0.8, 0.1)):
        seen, selected = corrupted(language, truth, rate, mask, random, seed=1)
        nll, entropy = language.floor(truth, seen, selected, offset, rate, 1 - mask - random, random)
        levels[rate, mask] = np.exp(entropy.mean())
        if mask == 0.8:
            assert nll[seen[selected] == truth[selected]].mean() == pytest.approx(0.065, abs=0.04)
    assert levels[0.15, 1.0] == pytest.approx(19.7, abs=1.5)
    assert levels[0.15, 0.8] == pytest.approx(14.7, abs=1.5)
    assert levels[0.15, 1.0] < levels[0.4, 1.0] < levels[0.8, 1.0]


@pytest.mark.parametrize(("count", "expected"), [(1, 0.85), (2, 0.96)])
def test_topics_can_be_predicted_from_sentences(language, count, expected):
    topics, documents = language.sample_sentences(1000, count, count, seed=5)
    rows = [list(itertools.chain(*sentences)) for sentences in documents]
    seen = np.full((len(rows), max(map(len, rows))), ABSENT)
    for index, row in enumerate(rows):
        seen[index, :len(row)] = row
    predicted = language.topic_posterior(seen, np.zeros(len(rows), int)).argmax(1)
    assert (predicted == topics).mean() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("side", "next_sentence", "order"), [(1, 0.79, 0.69), (2, 0.90, 0.88)])
def test_next_sentence_and_order_carry_signal(language, side, next_sentence, order):
    """Accuracy of the exact log odds on as many true pairs as pairs of different documents."""
    _, documents = language.sample_sentences(800, 2 * side, 2 * side, seed=6)
    first, second = ([Text.shown(sum(sentences, [])) for sentences in halves]
                     for halves in zip(*((d[:side], d[side:]) for d in documents), strict=True))
    follows = next_sentence_log_odds(language, first, second) > 0
    not_following = next_sentence_log_odds(language, first, second[1:] + second[:1]) <= 0
    assert (follows.mean() + not_following.mean()) / 2 == pytest.approx(next_sentence, abs=0.05)
    assert (sentence_order_log_odds(language, first, second) > 0).mean() == pytest.approx(order, abs=0.05)
