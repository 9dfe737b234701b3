"""Masks of the arms: fractions, whole words and spans, static and dynamic, on the batches that training reads.

Each test runs once per distinct setting, under the name of the first arm that has it.
"""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.config.arms import resolve
from study.data.batches import BatchSource
from study.data.masking import KEEP, MASK, RANDOM, UNTOUCHED
from study.objectives import objective_of
from tests.support.arms import distinct_arms, masks_and_inputs, true_ids, within

ARMS = distinct_arms(masks_and_inputs)
MASKED = distinct_arms(masks_and_inputs, lambda config: config.objective.token_objective == "mlm")
FIELDS = ("input_ids", "token_type_ids", "corruption", "attention_mask", "next_sentence_label")


@pytest.mark.parametrize("arm", MASKED)
def test_fractions_are_those_of_the_settings(source_of, arm):
    source = source_of(arm)
    masking, tokenizer = source.config.masking, source.tokenizer
    epoch, example = np.arange(4000) // source.rows, np.arange(4000) % source.rows
    batch, true = source.rows_of(epoch, example), true_ids(source, epoch, example)
    ordinary = tokenizer.is_ordinary[true]
    count = np.bincount(batch.corruption[ordinary], minlength=4)
    selected = int(count[1:].sum())
    if masking.selection == "token" and masking.schedule == "dynamic":      # otherwise draws are not independent
        assert within(selected, int(ordinary.sum()), masking.mlm_probability)
        for corruption, fraction in ((MASK, masking.mask), (RANDOM, masking.random), (KEEP, masking.keep)):
            assert within(count[corruption], selected, fraction)
        assert within(len(batch.targets), selected, source.config.objective.target_fraction)
    else:
        assert selected / ordinary.sum() == pytest.approx(masking.mlm_probability, rel=0.15)
        assert count[1:] / selected == pytest.approx([masking.mask, masking.random, masking.keep], abs=0.06)


@pytest.mark.parametrize("arm", MASKED)
def test_each_corruption_does_what_its_name_says(source_of, arm):
    source = source_of(arm)
    tokenizer, epoch, example = source.tokenizer, np.zeros(200, int), np.arange(200) % source.rows
    batch, true = source.rows_of(epoch, example), true_ids(source, epoch, example)
    corruption, shown = batch.corruption, batch.input_ids
    assert not corruption[~tokenizer.is_ordinary[true]].any()           # special tokens and padding are never selected
    assert (shown[corruption == UNTOUCHED] == true[corruption == UNTOUCHED]).all()
    assert (shown[corruption == KEEP] == true[corruption == KEEP]).all()
    assert (shown[corruption == MASK] == tokenizer.mask_id).all()
    assert tokenizer.is_ordinary[shown[corruption == RANDOM]].all() == (source.config.masking.random_from == "words")
    assert (corruption.reshape(-1)[batch.positions] != UNTOUCHED).all()
    assert (batch.targets == true.reshape(-1)[batch.positions]).all()


@pytest.mark.parametrize("arm", ["whole-word", "span", "mix-81-10-9", "d2l"])
def test_words_of_several_pieces_are_selected_whole_where_the_arm_says_so(study, store, tokenizer, arm):
    """The synthetic language has words of one piece; these have up to four."""
    config = resolve(study, arm)
    source = BatchSource(store, tokenizer, objective_of(config), 0, config.examples.max_seq_length, 8)
    epoch, example = np.arange(3000) // source.rows, np.arange(3000) % source.rows
    batch, true = source.rows_of(epoch, example), true_ids(source, epoch, example)
    selected, ordinary = batch.corruption > 0, tokenizer.is_ordinary[true]
    assert not selected[~ordinary].any()
    assert (tokenizer.is_continuation[true] & ordinary).mean() > 0.2
    continues = tokenizer.is_continuation[true][:, 2:] & ordinary[:, 1:-1] & ordinary[:, 2:]    # the word before
    as_the_piece_before = (selected[:, 2:] == selected[:, 1:-1])[continues]
    assert as_the_piece_before.all() == (config.masking.selection != "token")
    assert selected[ordinary].mean() == pytest.approx(0.15, rel=0.2)


def test_a_span_ends_at_a_separator(study, store, tokenizer):
    """The tokens on both sides of a [SEP] are both selected as often as two independent words."""
    config = resolve(study, "span")
    source = BatchSource(store, tokenizer, objective_of(config), 0, config.examples.max_seq_length, 8)
    batch = source.rows_of(np.arange(30_000) // source.rows, np.arange(30_000) % source.rows)
    separator = (batch.input_ids == tokenizer.sep_id)[:, 2:-1]
    both = ((batch.corruption > 0)[:, 1:-2] & (batch.corruption > 0)[:, 3:])[separator].sum()
    assert within(int(both), int(separator.sum()), 0.15**2)


@pytest.mark.parametrize("arm", ARMS)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_row_depends_on_seed_epoch_and_example_only(source_of, arm, data):
    """Neither on its place in the batch nor on the other rows."""
    seed, count = data.draw(st.integers(0, 3)), data.draw(st.integers(2, 9))
    source = source_of(arm, seed)
    epoch = np.array(data.draw(st.lists(st.integers(0, 12), min_size=count, max_size=count)))
    example = np.array(data.draw(st.lists(st.integers(0, source.rows - 1), min_size=count, max_size=count)))
    order = np.array(data.draw(st.permutations(range(count))))
    batch, permuted = source.rows_of(epoch, example), source.rows_of(epoch[order], example[order])
    np.testing.assert_array_equal(batch.input_ids[order], permuted.input_ids)
    alone = source.rows_of(epoch[:1], example[:1])
    for field in FIELDS:
        in_batch, by_itself = getattr(batch, field), getattr(alone, field)
        assert (in_batch is None) == (by_itself is None)
        if in_batch is not None:
            np.testing.assert_array_equal(in_batch[:1], by_itself)
    first_row = batch.positions < source.length
    np.testing.assert_array_equal(batch.positions[first_row], alone.positions)
    np.testing.assert_array_equal(batch.targets[first_row], alone.targets)


@pytest.mark.parametrize("arm", MASKED)
def test_static_rows_repeat_after_dupe_factor_epochs_and_dynamic_rows_do_not(source_of, arm):
    source, example = source_of(arm), np.arange(12)
    masking = source.config.masking
    first, second, repeated = (source.rows_of(np.full(12, epoch), example) for epoch in (0, 1, masking.dupe_factor))
    if masking.schedule == "static":        # pairs, labels and masks
        for field in ("input_ids", "corruption", "targets", "next_sentence_label"):
            np.testing.assert_array_equal(getattr(first, field), getattr(repeated, field))
        assert np.array_equal(first.corruption, second.corruption) == (masking.dupe_factor == 1)
    else:
        assert not np.array_equal(first.corruption, repeated.corruption)
