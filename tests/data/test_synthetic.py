"""The built-in language: exact against enumeration, calibrated on its own text, at the published numbers."""
import itertools

import numpy as np
import pytest

from study.data.synthetic import ABSENT, END, MASKED, Language

DEFAULT = {"topics": 4, "themes": 6, "general": 30, "topical": 30, "thematic": 8, "mixture": (0.3, 0.35, 0.35),
           "advance": 0.7, "stray": 0.3}


@pytest.fixture(scope="module")
def language():
    return Language(seed=0, **DEFAULT)


@pytest.fixture(scope="module")
def text(language):
    """Truth (300, 62) and offsets of windows inside documents."""
    _, documents = language.sample(150, 200, seed=7)
    flat = [list(itertools.chain(*document)) for document in documents]
    rows = [(words[begin:begin + 62], begin) for words in flat for begin in (0, 124)]
    return np.array([row for row, _ in rows]), np.array([begin for _, begin in rows])


def small_language() -> Language:
    """The same mathematics at a size that can be enumerated: 2 topics, 2 themes, 3 grammar states, 4 words."""
    rng = np.random.default_rng(3)
    language = Language(seed=0, topics=2, themes=2, general=1, topical=1, thematic=1, mixture=(0.3, 0.35, 0.35),
                        advance=0.7, stray=0.3)
    states = language.grammar.shape[0]
    keep = [0, 1, END]
    grammar = np.zeros((states, states))
    grammar[np.ix_(keep, keep)] = rng.dirichlet(np.ones(3), 3)
    language.grammar = grammar
    language.words = ["a", "b", "c", "d"]
    language.emission = rng.dirichlet(np.ones(4), (2, 2, states))
    start = np.zeros((2, 2, states))
    start[..., keep] = grammar[END][keep] / 4
    language._priors = [start]
    return language


def enumerated(language: Language, seen, position, offset, rate, keep, random):
    """P(word at position | row shown) by summing over every path and every text: independent of the recursion."""
    keepers, length = [0, 1, END], len(seen)
    states = list(itertools.product(range(2), range(2), keepers))

    def step(a, b):
        if a[0] != b[0]:
            return 0.0
        if a[2] == END:
            return language.turn[a[1], b[1]] * language.grammar[END, b[2]]
        return float(a[1] == b[1]) * language.grammar[a[2], b[2]]

    transition = np.array([[step(a, b) for b in states] for a in states])
    law = np.array([language._priors[0][s] for s in states]) @ np.linalg.matrix_power(transition, offset)
    emission = np.array([language.emission[s] for s in states])

    def shown(word, o):
        if o == ABSENT:
            return 1.0
        if o == MASKED:                     # same for every word: it drops out
            return 1.0
        return (1 - rate + rate * keep) * (word == o) + rate * random / 4

    posterior = np.zeros(4)
    for path in itertools.product(range(len(states)), repeat=length):
        p = law[path[0]] * np.prod([transition[a, b] for a, b in itertools.pairwise(path)])
        if p == 0:
            continue
        for t, o in enumerate(seen):
            if t != position:
                p *= sum(emission[path[t], w] * shown(w, o) for w in range(4))
        o = seen[position]
        posterior += p * emission[path[position]] * np.array(
            [1.0 if o == MASKED else keep * (w == o) + random / 4 for w in range(4)])
    return posterior / posterior.sum()


@pytest.mark.parametrize(("rate", "keep", "random"), [(0.4, 0.0, 0.0), (0.4, 0.1, 0.1), (0.15, 0.5, 0.5)])
def test_floor_equals_enumeration(rate, keep, random):
    language, rng = small_language(), np.random.default_rng(0)
    for offset in (0, 1, 3):
        truth = rng.integers(4, size=(1, 4))
        selected = np.array([[True, False, True, False]])
        seen = np.where(selected, MASKED, truth)
        if keep:
            seen[0, 2] = rng.integers(4)    # one selected position shows a word
        if offset == 3:
            seen[0, 3] = ABSENT
        nll, _ = language.floor(truth, seen, selected, np.array([offset]), rate, keep, random)
        expected = [-np.log(enumerated(language, seen[0].tolist(), t, offset, rate, keep, random)[truth[0, t]])
                    for t in (0, 2)]
        np.testing.assert_allclose(nll, expected, rtol=0, atol=1e-12)


def corrupted(language, truth, rate, mask, random, seed):
    rng = np.random.default_rng(seed)
    selected, share = rng.random(truth.shape) < rate, rng.random(truth.shape)
    replacement = rng.integers(len(language.words), size=truth.shape)
    seen = np.where(selected & (share < mask), MASKED, truth)
    return np.where(selected & (share >= mask) & (share < mask + random), replacement, seen), selected


@pytest.mark.parametrize(("rate", "mask", "random"), [(0.15, 1.0, 0.0), (0.4, 1.0, 0.0), (0.15, 0.8, 0.1)])
def test_floor_is_calibrated(language, text, rate, mask, random):
    truth, offset = text
    seen, selected = corrupted(language, truth, rate, mask, random, seed=1)
    nll, entropy = language.floor(truth, seen, selected, offset, rate, 1 - mask - random, random)
    difference = nll - entropy
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(len(nll))


def test_published_levels(language, text):
    """The levels that the protocol gives for a language of this size."""
    truth, offset = text
    unigram = language.unigram()
    assert len(language.words) == 1743
    assert np.exp(-(unigram * np.log(unigram)).sum()) == pytest.approx(243, rel=0.1)
    levels = {}
    for rate, mask, random in ((0.15, 1.0, 0.0), (0.4, 1.0, 0.0), (0.15, 0.8, 0.1)):
        seen, selected = corrupted(language, truth, rate, mask, random, seed=1)
        nll, entropy = language.floor(truth, seen, selected, offset, rate, 1 - mask - random, random)
        levels[rate, mask] = np.exp(entropy.mean())
        if mask == 0.8:
            assert nll[seen[selected] == truth[selected]].mean() == pytest.approx(0.065, abs=0.04)
    assert levels[0.15, 1.0] == pytest.approx(19.7, rel=0.1)
    assert levels[0.15, 0.8] == pytest.approx(14.7, rel=0.1)
    assert levels[0.15, 1.0] < levels[0.4, 1.0]


def test_prior_is_the_chain_run_forward(language):
    state = language.prior(np.array([0]))
    for _ in range(5):
        state = language._forward(state)
    np.testing.assert_allclose(language.prior(np.array([5])), state, atol=1e-15)
    assert language.prior(np.array([17])).sum() == pytest.approx(1)


def test_wider_context_helps_and_the_row_gives_the_floor(language, text):
    truth, offset = text[0][:40], text[1][:40]
    selected = np.random.default_rng(2).random(truth.shape) < 0.15
    full, _ = language.floor(truth, np.where(selected, MASKED, truth), selected, offset, 0.15)
    levels = [language.context_floor(truth, selected, offset, window) for window in (0, 2, 61)]
    assert levels[0].mean() > levels[1].mean() > levels[2].mean()
    np.testing.assert_allclose(levels[2], full, atol=1e-9)


def test_topics_can_be_told_from_sentences(language):
    for count, expected in ((1, 0.85), (2, 0.96)):
        topics, documents = language.sample_sentences(300, count, count, seed=5)
        rows = [list(itertools.chain(*sentences)) for sentences in documents]
        seen = np.full((len(rows), max(map(len, rows))), ABSENT)
        for index, row in enumerate(rows):
            seen[index, :len(row)] = row
        found = language.topic_posterior(seen, np.zeros(len(rows), int)).argmax(1)
        assert (found == topics).mean() == pytest.approx(expected, abs=0.06)


def test_next_sentence_and_order_carry_signal(language):
    _, documents = language.sample(200, 40, seed=6)
    first, second = [d[0] for d in documents], [d[1] for d in documents]
    other = second[1:] + second[:1]
    follows = language.next_sentence_log_odds(first, second) > 0
    not_following = language.next_sentence_log_odds(first, other) <= 0
    assert (follows.mean() + not_following.mean()) / 2 == pytest.approx(0.79, abs=0.07)
    assert (language.sentence_order_log_odds(first, second) > 0).mean() == pytest.approx(0.69, abs=0.09)


def test_text_is_a_function_of_the_seed_and_made_of_whole_sentences(language):
    topics, documents = language.sample(20, 50, seed=1)
    assert documents == language.sample(20, 50, seed=1)[1] != language.sample(20, 50, seed=2)[1]
    assert set(topics.tolist()) <= set(range(4))
    for document in documents:
        assert sum(map(len, document)) >= 50 > sum(map(len, document[:-1]))
        assert all(sentence[-1] == 0 and 0 not in sentence[:-1] for sentence in document)
    assert len(set(language.words)) == len(language.words)
    assert all(1 <= len(d) <= 3 for d in language.sample_sentences(50, 1, 3, seed=4)[1])
    assert language.senses
