"""Stores and layouts: nothing lost, nothing crossed, labels that agree with the documents."""
import numpy as np
import pytest

from study import StudyError
from study.config.load import load_study
from study.data.batches import BatchSource, gather, layout_of, prefetch
from study.data.corpus import _write_documents
from study.data.examples import TokenStore, pair_layout, single_layout, write_store
from study.data.synthetic import Language
from study.data.tokenizer import build
from tests.support.studies import ROOT, changed, made_up_documents

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


def test_rows_are_laid_out_as_bert_wants_them(store, tokenizer):
    layout = pair_layout(store, "segment-pairs", LENGTH, swap=False)
    spans = layout.spans(np.zeros(len(layout), int), np.arange(len(layout)), seed=0)
    rows = gather(store.ids, spans, LENGTH, tokenizer, padded=True)
    for index, row in enumerate(rows.ids):
        a, b = spans.first_length[index], spans.second_length[index]
        assert row[0] == tokenizer.cls_id
        assert row[1:a + 1].tolist() == store.ids[spans.first[index]:spans.first[index] + a].tolist()
        assert row[a + 1] == tokenizer.sep_id
        assert row[a + 2:a + 2 + b].tolist() == store.ids[spans.second[index]:spans.second[index] + b].tolist()
        assert row[a + b + 2] == tokenizer.sep_id
        assert (row[a + b + 3:] == tokenizer.pad_id).all()
        assert rows.attention_mask[index].sum() == a + b + 3
        assert rows.token_type_ids[index].tolist() == [0] * (a + 2) + [1] * (b + 1) + [0] * (LENGTH - a - b - 3)


def test_batches_are_a_function_of_the_step(store, tokenizer, config):
    def source():
        return BatchSource(store, tokenizer, config, seed=0, length=LENGTH, batch_size=5)

    steps = [batch.input_ids for batch in prefetch(source(), range(0, 30))]
    assert (source().batch(17).input_ids == steps[17]).all()
    rows = source().rows
    shown = [source()._examples(step)[1] for step in range(rows)]
    epoch = np.concatenate(shown)[:rows]
    assert sorted(epoch.tolist()) == list(range(rows))


def test_unknown_words_are_never_targets(store, tokenizer, config):
    batch = BatchSource(store, tokenizer, changed(config, masking={"mlm_probability": 0.9}), 0, LENGTH, 20).batch(0)
    assert np.isin(batch.targets, tokenizer.ordinary).all()
    assert tokenizer.unk_id not in tokenizer.ordinary


def test_a_damaged_store_is_named(tmp_path):
    with pytest.raises(StudyError, match="study examples"):
        TokenStore.open(tmp_path)


@pytest.fixture(scope="module")
def stores(store, backend, tokenizer, tmp_path_factory):
    """Stores of several texts: many short documents, few long ones."""
    found = [store]
    for seed, count in ((1, 40), (2, 3)):
        folder = tmp_path_factory.mktemp("more")
        _write_documents(made_up_documents(count, seed), folder / "train.parquet", "made up")
        write_store(folder / "train.parquet", backend, tokenizer.sep_id, folder / "ids")
        found.append(TokenStore.open(folder / "ids"))
    return found


@pytest.mark.parametrize("form", ["full-sentences", "document-sentences", "paragraphs"])
@pytest.mark.parametrize("length", [8, 17, 32, 64])
def test_single_layouts_at_any_length(stores, form, length):
    for store in stores:
        layout = single_layout(store, form, length)
        assert (layout.lengths <= length - 2).all()
        assert (layout.starts >= 0).all()
        assert (layout.starts + layout.lengths <= len(store.ids)).all()
        held = [np.arange(s, s + n) for s, n in zip(layout.starts, layout.lengths, strict=True)]
        counts = np.bincount(np.concatenate(held), minlength=len(store.ids))
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


@pytest.mark.parametrize("form", ["segment-pairs", "sentence-pairs"])
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


def test_sentence_order_has_the_same_two_segments_either_way(store):
    wide = 400                                              # so wide that nothing is cut
    kept, swapped = (pair_layout(store, "sentence-pairs", wide, swap) for swap in (False, True))
    epoch, example = np.zeros(len(kept), int), np.arange(len(kept))
    order, usual = swapped.spans(epoch, example, 4), kept.spans(epoch, example, 4)
    assert (order.label == usual.label).all()
    changed_places, as_read = order.label == 1, order.label == 0
    assert (order.first[as_read] + order.first_length[as_read] == order.second[as_read]).all()
    assert (order.second + order.second_length == order.first)[changed_places].all()
    assert (order.second[changed_places] == usual.first[changed_places]).all()


def test_pairs_are_drawn_anew_at_each_epoch_and_depend_on_nothing_else(store):
    layout = pair_layout(store, "segment-pairs", LENGTH, swap=False)
    every = np.arange(len(layout))
    first, second = (layout.spans(np.full(len(every), epoch), every, 0) for epoch in (0, 1))
    assert (first.label != second.label).any()
    part = layout.spans(np.zeros(3, int), every[[5, 1, 3]], 0)
    assert (part.second == first.second[[5, 1, 3]]).all()


@pytest.mark.parametrize("form", ["full-sentences", "document-sentences", "paragraphs", "segment-pairs",
                                  "sentence-pairs"])
def test_rows_have_no_stray_padding(store, tokenizer, config, form):
    layout = layout_of(store, changed(config, inputs={"format": form}), LENGTH)
    every = np.arange(len(layout))
    rows = gather(store.ids, layout.spans(np.zeros_like(every), every, 0), LENGTH, tokenizer, layout.padded)
    assert (rows.ids[:, 0] == tokenizer.cls_id).all()
    if form == "full-sentences":
        assert rows.attention_mask is None
        assert not (rows.ids == tokenizer.pad_id).any()
        assert (rows.ids[:, -1] == tokenizer.sep_id).all()
    else:
        assert ((rows.ids == tokenizer.pad_id) == ~rows.attention_mask).all()
        last = rows.attention_mask.sum(1) - 1
        assert (rows.ids[every, last] == tokenizer.sep_id).all()


def test_a_store_of_many_blocks_is_the_text(backend, tokenizer, tmp_path):
    documents = [[["ba de .", "fi ."], ["go lu ma ."]] if number % 3 else [["ne pi ."]] for number in range(4600)]
    _write_documents(documents, tmp_path / "train.parquet", "made up")
    meta = write_store(tmp_path / "train.parquet", backend, tokenizer.sep_id, tmp_path / "ids")
    store = TokenStore.open(tmp_path / "ids")
    ids = {text: backend.encode(text, add_special_tokens=False).ids for text in ("ba de .", "fi .", "go lu ma .",
                                                                                "ne pi .")}
    expected = [token for document in documents
                for token in [*(t for paragraph in document for text in paragraph for t in ids[text]),
                              tokenizer.sep_id]]
    assert store.ids.tolist() == expected
    assert meta["sentences"] == sum(len(paragraph) for document in documents for paragraph in document) > 10_000
    assert meta["paragraphs"] == sum(map(len, documents))
    assert (store.ids[store.document_ends] == tokenizer.sep_id).all()


def test_the_hash_of_a_store_names_its_text_and_its_borders(backend, tokenizer, tmp_path):
    texts = [[[["ba de .", "fi ."]], [["go ."]]], [[["ba de ."], ["fi ."]], [["go ."]]],
             [[["ba de .", "fu ."]], [["go ."]]], [[["ba de .", "fi ."]], [["go ."]]]]
    found = []
    for number, documents in enumerate(texts):
        _write_documents(documents, tmp_path / f"{number}.parquet", "made up")
        write_store(tmp_path / f"{number}.parquet", backend, tokenizer.sep_id, tmp_path / str(number))
        found.append(TokenStore.open(tmp_path / str(number)).sha256)
    assert found[0] == found[3]
    assert len(set(found)) == 3


@pytest.mark.parametrize("rows", [1, 3, 7, 20])
def test_every_epoch_shows_every_row_once_however_few_there_are(store, tokenizer, config, rows):
    total = len(layout_of(store, config, LENGTH))
    few = changed(config, training={"data_share": rows / total})
    source = BatchSource(store, tokenizer, few, seed=0, length=LENGTH, batch_size=8)
    assert source.rows == rows
    epochs, examples = (np.concatenate(part) for part in zip(*(source._examples(step) for step in range(20)),
                                                             strict=True))
    for epoch in range(epochs.max()):
        assert sorted(examples[epochs == epoch].tolist()) == list(range(rows))
    assert (np.diff(epochs) >= 0).all()


@pytest.mark.parametrize("form", ["full-sentences", "document-sentences", "segment-pairs"])
def test_batch_size_does_not_change_what_is_seen(store, tokenizer, config, form):
    other = changed(config, inputs={"format": form, "batch": "rows"})
    sources = [BatchSource(store, tokenizer, other, 0, LENGTH, size) for size in (3, 12)]
    small = [sources[0].batch(step) for step in range(8)]
    large = [sources[1].batch(step) for step in range(2)]
    for name in ("input_ids", "token_type_ids", "targets"):
        assert (np.concatenate([getattr(b, name) for b in small])
                == np.concatenate([getattr(b, name) for b in large])).all()
    assert sum(b.tokens for b in small) == sum(b.tokens for b in large)


def test_targets_are_the_true_tokens_and_all_else_is_shown(store, tokenizer, config):
    source = BatchSource(store, tokenizer, changed(config, masking={"mlm_probability": 0.4}), 0, LENGTH, 10)
    batch, (epoch, example) = source.batch(2), source._examples(2)
    truth = gather(store.ids, source.layout.spans(epoch, example, 0), LENGTH, tokenizer, False).ids.reshape(-1)
    assert (truth[batch.positions] == batch.targets).all()
    others = np.setdiff1d(np.arange(truth.size), batch.positions)
    assert (batch.input_ids.reshape(-1)[others] == truth[others]).all()


def test_left_to_right_predicts_every_next_ordinary_token(store, tokenizer, config):
    batch = BatchSource(store, tokenizer, changed(config, objective={"token_objective": "causal"}), 0, LENGTH, 10).batch(0)
    flat = batch.input_ids.reshape(-1)
    assert (flat[batch.positions + 1] == batch.targets).all()
    assert (batch.positions % LENGTH < LENGTH - 1).all()
    ordinary = tokenizer.is_ordinary[batch.input_ids[:, 1:]]
    assert len(batch.targets) == ordinary.sum()


def test_an_error_in_the_thread_reaches_the_consumer():
    class Broken:
        def batch(self, step):
            if step == 2:
                raise StudyError("row 2")
            return step

    seen = []
    with pytest.raises(StudyError, match="row 2"):
        seen.extend(prefetch(Broken(), range(5)))
    found = prefetch(Broken(), range(2))
    assert list(found) == [0, 1]


@pytest.mark.parametrize("form", ["segment-pairs", "sentence-pairs"])
def test_where_a_chunk_is_split_says_nothing_of_the_label(store, form):
    layout = pair_layout(store, form, 128, swap=False)
    example = np.tile(np.arange(len(layout)), 300)
    spans = layout.spans(np.repeat(np.arange(300), len(layout)), example, seed=0)
    usual = np.bincount(example, spans.first_length) / np.bincount(example)
    surprise = spans.first_length - usual[example]
    if form == "segment-pairs":
        assert surprise.std() > 1
        assert abs(np.corrcoef(surprise, spans.label)[0, 1]) < 5 / np.sqrt(len(example))
    else:
        assert (surprise == 0).all()                        # one sentence each
    elsewhere = spans.second[spans.label == 1]
    assert np.isin(store.sentences[:-1], elsewhere).mean() > 0.7    # all but sentences of odd lengths are drawn


@pytest.mark.parametrize("length", [32, 64, 128])
@pytest.mark.parametrize("form", ["segment-pairs", "sentence-pairs"])
def test_lengths_do_not_give_the_label_away(store_of_language, form, length):
    """A classifier that sees both segments' lengths and no word, learnt on half of the pairs, is at chance on the
    other half (four standard errors)."""
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
    settings = {key: getattr(corpus, key) for key in ("seed", "topics", "themes", "general", "topical", "thematic",
                                                      "mixture", "advance", "smoothing")}
    language = Language(**settings)
    _, documents = language.sample(200, corpus.document_tokens, seed=1)
    text = [[[" ".join(language.words[w] for w in sentence) for sentence in document]] for document in documents]
    _write_documents(text, folder / "train.parquet", "made up")
    backend = build(study.settings.tokenizer, [], language.words, ROOT)
    write_store(folder / "train.parquet", backend, backend.token_to_id("[SEP]"), folder / "ids")
    return TokenStore.open(folder / "ids")
