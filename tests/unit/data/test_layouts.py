"""Layouts: no token lost, no border crossed, and labels that agree with the documents."""
import numpy as np
import pytest

from study import StudyError
from study.config.load import load_study
from study.data.corpus import write_documents
from study.data.layouts import pair_layout, single_layout
from study.data.paragraph_pairs import paragraph_pairs
from study.data.synthetic import Language
from study.data.token_store import TokenStore, write_store
from study.data.wordpiece import build_tokenizer
from tests.support.studies import ROOT, made_up_documents

LENGTH = 32
PAIR_FORMATS = ["segment-pairs", "sentence-pairs"]


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


@pytest.mark.parametrize("form", PAIR_FORMATS)
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


def test_sentence_order_swaps_adjacent_segments(store):
    layout = pair_layout(store, "segment-pairs", LENGTH, swap=True)
    spans = layout.spans(np.zeros(len(layout), int), np.arange(len(layout)), seed=1)
    swapped = spans.label == 1
    assert swapped.any()
    assert (spans.first[swapped] > spans.second[swapped]).all()
    assert (spans.first[~swapped] < spans.second[~swapped]).all()
    assert (store.document_of(spans.first) == store.document_of(spans.second)).all()


@pytest.fixture(scope="module")
def stores(store, backend, tokenizer, tmp_path_factory):
    """Stores of several texts: medium, many short documents, few documents."""
    stores = [store]
    for seed, count in ((1, 40), (2, 3)):
        folder = tmp_path_factory.mktemp("more")
        write_documents(made_up_documents(count, seed), folder / "train.parquet", "made up")
        write_store(folder / "train.parquet", backend, tokenizer.sep_id, folder / "ids")
        stores.append(TokenStore.open(folder / "ids"))
    return stores


@pytest.mark.parametrize("form", ["full-sentences", "document-sentences", "paragraphs"])
@pytest.mark.parametrize("length", [8, 17, 32, 64])
def test_single_layouts_at_any_length(stores, form, length):
    for store in stores:
        layout = single_layout(store, form, length)
        assert (layout.lengths <= length - 2).all()
        assert (layout.starts >= 0).all()
        assert (layout.starts + layout.lengths <= len(store.ids)).all()
        rows = [np.arange(s, s + n) for s, n in zip(layout.starts, layout.lengths, strict=True)]
        counts = np.bincount(np.concatenate(rows), minlength=len(store.ids))
        inside = np.ones(len(store.ids), bool)
        inside[store.document_ends] = False
        if form == "full-sentences":
            assert (counts >= 1).all()
            assert (counts[:layout.starts[-1]] == 1).all()
        elif form == "document-sentences":
            assert (counts == inside).all()
        else:
            begins, ends = store.paragraphs[:-1], store.paragraphs[1:]
            ends = np.where(np.isin(ends - 1, store.document_ends), ends - 1, ends)
            assert (layout.starts == begins).all()
            assert (layout.lengths == np.minimum(ends - begins, length - 2)).all()


@pytest.mark.parametrize("form", PAIR_FORMATS)
@pytest.mark.parametrize("length", [8, 17, 32, 64])
@pytest.mark.parametrize("swap", [False, True])
def test_pairs_at_any_length_fit_and_do_not_cross(stores, form, length, swap):
    for store in stores:
        layout = pair_layout(store, form, length, swap)
        example = np.tile(np.arange(len(layout)), 5)
        spans = layout.spans(np.repeat(np.arange(5), len(layout)), example, seed=2)
        for begin, size in ((spans.first, spans.first_length), (spans.second, spans.second_length)):
            assert (size >= 1).all()
            assert (store.document_of(begin) == store.document_of(begin + size - 1)).all()
            assert not np.isin(begin + size - 1, store.document_ends).any()
        assert (spans.first_length + spans.second_length <= length - 3).all()
        same = store.document_of(spans.first) == store.document_of(spans.second)
        assert (same == ((spans.label == 0) | swap)).all()


@pytest.mark.parametrize("swap", [False, True])
def test_half_of_the_pairs_are_negatives(store, swap):
    layout = pair_layout(store, "segment-pairs", LENGTH, swap)
    label = layout.spans(np.repeat(np.arange(200), len(layout)), np.tile(np.arange(len(layout)), 200), 0).label
    assert label.mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(len(label)))


def test_sentence_order_has_the_same_two_segments_in_either_order(store):
    wide = 400                                              # nothing is truncated
    kept, swapped = (pair_layout(store, "sentence-pairs", wide, swap) for swap in (False, True))
    epoch, example = np.zeros(len(kept), int), np.arange(len(kept))
    order, next_sentence = swapped.spans(epoch, example, 4), kept.spans(epoch, example, 4)
    assert (order.label == next_sentence.label).all()
    exchanged, in_order = order.label == 1, order.label == 0
    assert (order.first[in_order] + order.first_length[in_order] == order.second[in_order]).all()
    assert (order.second + order.second_length == order.first)[exchanged].all()
    assert (order.second[exchanged] == next_sentence.first[exchanged]).all()


def test_pairs_are_redrawn_at_each_epoch_and_depend_on_nothing_else(store):
    layout = pair_layout(store, "segment-pairs", LENGTH, swap=False)
    every = np.arange(len(layout))
    first, second = (layout.spans(np.full(len(every), epoch), every, 0) for epoch in (0, 1))
    assert (first.label != second.label).any()
    part = layout.spans(np.zeros(3, int), every[[5, 1, 3]], 0)
    assert (part.second == first.second[[5, 1, 3]]).all()


@pytest.mark.parametrize("form", PAIR_FORMATS)
def test_where_a_chunk_is_split_does_not_reveal_the_label(store, form):
    layout = pair_layout(store, form, 128, swap=False)
    example = np.tile(np.arange(len(layout)), 300)
    spans = layout.spans(np.repeat(np.arange(300), len(layout)), example, seed=0)
    mean_length = np.bincount(example, spans.first_length) / np.bincount(example)
    deviation = spans.first_length - mean_length[example]
    if form == "segment-pairs":
        assert deviation.std() > 1
        assert abs(np.corrcoef(deviation, spans.label)[0, 1]) < 5 / np.sqrt(len(example))
    else:
        assert (deviation == 0).all()                       # a segment is always the same sentence
    negatives = spans.second[spans.label == 1]
    assert np.isin(store.sentences[:-1], negatives).mean() > 0.7    # all but sentences of unusual length are drawn


@pytest.mark.parametrize("length", [32, 64, 128])
@pytest.mark.parametrize("form", PAIR_FORMATS)
def test_lengths_do_not_reveal_the_label(store_of_language, form, length):
    """A classifier that sees the two lengths only, trained on half of the pairs, is at chance on the other half (within
    four standard errors)."""
    layout = pair_layout(store_of_language, form, length, swap=False)
    number = np.arange(24_000)
    spans = layout.spans(number // len(layout), number % len(layout), 0)
    first, second = spans.first_length, spans.second_length
    votes = np.zeros((length, length))
    np.add.at(votes, (first[::2], second[::2]), 2 * spans.label[::2] - 1)
    guess = votes[first[1::2], second[1::2]] > 0
    assert abs((guess == spans.label[1::2]).mean() - 0.5) < 4 * 0.5 / np.sqrt(12_000)


@pytest.fixture(scope="module")
def store_of_language(tmp_path_factory):
    """200 documents of the built-in language."""
    folder = tmp_path_factory.mktemp("language")
    study = load_study(ROOT)
    corpus = study.settings.corpus
    language = Language.of(corpus)
    _, documents = language.sample(200, corpus.document_tokens, seed=1)
    text = [[[" ".join(language.words[w] for w in sentence) for sentence in document]] for document in documents]
    write_documents(text, folder / "train.parquet", "made up")
    backend = build_tokenizer(study.settings.tokenizer, list, language.words, ROOT)
    write_store(folder / "train.parquet", backend, backend.token_to_id("[SEP]"), folder / "ids")
    return TokenStore.open(folder / "ids")


def test_an_error_names_the_settings_and_the_remedy(store, backend, tokenizer, tmp_path):
    with pytest.raises(StudyError, match=r"inputs.format full-sentences: .* \d+ tokens, fewer than one row of 99998; "
                                         r"choose a smaller examples.max_seq_length or a larger corpus"):
        single_layout(store, "full-sentences", 100_000)
    write_documents([[["ba de ."]], [["fi go ."]]], tmp_path / "train.parquet", "made up")
    write_store(tmp_path / "train.parquet", backend, tokenizer.sep_id, tmp_path / "ids")
    with pytest.raises(StudyError, match="the text has no segment-pairs: these need two sentences in a row"):
        pair_layout(TokenStore.open(tmp_path / "ids"), "segment-pairs", LENGTH, swap=False)
    with pytest.raises(StudyError, match=r"fit into rows of 4 tokens; choose .*examples.max_seq_length, .*curriculum"):
        paragraph_pairs(store, 4, 0)
