"""The training loop: seeds, weight decay, divergence as a result, records and validations.

tests/integration/test_every_setting.py trains with each setting.
"""
import itertools
import json
import math

import numpy as np
import pytest
import torch

from study import StudyError
from study.config.fingerprint import settings_yaml
from study.config.schema import Branch
from study.data.count_embeddings import count_embeddings
from study.evaluation.embedding import load_cell
from study.objectives.masked_lm import token_nll
from study.training.interventions import intervene
from study.training.pretrain import load_data, write_cell
from study.training.trainer import Trainer, batches
from tests.support.studies import changed
from tests.support.training import trained, weights

VALIDATION = "study.objectives.masked_lm.MaskedLM.validation_nll"


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not(config, data):
    (first, progress), (repeated, same), (other, _) = (trained(config, data, seed) for seed in (0, 0, 1))
    assert progress.records == same.records
    assert all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(repeated).values(), strict=True))
    assert not torch.equal(weights(first)["encoder.token.weight"], weights(other)["encoder.token.weight"])


def test_without_steps_the_weights_stay_as_initialised(config, data):
    trainer, progress = trained(changed(config, training={"steps": 0, "warmup_steps": 0}), data)
    assert (progress.status, progress.step) == ("finished", 0)
    assert torch.equal(weights(trainer)["mlm_head.bias"], torch.zeros(data.tokenizer.vocabulary_size))


def test_weight_decay_applies_to_matrices_that_have_a_gradient(config, data):
    """One update with and without decay. The sentence head has no gradient and stays as it is."""
    trainers = [Trainer(changed(config, training={"weight_decay": decay, "warmup_steps": 0}), data, 0)
                for decay in (0.5, 0.0)]
    start = {name: tensor.clone() for name, tensor in weights(trainers[0]).items()}
    batch = next(batches(trainers[0].config, data, 0, 0))
    for trainer in trainers:
        trainer.train_step(batch)
    rate = config.training.learning_rate
    for name, initial in start.items():
        with_decay, without = (weights(trainer)[name] for trainer in trainers)
        if name.startswith("sentence_head."):
            assert torch.equal(with_decay, initial)
        elif initial.ndim >= 2:
            torch.testing.assert_close(with_decay, without - rate * 0.5 * initial, rtol=0, atol=1e-6)
            assert not torch.equal(with_decay, without)
        else:
            assert torch.equal(with_decay, without)


def with_infinite_loss_after(trainer, step):
    backward = trainer.backward

    def failing(batch):
        token_loss, sentence_loss = backward(batch)
        return (token_loss if trainer.progress.step < step else math.nan), sentence_loss

    trainer.backward = failing
    return trainer


@pytest.mark.parametrize("step", [0, 3, 5, 11])
def test_a_loss_that_is_not_finite_ends_the_run_at_its_step(config, data, step):
    budget = changed(config, training={"steps": 12, "logging_steps": 3, "eval_steps": 6})
    trainer = with_infinite_loss_after(Trainer(budget, data, 0), step)
    progress = trainer.train()
    assert (progress.status, progress.step) == ("diverged", step + 1)
    assert progress.records[-1] == {**progress.records[-1], "step": step + 1, "loss": None, "gradient_norm": None}
    recorded = {number for number in {1, 2, 4, *range(3, 12, 3)} if number <= step} | {step + 1}
    assert [record["step"] for record in progress.records if "loss" in record] == sorted(recorded)
    json.dumps(progress.records, allow_nan=False)
    assert all(torch.isfinite(tensor).all() for tensor in weights(trainer).values())


@pytest.mark.parametrize(("step", "steps_before"), [(8, [7, 8]), (6, [])])
def test_the_record_of_a_divergence_has_the_extremes_of_the_steps_before_it(config, data, step, steps_before):
    """The step that failed does not count; without a step since the last record the extremes are null."""
    budget = {"steps": 12, "warmup_steps": 0, "eval_steps": 6, "learning_rate": 0.02, "max_grad_norm": 0.5}
    configs = [changed(config, training=budget | {"logging_steps": every}) for every in (1, 3)]
    runs = [with_infinite_loss_after(Trainer(config, data, 0), step).train() for config in configs]
    each, together = ({record["step"]: record for record in run.records} for run in runs)
    norms, losses = ([each[number][key] for number in steps_before] for key in ("gradient_norm", "loss"))
    assert together[step + 1] == {**together[step + 1], "loss": None, "clipped": sum(norm > 0.5 for norm in norms),
                                  "largest_gradient_norm": max(norms, default=None),
                                  "largest_loss": max(losses, default=None)}


@pytest.mark.parametrize("rate", [1e2, 1e6, 1e30])
@pytest.mark.parametrize("patience", [None, 1])
def test_a_run_with_a_wild_learning_rate_diverges_with_valid_records(config, data, rate, patience):
    wild = changed(config, training={"steps": 12, "learning_rate": rate, "warmup_steps": 0, "max_grad_norm": None,
                                     "logging_steps": 3, "eval_steps": 3, "patience": patience})
    _, progress = trained(wild, data)
    assert progress.status == "diverged"
    json.dumps(progress.records, allow_nan=False)


@pytest.mark.parametrize("objective", ["mlm", "causal"])
def test_a_run_that_ends_above_the_loss_of_guessing_has_diverged(config, data, objective):
    """Also when every number is finite; without a validation loss, the training loss decides."""
    wild = changed(config, objective={"token_objective": objective},
                   training={"steps": 30, "learning_rate": 10.0, "warmup_steps": 0, "logging_steps": 5})
    _, progress = trained(wild, data)
    assert (progress.status, progress.step) == ("diverged", 30)
    assert all(math.isfinite(record["loss"]) for record in progress.records if "loss" in record)


@pytest.mark.parametrize("masking", [{"random": 1.0, "keep": 0.0}, {"random": 0.2, "keep": 0.8}])
@pytest.mark.parametrize(("learning_rate", "status"), [(0.003, "finished"), (10.0, "diverged")])
def test_a_run_without_mask_is_judged_by_its_training_loss(config, data, monkeypatch, masking, learning_rate, status):
    """Its NLL on [MASK], which it never sees, may be above that of guessing, or below."""
    bound = math.log(data.tokenizer.vocabulary_size)
    monkeypatch.setattr(VALIDATION, lambda *_: bound + (1 if status == "finished" else -1))
    unmasked = changed(config, masking={"mask": 0.0} | masking,
                       training={"steps": 30, "learning_rate": learning_rate, "warmup_steps": 0, "logging_steps": 5})
    _, progress = trained(unmasked, data)
    assert (progress.status, progress.step) == (status, 30)


def test_validations_are_at_powers_of_two_until_they_are_regular(config, data):
    _, progress = trained(changed(config, training={"steps": 26, "eval_steps": 10, "logging_steps": 5}), data)
    assert [r["step"] for r in progress.records if "validation_nll" in r] == [0, 1, 2, 4, 8, 10, 20, 26]
    assert [r["step"] for r in progress.records] == [0, 1, 2, 4, 5, 8, 10, 15, 20, 25, 26]


@pytest.mark.parametrize(("rows", "parts", "expected"), [(8, 1, 32), (8, 2, 16), (8, 8, 4), (5, 5, 4)])
def test_validation_needs_no_more_memory_than_micro_batches(config, data, monkeypatch, rows, parts, expected):
    sizes = []
    monkeypatch.setattr(VALIDATION, lambda *arguments: sizes.append(arguments[-1]) or 3.0)
    Trainer(changed(config, training={"batch_size": rows, "gradient_accumulation_steps": parts}), data, 0).validate(
        {"step": 0, "tokens": 0})
    assert sizes == [expected]


def test_a_record_has_the_extremes_of_its_steps(config, data):
    budget = {"steps": 8, "warmup_steps": 0, "eval_steps": 8, "learning_rate": 0.02, "max_grad_norm": 0.5}
    each, together = (trained(changed(config, training=budget | {"logging_steps": every}), data)[1].records
                      for every in (1, 4))
    each = {record["step"]: record for record in each}
    for before, record in itertools.pairwise(together):
        steps = [each[step] for step in range(before["step"] + 1, record["step"] + 1)]
        assert record["largest_loss"] == max(step["loss"] for step in steps)
        assert record["largest_gradient_norm"] == max(step["gradient_norm"] for step in steps)
        assert record["clipped"] == sum(step["gradient_norm"] > 0.5 for step in steps)
    assert together[-1]["step"] - together[-2]["step"] == 4
    assert any(record["clipped"] for record in each.values() if "clipped" in record)


def test_count_embeddings_replace_those_of_the_tokens_in_the_text_at_their_step(config, data):
    config = changed(config, training={"steps": 3, "warmup_steps": 0, "count_embeddings_at": 2})
    trainer = Trainer(config, data, 0)
    embeddings = trainer.model.encoder.token.weight
    absent = torch.tensor(np.setdiff1d(np.arange(len(embeddings)), data.train.ids))
    present = torch.tensor(np.intersect1d(np.arange(len(embeddings)), data.train.ids))
    made = torch.from_numpy(count_embeddings(data.train.ids, *embeddings.shape))[present]
    for step in range(4):
        before = embeddings.detach().clone()
        intervene(trainer.model.encoder, config.training, step, data.train.ids)
        assert torch.equal(embeddings[absent], before[absent])
        assert torch.equal(embeddings[present], before[present]) == (step != 2)
    ratio = embeddings[present] / made
    torch.testing.assert_close(ratio[made != 0], ratio[made != 0][0].expand(int((made != 0).sum())), rtol=1e-3, atol=0)
    assert len(absent)


@pytest.mark.parametrize("is_branched", [False, True])
def test_count_embeddings_need_a_width_below_the_vocabulary(config, data, is_branched):
    size = data.tokenizer.vocabulary_size
    width = 4 * math.ceil(size / 4)
    wide = changed(config, model={"hidden_size": width}, training={"steps": 3, "warmup_steps": 0})
    settings = changed(wide, training={"count_embeddings_at": 2})
    if is_branched:
        settings = wide.model_copy(update={"branch": Branch(step=2, before=settings)})
    with pytest.raises(StudyError, match=f"training.count_embeddings_at 2 needs model.hidden_size {width} below the "
                                         f"vocabulary's {size} tokens; choose"):
        Trainer(settings, data, 0)
    Trainer(wide, data, 0)


def test_the_unigram_level_is_that_of_the_references(tiny):
    ladder = json.loads((tiny.runs / "examples" / "references.json").read_text())["ladder"]["validation"]
    expected = next(rung["nll"] for rung in ladder if rung["name"] == "unigram")
    assert load_data(tiny).validation.unigram_nll == pytest.approx(expected, rel=1e-12)


def test_validations_record_the_attention_if_asked(config, data):
    recording = changed(config, training={"steps": 2, "warmup_steps": 0, "attention_offsets": True})
    trainer, progress = trained(recording, data)
    model = config.model
    for record in (record for record in progress.records if "validation_nll" in record):
        assert np.shape(record["attention_offsets"]) == (model.num_hidden_layers, model.num_attention_heads, 5)
    plain, _ = trained(changed(recording, training={"attention_offsets": False}), data)
    assert all(torch.equal(a, b) for a, b in zip(weights(plain).values(), weights(trainer).values(), strict=True))


def test_a_validation_loss_that_is_not_finite_ends_the_run(config, data, monkeypatch):
    measured = iter([5.0, math.nan])
    monkeypatch.setattr(VALIDATION, lambda *_: next(measured))
    seen = []
    _, progress = trained(changed(config, training={"steps": 12, "logging_steps": 1, "eval_steps": 3}), data,
                          on_record=lambda record, speed: seen.append(record))
    assert (progress.status, progress.step) == ("diverged", 1)
    assert "validation_nll" not in progress.records[-1]
    assert seen == progress.records
    assert all(record.get("validation_nll", 0.0) is not None for record in progress.records)


def test_a_written_cell_loads_as_it_was_trained(study, config, data, tmp_path):
    trainer, progress = trained(config, data)
    copy = study.model_copy(update={"folder": tmp_path, "settings": study.settings.model_copy(update={"root": "."})})
    write_cell(copy.cell("dynamic", 0), settings_yaml(config), trainer.model, progress, {"status": progress.status})
    settings, model = load_cell(copy, "dynamic", 0)
    assert settings == config
    assert all(torch.equal(a, b) for a, b in zip(weights(trainer).values(), model.state_dict().values(), strict=True))
    with pytest.raises(StudyError, match="no trained cell"):
        load_cell(copy, "dynamic", 1)


def test_only_runs_on_pairs_are_validated_in_their_own_format(config, data):
    pairs = data.validation.pairs["nsp"]
    on_pairs = Trainer(changed(config, inputs={"format": "segment-pairs"}), data, 0)
    on_pairs.validate({"step": 0, "tokens": 0})
    expected = token_nll(on_pairs.model, pairs.rows.ids, pairs.masks, 5, pairs.rows).mean()
    assert on_pairs.progress.records[0]["own_format_nll"] == pytest.approx(expected, rel=1e-5)
    other = Trainer(config, data, 0)
    other.validate({"step": 0, "tokens": 0})
    assert "own_format_nll" not in other.progress.records[0]
