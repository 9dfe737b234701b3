"""Objectives: their losses in training, and a new objective that is only a class and an entry in a table."""
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from study.data.batches import BatchSource, with_targets
from study.data.masking import RANDOM, mask_rows
from study.model.encoder import Linear
from study.model.flops import flops_per_token
from study.objectives import TOKEN_OBJECTIVES, objective_of
from study.training.trainer import Trainer
from tests.support.studies import changed
from tests.support.training import trained, weights

NSP = {"inputs": {"format": "segment-pairs"}, "objective": {"sentence_objective": "nsp"}}


def source_of(config, data, batch_size: int = 8) -> BatchSource:
    return BatchSource(data.train, data.tokenizer, objective_of(config), 0, config.examples.max_seq_length, batch_size)


@pytest.mark.parametrize("sentence_objective", ["none", "nsp"])
def test_the_gradients_of_micro_batches_add_up_to_that_of_the_batch(config, data, sentence_objective):
    if sentence_objective == "nsp":
        config = changed(config, **NSP)
    in_parts = changed(config, training={"gradient_accumulation_steps": 4})
    one, four = Trainer(config, data, 0), Trainer(in_parts, data, 0)
    batch = source_of(config, data).batch(0)
    (token, sentence), (token_in_parts, sentence_in_parts) = one.backward(batch), four.backward(batch)
    assert token == pytest.approx(token_in_parts, rel=1e-5)
    assert (sentence is None) == (sentence_objective == "none")
    assert sentence is None or sentence == pytest.approx(sentence_in_parts, rel=1e-5)
    for a, b in zip(one.model.parameters(), four.model.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.1, 2.0])
def test_the_sentence_loss_has_its_weight(config, data, weight):
    trainers = [Trainer(changed(changed(config, **NSP), objective={"sentence_weight": value}), data, 0)
                for value in (weight, 1.0)]
    batch = source_of(trainers[0].config, data).batch(0)
    for trainer in trainers:
        trainer.backward(batch)
    gradient, expected = (trainer.model.sentence_head.pooler.weight.grad for trainer in trainers)
    torch.testing.assert_close(gradient, weight * expected, rtol=1e-5, atol=1e-8)


def test_a_target_fraction_does_not_change_the_corruption(config, data):
    all_targets = changed(config, masking={"mlm_probability": 0.5})
    half = changed(all_targets, objective={"target_fraction": 0.5})
    expected, batch = (source_of(settings, data, 40).batch(0) for settings in (all_targets, half))
    assert (expected.input_ids == batch.input_ids).all()
    assert len(batch.targets) / len(expected.targets) == pytest.approx(0.5, abs=0.1)


def test_a_causal_model_may_predict_a_part_of_the_next_tokens(config, data):
    causal = changed(config, objective={"token_objective": "causal"})
    sparse = changed(causal, objective={"target_fraction": 0.15})
    everything, batch = (source_of(settings, data, 40).batch(0) for settings in (causal, sparse))
    assert (everything.input_ids == batch.input_ids).all()
    assert len(batch.targets) / len(everything.targets) == pytest.approx(0.15, abs=0.04)
    label = dict(zip(everything.positions.tolist(), everything.targets.tolist(), strict=True))
    assert [label[position] for position in batch.positions.tolist()] == batch.targets.tolist()
    assert (batch.positions != source_of(sparse, data, 40).batch(1).positions[:len(batch.positions)]).any()
    flops = [objective_of(settings).token.flops_per_token(60, 32) for settings in (causal, sparse)]
    assert flops[1] < flops[0]


def test_eight_rows_can_be_memorised(config, data):
    rows = source_of(config, data).rows
    memorised = changed(config, masking={"schedule": "static", "dupe_factor": 1},
                        training={"steps": 250, "batch_size": 8, "data_fraction": 8 / rows, "learning_rate": 0.01,
                                  "warmup_steps": 10, "logging_steps": 50, "eval_steps": 250})
    assert source_of(memorised, data).rows == 8
    assert trained(memorised, data)[1].records[-1]["loss"] < 0.1


def test_eight_pairs_can_be_memorised(config, data):
    """Tokens and sentence labels of the same batch at every step; a run would draw the pairs again in every epoch."""
    both = changed(config, inputs={"format": "segment-pairs", "batch": "rows"}, objective={"sentence_objective": "nsp"},
                   training={"steps": 200, "batch_size": 8, "learning_rate": 0.01, "warmup_steps": 10})
    trainer, batch = Trainer(both, data, 0), source_of(both, data).batch(0)
    assert 0 < batch.next_sentence_label.sum() < 8
    for _ in range(200):
        trainer.train_step(batch)
    token_loss, sentence_loss = trainer.backward(batch)
    assert token_loss / len(batch.targets) < 0.05
    assert sentence_loss / 8 < 0.01


@dataclass(frozen=True)
class ReplacementDetection:
    """Predicts for every ordinary token whether it is a random replacement."""
    config: object
    causal = False
    predicts_masked_tokens = False
    head = "detection_head"

    def make_batch(self, rows, tokenizer, seed, epoch, example):
        ordinary = tokenizer.is_ordinary[rows.ids]
        masked = mask_rows(rows.ids, ordinary, ~tokenizer.is_continuation[rows.ids], tokenizer, self.config.masking,
                           seed, epoch, example)
        return with_targets(rows, masked.shown, ordinary, (masked.corruption == RANDOM).astype(np.int64),
                            masked.corruption)

    def new_head(self, embedding):
        return Linear(embedding.embedding_dim, 2)

    def loss(self, model, states, targets):
        logits = model.detection_head(states)[:len(targets)]
        return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")

    def validation_nll(self, model, validation, batch_size):
        return None

    def own_format_nll(self, model, validation, batch_size):
        return None

    def flops_per_token(self, vocabulary_size, length):
        return flops_per_token(self.config.model, 2, length, projected_fraction=1.0)


def test_a_new_objective_needs_only_a_class_and_its_entry(config, data, monkeypatch):
    monkeypatch.setitem(TOKEN_OBJECTIVES, "detection", ReplacementDetection)
    base = changed(config, masking={"mask": 0.0, "random": 1.0, "keep": 0.0},
                   training={"steps": 300, "learning_rate": 0.01, "logging_steps": 50})
    detection = base.model_copy(update={"objective": base.objective.model_copy(
        update={"token_objective": "detection"})})          # in a study: a new value in the schema
    trainer, progress = trained(detection, data)
    losses = [record["loss"] for record in progress.records if "loss" in record]
    assert progress.status == "finished"
    assert losses[-1] < 0.8 * losses[0]
    assert not any("validation_nll" in record for record in progress.records)
    start = weights(Trainer(detection, data, 0))
    assert not torch.equal(start["detection_head.weight"], weights(trainer)["detection_head.weight"])
    assert torch.equal(start["mlm_head.bias"], weights(trainer)["mlm_head.bias"])
    usual = weights(Trainer(base, data, 0))
    assert all(torch.equal(start[name], tensor) for name, tensor in usual.items())
    shared = start["sentence_head.pooler.weight"].flatten()[:start["detection_head.weight"].numel()]
    assert not torch.equal(start["detection_head.weight"].flatten(), shared)        # it has random numbers of its own
