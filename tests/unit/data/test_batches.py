"""Batches: rows as BERT reads them, and a pure function of the step."""
import numpy as np
import pytest

from study import StudyError
from study.config.schema import rows as schema
from study.data import batches
from study.data.batches import BatchSource, gather, layout_of, prefetch
from study.data.layouts import pair_layout
from study.objectives import objective_of
from tests.support.arms import true_ids, within
from tests.support.studies import changed

LENGTH = 32


def test_rows_are_laid_out_as_in_bert(store, tokenizer):
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


@pytest.mark.parametrize("form", ["full-sentences", "document-sentences", "paragraphs", "segment-pairs",
                                  "sentence-pairs", "paragraph-pairs"])
def test_padding_is_only_at_the_end_of_rows(store, tokenizer, config, form):
    layout = layout_of(store, form, LENGTH)
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


def test_batches_are_a_function_of_the_step(store, tokenizer, config):
    def source():
        return BatchSource(store, tokenizer, objective_of(config), seed=0, length=LENGTH, batch_size=5)

    steps = [batch.input_ids for batch in prefetch(source(), range(0, 30))]
    assert (source().batch(17).input_ids == steps[17]).all()
    rows = source().rows
    examples = np.concatenate([source()._examples(step)[1] for step in range(rows)])
    assert sorted(examples[:rows].tolist()) == list(range(rows))


@pytest.mark.parametrize("rows", [1, 3, 7, 20])
def test_every_epoch_shows_every_row_once_however_few_there_are(store, tokenizer, config, rows):
    total = len(layout_of(store, config.inputs.format, LENGTH))
    few = changed(config, training={"data_fraction": rows / total})
    source = BatchSource(store, tokenizer, objective_of(few), seed=0, length=LENGTH, batch_size=8)
    assert source.rows == rows
    epochs, examples = (np.concatenate(part) for part in zip(*(source._examples(step) for step in range(20)),
                                                             strict=True))
    for epoch in range(epochs.max()):
        assert sorted(examples[epochs == epoch].tolist()) == list(range(rows))
    assert (np.diff(epochs) >= 0).all()


@pytest.mark.parametrize("form", ["full-sentences", "document-sentences", "segment-pairs"])
def test_batch_size_does_not_change_what_is_seen(store, tokenizer, config, form):
    by_rows = changed(config, inputs={"format": form, "batch": "rows"})
    sources = [BatchSource(store, tokenizer, objective_of(by_rows), 0, LENGTH, size) for size in (3, 12)]
    small = [sources[0].batch(step) for step in range(8)]
    large = [sources[1].batch(step) for step in range(2)]
    for name in ("input_ids", "token_type_ids", "targets"):
        assert (np.concatenate([getattr(b, name) for b in small])
                == np.concatenate([getattr(b, name) for b in large])).all()
    assert sum(b.tokens for b in small) == sum(b.tokens for b in large)


def test_a_static_schedule_repeats_pairs_masks_and_targets(store, tokenizer, config):
    pairs = changed(config, inputs={"format": "segment-pairs"}, masking={"schedule": "static", "dupe_factor": 3},
                    objective={"sentence_objective": "nsp", "target_fraction": 0.5})
    source, example = BatchSource(store, tokenizer, objective_of(pairs), 0, LENGTH, 8), np.arange(8)
    first, second, repeated = (source.rows_of(np.full(8, epoch), example) for epoch in (1, 2, 4))
    for name in ("input_ids", "corruption", "positions", "targets", "next_sentence_label"):
        assert (getattr(repeated, name) == getattr(first, name)).all()
    assert (second.input_ids != first.input_ids).any()


def test_targets_are_the_true_tokens_and_all_other_tokens_are_shown(store, tokenizer, config):
    often = objective_of(changed(config, masking={"mlm_probability": 0.4}))
    source = BatchSource(store, tokenizer, often, 0, LENGTH, 10)
    batch, (epoch, example) = source.batch(2), source._examples(2)
    truth = gather(store.ids, source.layout.spans(epoch, example, 0), LENGTH, tokenizer, False).ids.reshape(-1)
    assert (truth[batch.positions] == batch.targets).all()
    untouched = np.setdiff1d(np.arange(truth.size), batch.positions)
    assert (batch.input_ids.reshape(-1)[untouched] == truth[untouched]).all()


def test_repeated_rows_have_thetext_of_a_few_and_masks_of_their_own(store, tokenizer, config):
    repeating = changed(config, inputs={"repeated_fraction": 0.5})
    sources = [BatchSource(store, tokenizer, objective_of(settings), 0, LENGTH, 8) for settings in (config, repeating)]
    example = np.arange(sources[0].rows)
    epoch = np.zeros_like(example)
    plain, repeated = (true_ids(source, epoch, example) for source in sources)
    kept = (plain == repeated).all(1)
    pool = max(1, len(example) // 10)
    assert within(int(kept[pool:].sum()), len(example) - pool, 0.5)
    assert kept[:pool].all()
    assert all((repeated[row] == plain[row % pool]).all() for row in np.flatnonzero(~kept))
    epochs = [source.rows_of(epoch, example).corruption for source in sources]
    ordinary = tokenizer.is_ordinary[plain] & tokenizer.is_ordinary[repeated]
    assert (epochs[0][ordinary] == epochs[1][ordinary]).all()


def test_unknown_words_are_never_targets(store, tokenizer, config):
    almost_all = objective_of(changed(config, masking={"mlm_probability": 0.9}))
    batch = BatchSource(store, tokenizer, almost_all, 0, LENGTH, 20).batch(0)
    assert np.isin(batch.targets, tokenizer.ordinary).all()
    assert tokenizer.unk_id not in tokenizer.ordinary


def test_left_to_right_predicts_every_next_ordinary_token(store, tokenizer, config):
    causal = changed(config, objective={"token_objective": "causal"})
    batch = BatchSource(store, tokenizer, objective_of(causal), 0, LENGTH, 10).batch(0)
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
    assert list(prefetch(Broken(), range(2))) == [0, 1]


def test_the_settings_know_the_same_formats_of_pairs():
    """The settings import nothing of the data, so the names are there twice."""
    assert schema.PAIR_FORMATS == batches.PAIR_FORMATS
