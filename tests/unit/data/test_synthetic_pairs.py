"""Exact inference on segment pairs: equal to enumeration, calibrated, and out of reach for any model."""
import itertools
import json

import numpy as np
import pytest

from study.data.batches import gather
from study.data.evaluation_sets import PAIR_SET, load_evaluation_set
from study.data.layouts import pair_layout
from study.data.synthetic import END, MASKED, UNKNOWN, Language
from study.data.synthetic_floor import synthetic_floor
from study.data.synthetic_pairs import Text, next_sentence_log_odds, pair_floor, sentence_order_log_odds
from study.data.token_store import TokenStore
from tests.support.synthetic_text import default_language, dense_chain, small_language


def text(words, stops, hidden=(), predicted=()) -> Text:
    """A text in which the words at the positions `hidden` and `predicted` are not shown."""
    words, seen, target = np.array(words), np.array(words), np.zeros(len(words), bool)
    seen[[*hidden, *predicted]] = MASKED
    target[list(predicted)] = True
    return Text(words, seen, np.array(stops), target)


def enumerated(language: Language, part: Text, position: int | None = None) -> np.ndarray:
    """P(words shown, sentence ends, word at `position`), (V,); summed over words if there is no position. A sum over
    all state paths, which shares no code with the language."""
    states, start, transition = dense_chain(language)
    emission, ends = np.array([language.emission[state] for state in states]), np.array([s[2] == END for s in states])
    used = np.array([i for i in range(len(states)) if start[i] or transition[:, i].any()])
    paths = used[np.indices((len(used),) * len(part.words)).reshape(len(part.words), -1)]      # (T, paths)
    p = start[paths[0]]
    for t, path in enumerate(paths):
        p = p * (transition[paths[t - 1], path] if t else 1.0) * (ends[path] == part.stops[t])
        if part.seen[t] >= 0:
            p = p * emission[path, part.seen[t]]
    return p @ emission[paths[position]] if position is not None else p.sum(keepdims=True)


FIRST = text([2, 3, 1], [0, 0, 1], hidden=[0], predicted=[1, 2])
SECOND = text([0, 1], [0, 1], predicted=[0])


def test_the_floor_of_pairs_equals_enumeration():
    language = small_language()
    nll = pair_floor(language, [FIRST, FIRST], [SECOND, SECOND], np.array([0, 1]))
    expected = []
    for part, positions in ((FIRST + SECOND, (1, 2, 3)), (FIRST, (1, 2)), (SECOND, (0,))):
        for position in positions:
            posterior = enumerated(language, part, position)
            expected.append(-np.log(posterior[part.words[position]] / posterior.sum()))
    np.testing.assert_allclose(nll, expected, rtol=0, atol=1e-12)


def test_log_odds_equal_enumeration():
    language = small_language()
    joined, swapped, first, second = (np.log(enumerated(language, part))[0]
                                      for part in (FIRST + SECOND, SECOND + FIRST, FIRST, SECOND))
    np.testing.assert_allclose(next_sentence_log_odds(language, [FIRST], [SECOND]), joined - first - second, atol=1e-12)
    np.testing.assert_allclose(sentence_order_log_odds(language, [FIRST], [SECOND]), joined - swapped, atol=1e-12)


def test_unknown_sentence_ends_change_nothing():
    language, rng = small_language(), np.random.default_rng(0)
    truth, offset = rng.integers(4, size=(5, 4)), np.array([0, 1, 0, 3, 2])
    selected = rng.random((5, 4)) < 0.5
    seen, unknown = np.where(selected, MASKED, truth), np.full((5, 4), UNKNOWN)
    for with_stops, without in zip(language.floor(truth, seen, selected, offset, 0.4, stops=unknown),
                                   language.floor(truth, seen, selected, offset, 0.4), strict=True):
        np.testing.assert_array_equal(with_stops, without)


def test_the_probability_of_all_words_and_sentence_ends_is_one():
    language = small_language()
    every = list(itertools.product(range(4), repeat=3))
    total = sum(np.exp(language.log_evidence(np.array(every), np.zeros(len(every), int),
                                             np.broadcast_to(stops, (len(every), 3)))).sum()
                for stops in itertools.product((0, 1), repeat=3))
    assert total == pytest.approx(1, abs=1e-12)


def test_log_odds_are_calibrated():
    """Pairs with a probability of p are consecutive, or in order, in a share of p, within the error."""
    language = default_language()
    _, documents = language.sample_sentences(600, 4, 4, seed=6)
    first, second = ([Text.shown(sum(part, [])) for part in parts]
                     for parts in zip(*((d[:2], d[2:]) for d in documents), strict=True))
    for log_odds in (np.concatenate([next_sentence_log_odds(language, first, second),
                                     -next_sentence_log_odds(language, first, second[1:] + second[:1])]),
                     sentence_order_log_odds(language, first, second)):
        expected, correct = 1 / (1 + np.exp(-np.abs(log_odds))), log_odds > 0
        error = np.sqrt((expected * (1 - expected)).sum()) / len(correct)
        assert abs(correct.mean() - expected.mean()) < 4 * error
        assert correct.mean() > 0.8


@pytest.fixture(scope="module")
def evaluation(tiny):
    return load_evaluation_set(tiny.runs / "examples" / "test.npz")


@pytest.mark.parametrize("swap", [False, True])
def test_a_pair_is_read_as_it_lies_in_the_text(tiny, swap):
    """The words that are shown or predicted are the tokens of the row, in order; the others were cut off."""
    exact, store = synthetic_floor(tiny), TokenStore.open(tiny.runs / "examples" / "test")
    layout, length = pair_layout(store, "segment-pairs", 20, swap), 20          # short rows: some pairs are cut
    segments = layout.segments(np.zeros(len(layout), int), np.arange(len(layout)), 5)
    spans = layout.cut(segments)
    rows = gather(store.ids, spans, length, exact.tokenizer, padded=True)
    is_word = exact.tokenizer.is_ordinary[rows.ids]
    selected = is_word & (np.random.default_rng(0).random(is_word.shape) < 0.3)
    cut = 0
    for row, pair in enumerate(zip(*exact._texts(store, segments, spans, selected), strict=True)):
        both = pair[0] + pair[1]
        known = (both.seen != MASKED) | both.predicted
        assert exact.tokenizer.ordinary[both.words[known]].tolist() == rows.ids[row][is_word[row]].tolist()
        assert both.predicted[known].tolist() == selected[row][is_word[row]].tolist()
        assert (both.words == 0).tolist() == (both.stops == 1).tolist()         # word 0 is the full stop
        assert pair[0].stops[-1] == pair[1].stops[-1] == 1
        cut += not known.all()
    assert 0 < cut < len(rows.ids)


def test_only_full_stops_are_certain(evaluation):
    pairs = evaluation.pairs["nsp"]
    truth = pairs.rows.ids[pairs.masks.corruption > 0]
    floor = pairs.masks.floor
    assert len(floor) == len(truth)
    certain = floor < 1e-9
    assert len(np.unique(truth[certain])) == 1                  # the full stop
    assert np.isin(truth[~certain], truth[certain]).sum() == 0


def test_the_best_classifier_is_right_more_often_than_chance(evaluation):
    for task, pairs in evaluation.pairs.items():
        assert np.isfinite(pairs.log_odds).all(), task
        assert pairs.best_is_correct.mean() > 0.6


def test_the_references_have_floor_and_ceilings_of_pairs(tiny, evaluation):
    references = json.loads((tiny.runs / "examples" / "references.json").read_text())
    pairs = evaluation.pairs["nsp"]
    assert references["tokens"]["test"][PAIR_SET] == (pairs.masks.corruption > 0).sum()
    assert references["floors"]["test"][PAIR_SET]["nll"] == pytest.approx(pairs.masks.floor.mean())
    assert references["ceilings"]["test"] == {task: part.best_is_correct.mean()
                                              for task, part in evaluation.pairs.items()}
