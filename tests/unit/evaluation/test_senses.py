"""The sense probe: the sentences, the distances, and encoders that know or do not know the senses."""
import json

import numpy as np
import pytest
import torch

from study import StudyError
from study.config.arms import resolve
from study.config.load import load_study
from study.data.wordpiece import wordpiece
from study.data.words import word_level
from study.evaluation import senses as senses_module
from study.evaluation.embedding import token_states
from study.evaluation.senses import PAIR, TEXT, example, sense_scores, sense_sentences, word_distances
from study.objectives.pretraining_model import new_model
from tests.support.studies import ROOT, changed

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
EVERY_TEXT = [text for senses in sense_sentences().values() for sentences in senses for text in sentences]


@pytest.fixture(scope="module")
def backend():
    words = sorted({word for text in (*EVERY_TEXT, TEXT, *PAIR) for word in text.split()})
    return word_level({piece: index for index, piece in enumerate([*SPECIALS, *words])}, lowercase=True)


@pytest.fixture(scope="module")
def config():
    settings = resolve(load_study(ROOT / "experiments" / "d2l"), "d2l")
    return changed(settings, model={"hidden_size": 32, "intermediate_size": 32})


@pytest.fixture(scope="module")
def model(config, backend):
    return new_model(config, backend.get_vocab_size(), 5).eval()


@pytest.mark.parametrize("word", list(sense_sentences()))
def test_a_word_occurs_once_in_each_sentence_and_at_the_same_place_in_both_senses(word):
    senses = [[text.split() for text in sentences] for sentences in sense_sentences()[word]]
    assert [len(sentences) for sentences in senses] == [3, 3]
    for pair in zip(*senses, strict=True):
        assert [text.count(word) for text in pair] == [1, 1]
        assert pair[0].index(word) == pair[1].index(word)
        assert pair[0] != pair[1]


def test_distances_are_means_over_pairs_of_sentences_of_different_numbers():
    angles = {"first": [0, 20, 40], "second": [90, 100, 130]}
    first, second = (np.stack([[np.cos(np.radians(a)), np.sin(np.radians(a))] for a in part])
                     for part in angles.values())
    within, between = word_distances(2 * first, first * 0 + second)
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([1 - np.cos(np.radians(part[a] - part[b])) for part in angles.values() for a, b in pairs])
    assert within == pytest.approx(expected)
    expected = np.mean([1 - np.cos(np.radians(a - b)) for i, a in enumerate(angles["first"])
                        for j, b in enumerate(angles["second"]) if i != j])
    assert between == pytest.approx(expected)


def test_the_gap_is_zero_where_vectors_have_no_sense_and_large_where_they_do():
    rng = np.random.default_rng(0)
    noise = [word_distances(*rng.normal(size=(2, 3, 64))) for _ in range(2000)]
    assert np.mean([between - within for within, between in noise]) == pytest.approx(0, abs=0.005)
    sense = rng.normal(size=(2, 1, 64))
    within, between = word_distances(*(sense + 0.1 * rng.normal(size=(2, 3, 64))))
    assert between - within > 0.5
    assert word_distances(np.full((3, 4), np.nan), np.ones((3, 4))) == (0.0, 0.0)


def test_an_encoder_at_initialisation_gains_nothing_over_itself(config, backend, model):
    scores, arrays = sense_scores(config, model, backend, 5, 8)
    assert scores["words"] == list(sense_sentences())
    assert scores["unknown"] == []
    np.testing.assert_array_equal(arrays["senses/trained"], arrays["senses/untrained"])
    assert scores["trained"]["gap"] == pytest.approx(arrays["senses/trained"].mean())
    assert scores["example"]["trained"] == scores["example"]["untrained"]
    assert scores["example"]["trained"]["distance"] > 1e-3      # vectors differ by context without any training
    json.dumps(scores)


def test_an_encoder_that_marks_the_sense_has_a_gap(config, backend, model, monkeypatch):
    """The word's vector is replaced by one that depends on the sense alone."""
    of_first = {tuple(backend.encode(text).ids) for first, _ in sense_sentences().values() for text in first}

    def marked(encoder, rows, *_):
        return [np.tile([1.0, 0.0] if tuple(row) in of_first else [0.0, 1.0], (len(row), 1)) for row in rows]

    monkeypatch.setattr(senses_module, "token_states", marked)
    scores, arrays = sense_scores(config, model, backend, 5, 8)
    assert scores["trained"] == {"within": pytest.approx(0), "between": pytest.approx(1), "gap": pytest.approx(1)}
    assert arrays["senses/trained"] == pytest.approx(1)


def test_words_outside_the_vocabulary_are_left_out(config):
    few = word_level({piece: index for index, piece in enumerate([*SPECIALS, "a", "bank", "the"])}, lowercase=True)
    model = new_model(config, few.get_vocab_size(), 0).eval()
    scores, arrays = sense_scores(config, model, few, 0, 8)
    assert (scores["words"], arrays["senses/trained"].shape) == (["bank"], (1,))
    assert "crane" in scores["unknown"]
    assert scores["example"] == {"trained": None, "untrained": None}
    none = word_level({piece: index for index, piece in enumerate([*SPECIALS, "a"])}, lowercase=True)
    with pytest.raises(StudyError, match="the vocabulary has none of the words"):
        sense_scores(config, model, none, 0, 8)


def test_words_in_sentences_longer_than_a_row_are_left_out(config, backend):
    short = changed(config, examples={"max_seq_length": 12})
    model = new_model(short, backend.get_vocab_size(), 5).eval()
    fitting = [word for word, senses in sense_sentences().items()
               if all(len(text.split()) <= 10 for sentences in senses for text in sentences)]
    assert 0 < len(fitting) < len(sense_sentences())
    scores, _ = sense_scores(short, model, backend, 5, 8)
    assert scores["words"] == fitting
    assert scores["example"]["trained"] is not None
    shorter = changed(config, examples={"max_seq_length": 8})
    with pytest.raises(StudyError, match=r"longer than examples\.max_seq_length 8; set it to false"):
        sense_scores(shorter, new_model(shorter, backend.get_vocab_size(), 5).eval(), backend, 5, 8)


def test_words_that_are_split_in_sentences_are_left_out(config):
    """The vocabulary has the word, but its characters are words of their own."""
    split = wordpiece({piece: index for index, piece in enumerate([*SPECIALS, "bank", "b"])}, True,
                      splitting="characters")
    with pytest.raises(StudyError, match="the vocabulary has none of the words"):
        sense_scores(config, new_model(config, split.get_vocab_size(), 0).eval(), split, 0, 8)


def test_states_of_padded_rows_are_those_of_rows_alone(backend, model):
    texts = [EVERY_TEXT[number] for number in (0, 40, 80)]
    rows = [encoded.ids for encoded in backend.encode_batch(texts)]
    together = token_states(model, rows, 0, 8)
    for row, states in zip(rows, together, strict=True):
        np.testing.assert_allclose(states, token_states(model, [row], 0, 1)[0], atol=1e-5)
        assert states.shape == (len(row), 32)


def test_the_example_is_what_encoding_the_texts_gives(backend, model):
    shown = example(model, backend)
    pair = backend.encode(*PAIR)
    with torch.inference_mode():
        states = model.encoder(torch.tensor([pair.ids]), torch.tensor([pair.type_ids]))[0].numpy()
    assert pair.tokens[2] == "crane"
    np.testing.assert_allclose(shown["pair"], states[2][:3], atol=1e-6)
    assert 0 < shown["distance"] < 2
