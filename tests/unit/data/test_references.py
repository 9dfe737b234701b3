"""Count-model references, against the same laws and sums written out."""
import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

from study.data.neighbour_laws import DISCOUNT, UNKNOWN, count_contexts, masked_tokens, side_laws
from study.data.references import CountModels, product_nlls, reference_ladder
from tests.support.studies import tiny_study

CLS, SEP, MASK = 0, 1, 2
WORDS = (3, 4, 5)
TRAIN = np.array([3, 4, 5, 3, 4, 3, 1, 4, 5, 4, 3, 3, 5, 1, 4, 3, 4, 5])
UNIGRAM = np.array([np.inf, np.inf, np.inf, -math.log(0.5), -math.log(0.3), -math.log(0.2)])
IDS = np.array([[CLS, 3, 4, 5, 4, 3, SEP], [CLS, 4, 3, 3, 5, 4, SEP], [CLS, 5, 5, 3, 4, 5, SEP]])
CORRUPTION = np.array([[0, 0, 0, 1, 1, 0, 0], [0, 1, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 1, 0]], np.uint8)
TOKENS = masked_tokens(IDS, np.where(CORRUPTION, MASK, IDS), CORRUPTION, [MASK, CLS, SEP])
MODELS = CountModels.of(TRAIN, UNIGRAM, {"validation": TOKENS})


def probability(word, stream, *words):
    """P(word | words), the nearest first, written out: absolute discounting with back-off."""
    if not words:
        return math.exp(-UNIGRAM[word])
    below = probability(word, stream, *words[:-1])
    size, stream = len(words), [int(x) for x in stream]
    following = [stream[place] for place in range(size, len(stream))
                 if tuple(stream[place - size:place][::-1]) == words and stream[place] in WORDS]
    if UNKNOWN in words or not following:
        return below
    return (max(following.count(word) - DISCOUNT, 0) + DISCOUNT * len(set(following)) * below) / len(following)


def product(place, a, b, c=None):
    """P(word) for each word at a masked place, from the two laws of one word and, with c, those of two: a dictionary
    that sums to one."""
    left, right = ([int(x) for x in side[place]] for side in (TOKENS.left, TOKENS.right))
    shares = {}
    for word in WORDS:
        one, two = (probability(word, TRAIN, *left[:size]) * probability(word, TRAIN[::-1], *right[:size])
                    for size in (1, 2))
        shares[word] = one**a * math.exp(-UNIGRAM[word])**b * (1 if c is None else two**c)
    return {word: share / sum(shares.values()) for word, share in shares.items()}


@pytest.mark.parametrize("block", [1, 3, 100])
@pytest.mark.parametrize("words", [1, 2])
def test_contexts_are_counted_whatever_the_block(block, words):
    keys = np.arange(6 ** words)
    counts = count_contexts(TRAIN, keys, words, np.isfinite(UNIGRAM), block)
    expected = np.zeros((len(keys), 6))
    for place in range(words, len(TRAIN)):
        if TRAIN[place] in WORDS:
            context = TRAIN[place - 1] if words == 1 else TRAIN[place - 1] * 6 + TRAIN[place - 2]
            expected[context, TRAIN[place]] += 1
    np.testing.assert_array_equal(counts.toarray(), expected)


def test_only_contexts_that_are_looked_up_are_counted():
    one, two = side_laws(TRAIN, TOKENS.left, UNIGRAM)
    assert set(one.keys) == {UNKNOWN, *TOKENS.left[:, 0]}
    assert len(two.keys) <= len(TOKENS) + 1


def test_masked_words_and_the_ends_of_a_row_are_unknown():
    assert TOKENS.truth.tolist() == [5, 4, 4, 3, 5, 5]
    assert TOKENS.left.tolist() == [[4, 3], [UNKNOWN, 4], [UNKNOWN, UNKNOWN], [3, UNKNOWN], [5, UNKNOWN], [4, 3]]
    assert TOKENS.right.tolist() == [[UNKNOWN, 3], [3, UNKNOWN], [3, UNKNOWN], [5, 4], [3, 4], [UNKNOWN, UNKNOWN]]


def test_laws_sum_to_one():
    contexts = [*itertools.product((1, *WORDS)), *itertools.product((1, *WORDS), repeat=2)]
    for stream, words in itertools.product((TRAIN, TRAIN[::-1]), contexts):
        assert sum(probability(word, stream, *words) for word in WORDS) == pytest.approx(1)


def test_the_parts_of_the_mixture_are_the_laws_of_one_word():
    words = zip(TOKENS.truth.tolist(), TOKENS.left[:, 0].tolist(), TOKENS.right[:, 0].tolist(), strict=True)
    expected = [[probability(word, TRAIN), probability(word, TRAIN, left), probability(word, TRAIN[::-1], right)]
                for word, left, right in words]
    np.testing.assert_allclose(MODELS.mixture_parts(TOKENS).T, expected)


def test_the_mixture_is_the_best_one_for_the_validation_set():
    parts = MODELS.mixture_parts(TOKENS)
    nll = MODELS.mixture_nll(TOKENS, MODELS.fitted_mixture(TOKENS))
    grid = [(a, b, 1 - a - b) for a in np.linspace(0, 1, 51) for b in np.linspace(0, 1 - a, 51)]
    best = min(float(-np.log(np.maximum(weights @ parts, 1e-12)).mean()) for weights in np.array(grid))
    assert best - 1e-3 <= nll <= best + 0.02


@pytest.mark.parametrize("exponents", [(0.8, -0.7), (1.0, -1.0), (0.5, -0.6, 0.3), (0.0, 0.1, 0.9), (0.0, 1.0, 0.0)])
def test_a_product_equals_the_one_written_out(exponents):
    expected = [product(place, *exponents)[int(word)] for place, word in enumerate(TOKENS.truth)]
    gains = MODELS.gains(TOKENS, len(exponents) - 1)
    np.testing.assert_allclose(product_nlls(gains, TOKENS.truth, UNIGRAM, exponents), -np.log(expected))
    total = sum(np.exp(-product_nlls(gains, np.full(len(TOKENS), word), UNIGRAM, exponents)) for word in WORDS)
    np.testing.assert_allclose(total, 1)


def test_blocks_do_not_change_a_product():
    whole = MODELS.product_nll(TOKENS, (0.8, -0.7, 0.2))
    assert whole == pytest.approx(product_nlls(MODELS.gains(TOKENS, 2), TOKENS.truth, UNIGRAM, (0.8, -0.7, 0.2)).mean())
    assert MODELS.product_nll(TOKENS, (0.8, -0.7, 0.2), block=1) == pytest.approx(whole)
    assert MODELS.product_nll(TOKENS, (0.8, -0.7, 0.2), block=4) == pytest.approx(whole)


def test_without_known_neighbours_all_models_are_the_unigram_law():
    hidden = masked_tokens(IDS, np.full_like(IDS, MASK), CORRUPTION, [MASK, CLS, SEP])
    models, expected = CountModels.of(TRAIN, UNIGRAM, {"validation": hidden}), UNIGRAM[hidden.truth].mean()
    assert models.mixture_nll(hidden, np.array([0.2, 0.3, 0.5])) == pytest.approx(expected)
    assert models.product_nll(hidden, (0.8, -0.6)) == pytest.approx(expected)       # 2a + b = 1
    assert models.product_nll(hidden, (0.5, -0.6, 0.3)) == pytest.approx(expected)


def test_without_counts_of_two_words_the_law_is_that_of_one():
    never = np.tile([4, CLS], (len(TOKENS), 1))             # no training text has [CLS]
    unseen = dataclasses.replace(TOKENS, left=never, right=never)
    models = CountModels.of(TRAIN, UNIGRAM, {"validation": unseen})
    one, two = models.gains(unseen, 2)
    np.testing.assert_allclose(one.toarray(), two.toarray())
    assert one.nnz > 0


def test_everything_is_fitted_to_the_validation_set_alone():
    hidden = masked_tokens(IDS, np.full_like(IDS, MASK), CORRUPTION, [MASK, CLS, SEP])
    ladder, fitted = reference_ladder(TRAIN, UNIGRAM, {"validation": TOKENS, "test": TOKENS}, {})
    assert ladder["validation"] == ladder["test"]
    assert reference_ladder(TRAIN, UNIGRAM, {"validation": TOKENS, "test": hidden}, {})[1] == fitted
    assert reference_ladder(TRAIN, UNIGRAM, {"validation": hidden, "test": TOKENS}, {})[1] != fitted


@pytest.mark.parametrize("words", [1, 2])
def test_fitted_exponents_are_the_best(words):
    models, tokens = CountModels.of(*SAMPLE[:2], {"validation": SAMPLE[2]}), SAMPLE[2]
    best = np.array(models.fitted_exponents(tokens, words))
    nll = models.product_nll(tokens, tuple(best))
    for change in itertools.product((-0.1, 0, 0.1), repeat=words + 1):
        assert models.product_nll(tokens, tuple(best + change)) > nll - 1e-5


def _sample(seed=0, size=12, length=20_000):
    """Text in which a word follows from the two before it, its unigram NLL, and its own last part as masked rows."""
    rng = np.random.default_rng(seed)
    law, text = rng.dirichlet(np.full(size, 0.3), (size, size)), [0, 1]
    for _ in range(length):
        text.append(rng.choice(size, p=law[text[-2], text[-1]]))
    text = np.array(text) + 3
    train, rows = text[:-4000], text[-4000:].reshape(-1, 20)
    ids = np.pad(rows, ((0, 0), (1, 1)), constant_values=CLS)
    corruption = rng.random(ids.shape) < 0.15
    corruption[:, [0, -1]] = False
    counts = np.bincount(train, minlength=size + 3)
    with np.errstate(divide="ignore"):
        unigram = -np.log(counts / counts.sum())
    return train, unigram, masked_tokens(ids, np.where(corruption, MASK, ids), corruption.astype(np.uint8), [MASK])


SAMPLE = _sample()


def test_each_rung_that_knows_more_is_better_on_text_with_structure():
    train, unigram, tokens = SAMPLE
    half = len(tokens) // 2
    ladder, _ = reference_ladder(train, unigram, {"validation": tokens[:half], "test": tokens[half:]}, {})
    levels = [rung["nll"] for rung in ladder["test"]]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(math.log(12))
    assert levels[2] - levels[3] > 0.02     # the product against the mixture
    assert levels[3] - levels[4] > 0.1      # two words against one


def test_the_ladder_of_a_study(tmp_path):
    study = tiny_study(tmp_path / "study")
    references = json.loads((study.runs / "examples" / "references.json").read_text())
    sets = {"validation": ("validation", "mask_only"), "test": ("test", "mask_only"),
            "validation_pairs": ("validation", "mask_only_pairs")}
    assert references["ladder"].keys() == sets.keys()
    for name, (split, masks) in sets.items():
        rungs = references["ladder"][name]
        level = {rung["name"]: rung for rung in rungs}
        assert list(level) == ["uniform", "unigram", "neighbours-mixture", "neighbours-product",
                               "two-neighbours-product", "floor"]
        assert {rung["tokens"] for rung in rungs} == {references["tokens"][split][masks]}
        assert all(rung["perplexity"] == pytest.approx(math.exp(rung["nll"])) for rung in rungs)
        assert level["uniform"]["perplexity"] == pytest.approx(references["vocabulary"])
        assert level["floor"]["nll"] == references["floors"][split][masks]["nll"]
        assert level["neighbours-product"]["nll"] < level["neighbours-mixture"]["nll"] < level["unigram"]["nll"]
        if masks == "mask_only":
            assert level["unigram"]["perplexity"] == pytest.approx(references["unigram"][split])
    assert {name: list(values) for name, values in references["fitted"].items()} == {
        "neighbours-mixture": ["left", "right", "unigram"], "neighbours-product": ["a", "b"],
        "two-neighbours-product": ["a", "b", "c"]}
