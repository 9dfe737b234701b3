"""The tutorial's collator, schedule, optimiser and validation, against plain implementations of what it describes."""
import numpy as np
import pytest
import torch
from scipy import stats

from study.data.batches import Rows
from study.data.masking import KEEP, MASK, RANDOM, mask_rows
from study.objectives.masked_lm import remasked_nll
from study.objectives.pretraining_model import new_model
from study.training.optimizers import Optimizers
from study.training.schedule import learning_rate
from study.training.trainer import Trainer
from tests.support.models import V
from tests.support.studies import changed

STEPS = {"steps": 40, "warmup_steps": 8, "lr_scheduler_type": "cosine", "warmup_from_zero": True}
COLLATOR = {"mlm_probability": 0.15, "mask": 0.8, "random": 0.1, "keep": 0.1, "random_from": "vocabulary",
            "selection": "token", "schedule": "dynamic"}


def collated(ids: np.ndarray, special: np.ndarray, mask_id: int, size: int,
             rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The tutorial's collator: labels at 15 % of the tokens that are not special; of these 80 % become [MASK], half of
    the rest any id of the vocabulary. Returns shown ids and labels (-100 elsewhere)."""
    selected = (rng.random(ids.shape) < 0.15) & ~special
    masked = selected & (rng.random(ids.shape) < 0.8)
    replaced = selected & ~masked & (rng.random(ids.shape) < 0.5)
    shown = np.where(masked, mask_id, np.where(replaced, rng.integers(size, size=ids.shape), ids))
    return shown, np.where(selected, ids, -100)


def test_the_collator_has_the_law_of_the_tutorials(config, tokenizer):
    """Each token is one of five kinds: not selected, [MASK], kept, another word, or a special token that is not
    [MASK]."""
    rng = np.random.default_rng(0)
    ids = rng.choice(tokenizer.ordinary, size=(4000, 30))
    ids[:, ::10] = tokenizer.unk_id
    masking = changed(config, masking=COLLATOR).masking
    ours = mask_rows(ids, tokenizer.is_ordinary[ids], ~tokenizer.is_continuation[ids], tokenizer, masking, 0, 0,
                     np.arange(len(ids)))
    shown, labels = collated(ids, ids == tokenizer.unk_id, tokenizer.mask_id, tokenizer.vocabulary_size, rng)

    def kinds(shown, selected):
        special = ~tokenizer.is_ordinary[shown]
        kind = np.select([~selected, shown == tokenizer.mask_id, shown == ids, special], [0, 1, 2, 3], 4)
        return np.bincount(kind.ravel(), minlength=5)

    table = np.stack([kinds(ours.shown, ours.selected), kinds(shown, labels >= 0)])
    assert table.min() > 30
    assert stats.chi2_contingency(table).pvalue > 1e-4
    assert not ours.selected[:, ::10].any()
    assert {MASK, RANDOM, KEEP} <= set(np.unique(ours.corruption).tolist())


def test_the_learning_rate_is_that_of_transformers(config):
    from transformers import get_cosine_schedule_with_warmup

    training = changed(config, training=STEPS | {"learning_rate": 1e-3}).training
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = get_cosine_schedule_with_warmup(optimizer, 8, 40)
    for step in range(40):
        assert learning_rate(step, training) == pytest.approx(schedule.get_last_lr()[0], abs=1e-15)
        optimizer.step()
        schedule.step()


def test_weight_decay_on_all_parameters_is_adamw_as_it_comes(config):
    config = changed(config, training={"decay_biases_and_norms": True, "weight_decay": 0.01})
    ours, plain = new_model(config, V, 0), new_model(config, V, 0)
    training = config.training
    optimizers = Optimizers(ours, training)
    adamw = torch.optim.AdamW(plain.parameters(), lr=0.1, betas=(training.adam_beta1, training.adam_beta2),
                              eps=training.adam_epsilon, weight_decay=0.01, fused=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for first, second in zip(ours.parameters(), plain.parameters(), strict=True):
            first.grad = torch.randn(first.shape, generator=generator)
            second.grad = first.grad.clone()
        optimizers.step(0.1)
        adamw.step()
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), plain.parameters(), strict=True))
    assert any(float((p - q).detach().abs().max()) > 0 for p, q in zip(
        ours.parameters(), new_model(config, V, 0).parameters(), strict=True) if p.ndim == 1)


@pytest.fixture
def paragraphs(tokenizer):
    """23 padded rows of 12 positions."""
    rng = np.random.default_rng(1)
    ids = rng.choice(tokenizer.ordinary, size=(23, 12))
    attention = np.arange(12) < rng.integers(6, 13, size=23)[:, None]
    return Rows(np.where(attention, ids, tokenizer.pad_id), np.zeros_like(ids), attention, None)


def test_the_validation_is_the_mean_of_batch_means_over_new_masks(config, tokenizer, paragraphs):
    config = changed(config, masking=COLLATOR, training={"batch_size": 8})
    model = new_model(config, tokenizer.vocabulary_size, 0)
    masked = mask_rows(paragraphs.ids, tokenizer.is_ordinary[paragraphs.ids],
                       ~tokenizer.is_continuation[paragraphs.ids], tokenizer, config.masking, 5, 500, np.arange(23))
    losses = []
    model.eval()
    for begin in range(0, 23, 8):
        rows = slice(begin, begin + 8)
        shown = torch.from_numpy(masked.shown[rows])
        with torch.no_grad():
            states = model.encoder(shown, torch.zeros_like(shown), torch.from_numpy(paragraphs.attention_mask[rows]))
            logits = model.mlm_head(states, model.encoder.token)
        labels = torch.from_numpy(np.where(masked.selected, paragraphs.ids, -100)[rows])
        losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100))
    assert remasked_nll(model, config, paragraphs, tokenizer, 5, 500) == pytest.approx(float(sum(losses) / 3), abs=1e-5)
    assert len({len(batch) for batch in (range(8), range(16, 23))}) == 2    # the last batch is smaller
    assert remasked_nll(model, config, paragraphs, tokenizer, 5, 1000) != remasked_nll(
        model, config, paragraphs, tokenizer, 5, 500)


def test_the_validation_masks_unknown_words_if_training_does(config, tokenizer, paragraphs):
    unknown = Rows(np.where(paragraphs.attention_mask, tokenizer.unk_id, paragraphs.ids), *[
        getattr(paragraphs, name) for name in ("token_type_ids", "attention_mask", "label")])
    config = changed(config, masking=COLLATOR | {"unknown": True, "mlm_probability": 0.5})
    model = new_model(config, tokenizer.vocabulary_size, 0)
    assert np.isfinite(remasked_nll(model, config, unknown, tokenizer, 5, 500))


def test_the_validation_is_recorded_at_its_steps_and_changes_no_weight(config, data, paragraphs):
    from dataclasses import replace

    with_rows = replace(data, validation=replace(data.validation, paragraphs=paragraphs))
    config = changed(config, training={"steps": 6, "eval_steps": 1, "logging_steps": 1})
    remasked = changed(config, examples={"remasked": {"rows": 23, "steps": 3}})
    first, second = Trainer(config, with_rows, 0), Trainer(remasked, with_rows, 0)
    plain, records = first.train().records, second.train().records
    assert [record["step"] for record in records if "remasked_nll" in record] == [0, 3, 6]
    assert [{key: value for key, value in record.items() if key != "remasked_nll"} for record in records] == plain
    assert all(torch.equal(*pair) for pair in zip(first.model.parameters(), second.model.parameters(), strict=True))
