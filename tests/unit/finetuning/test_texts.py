"""Labelled texts: draws have every class, batches cover every text once and hold texts of similar length."""
import numpy as np
import pandas as pd
import pytest

from study.data.tokenizer import load
from study.finetuning.texts import Texts, encode_texts, epoch_batches, ordered_batches, stratified_order
from tests.support.training import trained_project

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(3, 40, 330)


@pytest.fixture(scope="module")
def backend():
    return load(trained_project() / "runs" / "tiny" / "tokenizer")


def texts() -> Texts:
    """Texts in which every id is the number of the text, of different lengths."""
    ids = [[number] * length for number, length in enumerate(LENGTHS, start=1)]
    return Texts(ids, [[0] * len(row) for row in ids], np.arange(len(ids)) % 3)


def test_every_beginning_of_the_order_has_the_classes_in_proportion():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    order = stratified_order(labels, 5)
    assert sorted(order) == list(range(100))
    for size in (10, 20, 50):
        counts = np.bincount(labels[order[:size]], minlength=3)
        assert np.abs(counts - size * np.array([0.6, 0.3, 0.1])).max() <= 1
    assert (order != stratified_order(labels, 6)).any()
    assert (order == stratified_order(labels, 5)).all()


def test_an_epoch_has_every_text_once_with_its_label_and_little_padding():
    batches = list(epoch_batches(texts(), 8, 0, seed=1, run=0, epoch=0))
    seen = []
    for batch in batches:
        mask = np.ones(batch.ids.shape, bool) if batch.mask is None else batch.mask
        assert (mask == (batch.ids > 0)).all()
        assert (mask.sum(1) == LENGTHS[batch.ids[:, 0] - 1]).all()
        assert (batch.labels == (batch.ids[:, 0] - 1) % 3).all()
        seen += batch.ids[:, 0].tolist()
    assert sorted(seen) == list(range(1, len(LENGTHS) + 1))
    assert len(batches) == -(-len(LENGTHS) // 8)
    tokens, places = LENGTHS.sum(), sum(batch.ids.size for batch in batches)
    assert 1 - tokens / places < 0.05
    lengths = [batch.ids.shape[1] for batch in batches]
    assert lengths != sorted(lengths)           # long texts do not all come last


def test_the_order_depends_on_seed_run_and_epoch():
    def first_ids(**changes):
        coordinates = {"seed": 1, "run": 0, "epoch": 0} | changes
        return [batch.ids[:, 0].tolist() for batch in epoch_batches(texts(), 8, 0, **coordinates)]

    assert first_ids() == first_ids()
    assert all(first_ids() != first_ids(**{name: 2}) for name in ("seed", "run", "epoch"))


def test_prediction_covers_every_text_once():
    index = np.concatenate([rows for rows, _ in ordered_batches(texts(), 64, 0)])
    assert sorted(index) == list(range(len(LENGTHS)))


def test_long_texts_are_truncated_and_keep_their_last_separator(backend):
    word = backend.id_to_token(10)
    frame = pd.DataFrame({"text": [" ".join([word] * 30), word], "label": [1, 0]})
    encoded = encode_texts(backend, frame, 12)
    cls_id, sep_id = backend.token_to_id("[CLS]"), backend.token_to_id("[SEP]")
    assert encoded.ids == [[cls_id, *[10] * 10, sep_id], [cls_id, 10, sep_id]]
    assert encoded.labels.tolist() == [1, 0]
    assert len(backend.encode(frame.text[0]).ids) == 32       # the tokenizer is as it was


def test_pairs_have_two_segments_and_the_longer_text_is_truncated(backend):
    first, second = backend.id_to_token(10), backend.id_to_token(11)
    frame = pd.DataFrame({"text": [" ".join([first] * 30)], "text_pair": [f"{second} {second}"], "label": [0]})
    encoded = encode_texts(backend, frame, 12)
    cls_id, sep_id = backend.token_to_id("[CLS]"), backend.token_to_id("[SEP]")
    assert encoded.ids == [[cls_id, *[10] * 7, sep_id, 11, 11, sep_id]]
    assert encoded.types == [[0] * 9 + [1] * 3]
