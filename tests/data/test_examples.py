"""Stores and layouts: nothing lost, nothing crossed, labels that agree with the documents."""
import numpy as np
import pytest

from study import StudyError
from study.data.batches import BatchSource, gather, prefetch
from study.data.examples import TokenStore, pair_layout, single_layout
from tests.conftest import changed

LENGTH = 32


def test_store_gives_back_the_sentences(store, documents, backend):
    flat = [sentence for document in documents for paragraph in document for sentence in paragraph]
    starts, ends = store.sentences[:-1], store.sentence_ends
    assert len(starts) == len(flat)
    for begin, end, text in zip(starts, ends, flat, strict=True):
        assert store.ids[begin:end].tolist() == backend.encode(text, add_special_tokens=False).ids
    assert (store.ids[store.document_ends] == backend.token_to_id("[SEP]")).all()
    assert len(store.documents) - 1 == len(documents)


def test_full_sentences_lose_no_token_and_pad_nothing(store):
    layout = single_layout(store, "full-sentences", LENGTH)
    seen = np.concatenate([np.arange(s, s + n) for s, n in zip(layout.starts, layout.lengths, strict=True)])
    assert set(seen.tolist()) == set(range(len(store.ids)))
    assert not layout.padded
    assert (layout.lengths == LENGTH - 2).all()


@pytest.mark.parametrize("form", ["document-sentences", "paragraphs"])
def test_rows_stay_inside_documents(store, form):
    layout = single_layout(store, form, LENGTH)
    ends = layout.starts + layout.lengths
    document = store.document_of(layout.starts)
    assert (ends <= store.document_ends[document]).all()
    assert (layout.lengths >= 1).all()
    if form == "document-sentences":
        assert layout.lengths.sum() == (store.document_ends - store.documents[:-1]).sum()


@pytest.mark.parametrize("form", ["segment-pairs", "sentence-pairs"])
def test_next_sentence_labels_agree_with_the_documents(store, form):
    layout = pair_layout(store, form, LENGTH, swap=False)
    example = np.tile(np.arange(len(layout)), 20)
    spans = layout.spans(np.repeat(np.arange(20), len(layout)), example, seed=1)
    first_end, follows = spans.first + spans.first_length, spans.label == 0
    documents = store.document_of(spans.first), store.document_of(spans.second)
    assert (spans.second[follows] == first_end[follows]).all()
    assert (documents[0][follows] == documents[1][follows]).all()
    assert (documents[0][~follows] != documents[1][~follows]).all()
    assert (spans.first_length + spans.second_length <= LENGTH - 3).all()
    assert (spans.first_length >= 1).all()
    assert (spans.second_length >= 1).all()
    ends = spans.second + spans.second_length
    assert (ends <= store.document_ends[documents[1]]).all()
    assert spans.label.mean() == pytest.approx(0.5, abs=0.08)
    assert np.isin(spans.second, store.sentences).all()


def test_sentence_order_swaps_neighbours(store):
    layout = pair_layout(store, "segment-pairs", LENGTH, swap=True)
    spans = layout.spans(np.zeros(len(layout), int), np.arange(len(layout)), seed=1)
    swapped = spans.label == 1
    assert swapped.any()
    assert (spans.first[swapped] > spans.second[swapped]).all()
    assert (spans.first[~swapped] < spans.second[~swapped]).all()
    assert (store.document_of(spans.first) == store.document_of(spans.second)).all()


def test_rows_are_laid_out_as_bert_wants_them(store, lexicon):
    layout = pair_layout(store, "segment-pairs", LENGTH, swap=False)
    spans = layout.spans(np.zeros(len(layout), int), np.arange(len(layout)), seed=0)
    rows = gather(store.ids, spans, LENGTH, lexicon.specials, padded=True)
    for index, row in enumerate(rows.ids):
        a, b = spans.first_length[index], spans.second_length[index]
        assert row[0] == lexicon.specials.cls
        assert row[1:a + 1].tolist() == store.ids[spans.first[index]:spans.first[index] + a].tolist()
        assert row[a + 1] == lexicon.specials.sep
        assert row[a + 2:a + 2 + b].tolist() == store.ids[spans.second[index]:spans.second[index] + b].tolist()
        assert row[a + b + 2] == lexicon.specials.sep
        assert (row[a + b + 3:] == lexicon.specials.pad).all()
        assert rows.attention_mask[index].sum() == a + b + 3
        assert rows.token_type_ids[index].tolist() == [0] * (a + 2) + [1] * (b + 1) + [0] * (LENGTH - a - b - 3)


def test_batches_are_a_function_of_the_step(store, lexicon, cell):
    def source():
        return BatchSource(store, lexicon, cell, seed=0, length=LENGTH, batch_size=5)

    steps = [batch.input_ids for batch in prefetch(source(), range(0, 30))]
    assert (source().batch(17).input_ids == steps[17]).all()
    rows = source().rows
    shown = [source()._examples(step)[1] for step in range(rows)]
    epoch = np.concatenate(shown)[:rows]
    assert sorted(epoch.tolist()) == list(range(rows))


def test_unknown_words_are_never_targets(store, lexicon, cell):
    batch = BatchSource(store, lexicon, changed(cell, masking={"rate": 0.9}), 0, LENGTH, 20).batch(0)
    assert np.isin(batch.targets, lexicon.vocabulary.ordinary).all()
    assert lexicon.specials.unknown not in lexicon.vocabulary.ordinary


def test_a_damaged_store_is_named(tmp_path):
    with pytest.raises(StudyError, match="study examples"):
        TokenStore.open(tmp_path)
