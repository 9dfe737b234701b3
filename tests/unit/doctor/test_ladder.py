"""The ladder of any text, against the same expectations written out and against the study's own ladder."""
import itertools
import math

import numpy as np
import pytest

from study import StudyError
from study.analysis.learning import context_free_nll
from study.data.neighbour_laws import UNKNOWN, MaskedTokens
from study.data.references import CountModels, reference_ladder, unigram_nll
from study.doctor.ladder import PARTS, Fitted, measure_ladder, own_masking, select, shown_token_nll, split
from study.doctor.tokenizer import encode_lines

BERT, ALL_MASK = own_masking(0.15, (0.8, 0.1, 0.1)), own_masking(0.15, (1.0, 0.0, 0.0))
MIXES = [(0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0),
         (0.1, 0.2, 0.7)]
WORDS = 4


def expected_nll(law: np.ndarray, truth: int, mix: tuple[float, float, float]) -> float:
    """The mean of -ln P(truth | shown) over everything that can be shown, by Bayes' rule on the joint distribution."""
    mask, random, keep = mix
    joint = np.array([[law[x] * (keep * (x == s) + random / WORDS) for s in range(WORDS)] for x in range(WORDS)])
    shown = [keep * (s == truth) + random / WORDS for s in range(WORDS)]
    return -mask * math.log(law[truth]) - sum(
        share * math.log(joint[truth, s] / joint[:, s].sum()) for s, share in enumerate(shown) if share)


@pytest.mark.parametrize("mix", MIXES)
def test_the_level_with_the_shown_token_is_the_expectation_over_all_that_can_be_shown(mix, rng):
    laws, truth = rng.dirichlet(np.ones(WORDS), 6), rng.integers(0, WORDS, 6)
    every = np.repeat(np.arange(WORDS)[:, None], 6, 1)
    nlls = shown_token_nll(-np.log(laws[np.arange(6), truth])[None], -np.log(laws.T), truth, every,
                           own_masking(0.15, mix), WORDS)
    np.testing.assert_allclose(nlls, [expected_nll(law, x, mix) for law, x in zip(laws, truth, strict=True)])


@pytest.mark.parametrize("mix", MIXES)
def test_the_unigram_level_is_that_of_the_formula_for_what_needs_no_context(mix, rng):
    frequencies = rng.dirichlet(np.ones(WORDS))
    every = np.repeat(np.arange(WORDS)[:, None], WORDS, 1)
    nlls = shown_token_nll(-np.log(frequencies)[None], np.repeat(-np.log(frequencies)[:, None], WORDS, 1),
                           np.arange(WORDS), every, own_masking(0.15, mix), WORDS)
    assert frequencies @ nlls == pytest.approx(context_free_nll(frequencies, own_masking(0.15, mix)))


@pytest.fixture(scope="module")
def small():
    """A text of 4 words (ids 1 to 4; 0 is not a word), its count models and some tokens to predict in it."""
    rng = np.random.default_rng(2)
    chain = rng.dirichlet(np.ones(WORDS) / 2, WORDS)
    stream = [0]
    for _ in range(3000):
        stream.append(int(rng.choice(WORDS, p=chain[stream[-1]])))
    stream = np.array(stream) + 1
    counts = np.bincount(stream, minlength=WORDS + 1)[1:]
    unigram = np.concatenate([[np.inf], -np.log(counts / counts.sum())])
    place = rng.integers(2, len(stream) - 2, 40)
    tokens = MaskedTokens(stream[place], np.stack([stream[place - 1], stream[place - 2]], 1),
                          np.stack([stream[place + 1], stream[place + 2]], 1))
    tokens.left[::7, 0] = UNKNOWN
    return stream, unigram, tokens, Fitted.to(CountModels.of(stream, unigram, {"fit": tokens}), tokens)


def every_word(tokens) -> np.ndarray:
    return np.repeat(np.arange(1, WORDS + 1)[:, None], len(tokens), 1)


def test_the_laws_of_all_models_sum_to_one(small):
    _, _, tokens, fitted = small
    for law in (fitted.mixture(tokens, every_word(tokens)),
                *(fitted.product(name, tokens, every_word(tokens)) for name in fitted.exponents)):
        np.testing.assert_allclose(np.exp(-law).sum(0), 1)


@pytest.mark.parametrize("mix", MIXES)
def test_each_level_of_a_small_text_equals_the_expectation_written_out(small, mix):
    _, unigram, tokens, fitted = small
    every = every_word(tokens)
    nlls = fitted.token_nlls(tokens, own_masking(0.15, mix), every)
    laws = {"unigram": np.exp(-unigram[every]), "neighbours-mixture": np.exp(-fitted.mixture(tokens, every))}
    laws |= {name: np.exp(-fitted.product(name, tokens, every)) for name in fitted.exponents}
    assert nlls.keys() == laws.keys()
    for name, law in laws.items():
        expected = [expected_nll(law[:, place], tokens.truth[place] - 1, mix) for place in range(len(tokens))]
        np.testing.assert_allclose(nlls[name], expected, atol=1e-9)


def test_under_all_mask_the_ladder_is_that_of_the_study(small):
    stream, unigram, tokens, fitted = small
    ladder, _ = reference_ladder(stream, unigram, {"validation": tokens}, {})
    nlls = fitted.token_nlls(tokens, ALL_MASK, every_word(tokens))
    expected = {rung["name"]: rung["nll"] for rung in ladder["validation"] if rung["name"] != "uniform"}
    for name, nll in expected.items():
        assert nlls[name].mean() == pytest.approx(nll, abs=1e-5)        # the study rounds the weights


def test_a_text_is_split_into_disjoint_parts_and_rows_begin_and_end_with_a_boundary():
    ids = np.arange(4000)
    counted, fit, score = split(ids, 22, -1)
    parts = [counted, fit[:, 1:-1].ravel(), score[:, 1:-1].ravel()]
    joined = np.concatenate(parts)
    assert len(np.unique(joined)) == len(joined) == len(ids)
    assert len(counted) == pytest.approx(0.8 * len(ids), abs=PARTS)
    for rows in (fit, score):
        assert rows.shape[1] == 22
        assert (rows[:, [0, -1]] == -1).all()
        assert (np.diff(rows[:, 1:-1]) == 1).all()


def test_pieces_that_are_a_token_shorter_than_others_give_rows_too():
    counted, fit, score = split(np.arange(4001), 128, -1)       # one piece of 101 tokens, 39 of 100
    assert fit.shape == score.shape == (4, 102)
    assert len(counted) == 3201


def test_selected_tokens_are_ordinary_and_words_of_other_lines_are_no_neighbours(vocabulary, lines):
    encoded = encode_lines(vocabulary, lines)
    _, _, rows = split(encoded.ids, 64, vocabulary.boundary)
    tokens = select(rows, vocabulary, BERT, 0, 10**6)
    assert vocabulary.is_ordinary[tokens.truth].all()
    assert len(tokens) == pytest.approx(0.15 * vocabulary.info.is_ordinary[rows].sum(), rel=0.05)
    neighbours = np.concatenate([tokens.left, tokens.right])
    assert vocabulary.boundary not in neighbours
    assert (neighbours == UNKNOWN).any()


def test_fewer_tokens_are_scored_if_a_limit_is_set(vocabulary, lines):
    encoded = encode_lines(vocabulary, lines)
    _, _, rows = split(encoded.ids, 64, vocabulary.boundary)
    for limit in (100, 400):
        assert 0.5 * limit < len(select(rows, vocabulary, BERT, 0, limit)) < 1.3 * limit


@pytest.fixture(scope="module")
def ladders(vocabulary, lines):
    ids = encode_lines(vocabulary, lines).ids
    return {name: measure_ladder(ids, vocabulary, masking, 64, 0) for name, masking in (
        ("bert", BERT), ("mask", ALL_MASK))}


def test_more_knowledge_gives_lower_levels(ladders, vocabulary):
    levels = ladders["bert"].levels
    assert [level.name for level in levels] == ["uniform", "unigram", "neighbours-mixture", "neighbours-product",
                                                "two-neighbours-product"]
    assert levels[0].all_mask == levels[0].own == math.log(len(vocabulary.ordinary))
    for kind in ("all_mask", "own"):
        nlls = [getattr(level, kind) for level in levels]
        assert all(more < less + 0.02 for less, more in itertools.pairwise(nlls))
    assert all(level.own < level.all_mask for level in levels[1:])


def test_the_level_of_the_users_corruption_is_that_of_all_mask_if_it_is_all_mask(ladders):
    for level, other in zip(ladders["mask"].levels, ladders["bert"].levels, strict=True):
        assert level.own == level.all_mask == other.all_mask


def test_the_unigram_level_is_near_the_entropy_of_the_text(ladders, vocabulary, lines):
    ids = encode_lines(vocabulary, lines).ids
    frequencies = np.exp(-unigram_nll(ids, vocabulary.info))
    level = ladders["bert"]["unigram"]
    assert abs(level.own - context_free_nll(frequencies, BERT)) < 4 * level.error
    assert abs(level.all_mask - context_free_nll(frequencies, ALL_MASK)) < 4 * level.error


def test_a_text_that_is_too_short_is_refused(vocabulary, lines):
    with pytest.raises(StudyError, match="tokens of the vocabulary; the ladder needs 4,000: pass more text"):
        measure_ladder(encode_lines(vocabulary, lines[:20]).ids, vocabulary, BERT, 64, 0)


@pytest.mark.parametrize(("rate", "needed"), [(0.15, 4000), (0.5, 1200)])
def test_a_text_that_has_what_the_message_asks_for_is_enough(rate, needed, vocabulary, lines):
    ids = encode_lines(vocabulary, lines).ids
    enough = np.flatnonzero(np.cumsum(vocabulary.info.is_ordinary[ids]) == needed)[0] + 1
    masking = own_masking(rate, (0.8, 0.1, 0.1))
    assert measure_ladder(ids[:enough], vocabulary, masking, 128, 0).scored >= 50
    with pytest.raises(StudyError, match=f"has {needed - 1:,} tokens of the vocabulary; the ladder needs {needed:,}"):
        measure_ladder(ids[:enough - 1], vocabulary, masking, 128, 0)
