"""The synthetic language: equal to enumeration, and calibrated on its own text."""
import itertools

import numpy as np
import pytest

from study.data.synthetic import ABSENT, MASKED, STATES, Language
from tests.support.synthetic_text import DEFAULT, corrupted, default_language, dense_chain, small_language, windows


@pytest.fixture(scope="module")
def language():
    return default_language()


@pytest.fixture(scope="module")
def text(language):
    return windows(language)


def enumerated(language: Language, seen, position, offset, rate, keep, random):
    """P(word at `position` | row shown), (V,), and P(topic, row shown without `position`), (Z,).

    Sums over all state paths, so it does not share the recursion of the language.
    """
    states, start, transition = dense_chain(language)
    prior, vocabulary = start @ np.linalg.matrix_power(transition, offset), len(language.words)
    likelihood = np.ones((len(seen), len(states)))
    for t, o in enumerate(seen):
        if o >= 0 and t != position:        # [MASK] is equally likely for every word, so it drops out
            for i, state in enumerate(states):
                likelihood[t, i] = sum(language.emission[state][w] * ((1 - rate + rate * keep) * (w == o)
                                                                      + rate * random / vocabulary)
                                       for w in range(vocabulary))
    used = [i for i in range(len(states)) if prior[i] or transition[:, i].any()]
    posterior, topics = np.zeros(vocabulary), np.zeros(language.emission.shape[0])
    for path in itertools.product(used, repeat=len(seen)):
        p = prior[path[0]]
        for t, state in enumerate(path):
            p = p * likelihood[t, state] * (transition[path[t - 1], state] if t else 1.0)
            if p == 0:
                break
        topics[states[path[0]][0]] += p
        if p and position is not None:
            posterior += p * language.emission[states[path[position]]]
    if position is not None and seen[position] >= 0:
        posterior *= [keep * (w == seen[position]) + random / vocabulary for w in range(vocabulary)]
    return posterior / max(posterior.sum(), 1e-300), topics


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
        expected = [-np.log(enumerated(language, seen[0].tolist(), t, offset, rate, keep, random)[0][truth[0, t]])
                    for t in (0, 2)]
        np.testing.assert_allclose(nll, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rate", "mask", "random"), [(0.15, 1.0, 0.0), (0.4, 1.0, 0.0), (0.15, 0.8, 0.1)])
def test_floor_is_calibrated(language, text, rate, mask, random):
    truth, offset = text
    seen, selected = corrupted(language, truth, rate, mask, random, seed=1)
    nll, entropy = language.floor(truth, seen, selected, offset, rate, 1 - mask - random, random)
    difference = nll - entropy
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(len(nll))


def test_evidence_and_topics_equal_enumeration():
    language = small_language()
    for offset, row in ((0, [2, MASKED, 1, 3]), (2, [0, 1, ABSENT, ABSENT]), (5, [MASKED, 3, 2, ABSENT])):
        _, topics = enumerated(language, row, None, offset, 0.0, 0.0, 0.0)
        seen, where = np.array([row]), np.array([offset])
        np.testing.assert_allclose(language.log_evidence(seen, where), np.log(topics.sum()), atol=1e-12)
        np.testing.assert_allclose(language.topic_posterior(seen, where)[0], topics / topics.sum(), atol=1e-12)


def test_evidence_of_all_texts_sums_to_one():
    language = small_language()
    every = np.array(list(itertools.product(range(4), repeat=4)))
    assert np.exp(language.log_evidence(every, np.full(len(every), 3))).sum() == pytest.approx(1, abs=1e-12)


def test_prior_and_unigram_equal_the_dense_chain(language):
    """The default language has no transition matrix anywhere else: here it is built and multiplied out."""
    _, start, transition = dense_chain(language)
    for offset in (0, 1, 7, 124):
        expected = start @ np.linalg.matrix_power(transition, offset)
        np.testing.assert_allclose(language.prior(np.array([offset]))[0].ravel(), expected, atol=1e-13)
    far = start @ np.linalg.matrix_power(transition, 4096)
    np.testing.assert_allclose(language.unigram(), far @ language.emission.reshape(len(far), -1), atol=1e-12)


def test_text_follows_the_distribution_that_scores_it(language):
    """Word counts of windows far inside documents agree with the long-run distribution."""
    _, documents = language.sample(300, 200, seed=12)
    words = np.array([list(itertools.chain(*document))[100:200] for document in documents])
    observed, expected = np.bincount(words.ravel(), minlength=len(language.words)) / words.size, language.unigram()
    common = expected > 2e-3
    # words of one topic occur together, so the document is the unit, not the word
    spread = (words[..., None] == np.flatnonzero(common)).mean(1).std(0) / np.sqrt(len(words))
    assert common.sum() > 50
    assert (np.abs(observed - expected)[common] < 5 * spread).all()


@pytest.mark.parametrize(("setting", "wrong_values"), [("advance", (0.4, 0.95, 1.0)), ("smoothing", (0.15, 0.5))])
def test_text_is_likeliest_under_the_settings_it_was_drawn_with(language, text, setting, wrong_values):
    truth, offset = text[0][::2], np.zeros(len(text[0]) // 2, int)                      # windows at a document's start
    assert not text[1][::2].any()
    evidence = language.log_evidence(truth, offset)
    for value in wrong_values:
        gain = evidence - Language(seed=0, **{**DEFAULT, setting: value}).log_evidence(truth, offset)
        assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))


@pytest.mark.parametrize("sizes", [{"general": 10, "topical": 10, "thematic": 4},
                                   {"topics": 1, "themes": 1}, {"themes": 1, "general": 1, "topical": 1, "thematic": 1},
                                   {"advance": 0.0, "smoothing": 0.0}, {"advance": 1.0, "smoothing": 1.0}])
def test_any_size_has_distributions_that_sum_to_one_and_distinct_words(sizes):
    language = Language(seed=2, **{**DEFAULT, **sizes})
    np.testing.assert_allclose(language.emission.sum(-1), 1, atol=1e-12)
    np.testing.assert_allclose(language.grammar.sum(-1), 1, atol=1e-12)
    assert (language.emission >= 0).all()
    assert language.words[0] == "."
    assert all(word.isalpha() and word.islower() for word in language.words[1:])
    assert len(set(language.words)) == len(language.words) == language.emission.shape[-1]
    assert language.unigram().sum() == pytest.approx(1)
    _, documents = language.sample(3, 30, seed=0)
    assert np.isfinite(language.log_evidence(np.array([sum(d, [])[:30] for d in documents]), np.zeros(3, int))).all()


def test_plurals_and_verbs_end_in_s_and_adjectives_in_y(language):
    possible = language.emission.max((0, 1)) > 0                                        # (K, V)
    for state, ending in (("noun-p", "s"), ("verb-s", "s"), ("adj-s", "y"), ("adj-o", "y")):
        assert all(language.words[w].endswith(ending) for w in np.flatnonzero(possible[STATES.index(state)]))
    assert not any(language.words[w].endswith("s") for w in np.flatnonzero(possible[STATES.index("noun-s")]))


def test_wider_context_helps_and_the_row_gives_the_floor(language, text):
    truth, offset = text[0][:40], text[1][:40]
    selected = np.random.default_rng(2).random(truth.shape) < 0.15
    full, _ = language.floor(truth, np.where(selected, MASKED, truth), selected, offset, 0.15)
    levels = [language.context_floor(truth, selected, offset, window) for window in (0, 2, 61)]
    assert levels[0].mean() > levels[1].mean() > levels[2].mean()
    np.testing.assert_allclose(levels[2], full, atol=1e-9)


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


def test_rows_without_a_selected_word_have_no_floor_and_do_not_affect_other_rows(language, text):
    rows = 130
    truth = text[0][:rows, :20]
    selected = np.zeros((rows, 20), bool)
    selected[129, 3] = True
    seen = np.where(selected, MASKED, truth)
    offset = text[1][:rows]
    both, _ = language.floor(truth, seen, selected, offset, 0.15)
    alone, _ = language.floor(truth[129:], seen[129:], selected[129:], offset[129:], 0.15)
    np.testing.assert_allclose(both, alone, atol=1e-12)


def test_a_selected_position_must_have_a_word(language):
    with pytest.raises(ValueError, match="has no word"):
        language.floor(np.ones((1, 2), int), np.array([[1, ABSENT]]), np.array([[False, True]]), np.zeros(1, int), 0.15)


def test_a_second_sense_belongs_to_another_topic_or_theme(language):
    assert language.senses
    for _, home, second in language.senses:
        assert any(not isinstance(part, slice) and part != index for index, part in zip(second, home, strict=True))
