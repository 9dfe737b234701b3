"""Rows of the arms: packing, padding and sentence pairs, once per distinct setting."""
import numpy as np
import pytest

from study.config.arms import resolve
from study.data.batches import BatchSource
from study.data.masking import RANDOM
from study.objectives import objective_of
from tests.support.arms import distinct_arms, within

UNPADDED = distinct_arms(lambda config: config.inputs, lambda config: config.inputs.format == "full-sentences")
PADDED = distinct_arms(lambda config: (config.inputs, config.training.batch_size),
                       lambda config: config.inputs.format != "full-sentences")
PAIRS = distinct_arms(lambda config: (config.inputs, config.objective, config.masking),
                      lambda config: config.inputs.format.endswith("-pairs"))


@pytest.mark.parametrize("arm", UNPADDED)
def test_full_sentences_lose_no_token_and_pad_no_row(source_of, arm):
    source = source_of(arm)
    covered = np.zeros(len(source.store.ids), bool)
    for start, length in zip(source.layout.starts, source.layout.lengths, strict=True):
        covered[start:start + length] = True
    assert covered.all()
    assert source.batch(0).attention_mask is None


@pytest.fixture
def padded(study, store, tokenizer, arm) -> BatchSource:
    """Batches of an arm on text of many sentence and paragraph lengths, in rows long enough to need padding."""
    config = resolve(study, arm)
    return BatchSource(store, tokenizer, objective_of(config), 0, 128, config.training.batch_size)


@pytest.mark.parametrize("arm", PADDED)
def test_padding_follows_the_tokens_and_the_attention_mask_hides_exactly_it(padded, arm):
    for step in range(10):
        batch = padded.batch(step)
        mask = batch.attention_mask
        is_pad = (batch.input_ids == padded.tokenizer.pad_id) & (batch.corruption != RANDOM)    # a random id may be it
        assert (mask == ~is_pad).all()
        assert (mask[:, 1:] <= mask[:, :-1]).all()                      # tokens first, then padding
        last = mask.sum(1) - 1
        assert (batch.input_ids[np.arange(len(last)), last] == padded.tokenizer.sep_id).all()
        assert (batch.input_ids[:, 0] == padded.tokenizer.cls_id).all()
        assert batch.tokens == mask.sum()


@pytest.mark.parametrize("arm", PADDED)
def test_a_batch_has_the_rows_or_the_tokens_that_its_setting_promises(padded, arm):
    """`batch: rows` counts rows, whatever they contain; `batch: tokens` takes more rows to make up for the padding."""
    batches = [padded.batch(step) for step in range(40)]
    rows, batch_size = {len(batch.input_ids) for batch in batches}, padded.config.training.batch_size
    tokens, full = np.mean([batch.tokens for batch in batches]), batch_size * padded.length
    if padded.config.inputs.batch == "tokens":
        assert min(rows) > batch_size
        assert tokens == pytest.approx(full, rel=0.12)
    else:
        assert rows == {batch_size}
        assert tokens == pytest.approx(batch_size * padded.layout.mean_tokens, rel=0.12)
        assert tokens < 0.95 * full


@pytest.mark.parametrize("arm", PAIRS)
def test_pair_labels_agree_with_the_documents(source_of, arm):
    source = source_of(arm)
    objective = source.config.objective.sentence_objective
    example, epoch = np.arange(600) % len(source.layout), np.arange(600) // len(source.layout)
    if source.config.masking.schedule == "static":
        epoch = np.zeros(600, int)
    spans, store = source.layout.spans(epoch, example, 0), source.store
    same_document = store.document_of(spans.first) == store.document_of(spans.second)
    if objective == "sop":
        assert same_document.all()
        assert ((spans.first < spans.second) == (spans.label == 0)).all()
    else:
        assert (same_document == (spans.label == 0)).all()
        assert (spans.second == spans.first + spans.first_length)[spans.label == 0].all()
    if epoch.any():                         # drawn again at each epoch, so independent
        assert within(int(spans.label.sum()), 600, 0.5)
    labels = source.rows_of(epoch, example).next_sentence_label
    assert labels is None if objective == "none" else (labels == spans.label).all()
