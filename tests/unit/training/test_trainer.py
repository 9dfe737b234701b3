"""Training: the schedule in closed form, resuming bit for bit, accumulation, every switch."""
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from study import StudyError
from study.data.batches import BatchSource
from study.evaluation.embedding import load_cell
from study.training.checkpoint import read_checkpoint, write_checkpoint
from study.training.pretrain import write_cell
from study.training.schedule import learning_rate
from study.training.trainer import Trainer, phases
from tests.support.studies import ROOT, changed
from tests.support.training import trained, weights


def test_schedule_is_closed_form(config):
    def rates(**values):
        training = changed(config, training={"steps": 10, "warmup_steps": 4, "learning_rate": 1.0, **values}).training
        return [learning_rate(step, training) for step in range(10)]

    assert rates(schedule="linear")[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates(schedule="linear")[9] == pytest.approx(1 / 6)
    assert rates(schedule="constant")[4:] == [1.0] * 6
    assert rates(schedule="cosine")[7] == pytest.approx(0.5)
    assert rates(schedule="linear", warmup_steps=0)[0] == 1.0


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", [4, 8])
def test_resumed_training_equals_uninterrupted_bit_for_bit(config, data, tmp_path, stop):
    config = changed(config, model={"dropout": 0.1}, training={"steps": 12, "save_steps": 4, "logging_steps": 4})
    whole, done = trained(config, data)

    def interrupt(record, speed):
        if record["step"] == stop + 4:
            raise Stop

    with pytest.raises(Stop):
        trained(config, data, state=tmp_path, fingerprint="f", on_record=interrupt)
    resumed = Trainer(config, data, 0, tmp_path, "f")
    assert resumed.progress.step == stop
    finished = resumed.train()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(resumed).values(), strict=True))
    assert finished.records == done.records
    assert finished.tokens == done.tokens


def test_damaged_and_foreign_checkpoints_are_set_aside(config, data, tmp_path):
    config = changed(config, training={"steps": 12, "save_steps": 4})
    trainer = Trainer(config, data, 0)
    tensors = trainer._tensors()
    first = write_checkpoint(tmp_path, "f", trainer.progress, tensors)
    trainer.progress.step = 8
    last = write_checkpoint(tmp_path, "f", trainer.progress, tensors)
    last.write_bytes(last.read_bytes()[:-7])
    found = read_checkpoint(tmp_path, "f")
    assert found is not None
    assert found[0].step == 0
    assert last.with_suffix(".refused").exists()
    assert read_checkpoint(tmp_path, "other settings") is None
    assert not first.exists()


def test_checkpoints_on_disk_are_bounded(config, data, tmp_path):
    trained(changed(config, training={"steps": 20, "save_steps": 2}), data, state=tmp_path, fingerprint="f")
    assert len(list(Path(tmp_path).iterdir())) == 2


@pytest.mark.parametrize("pair", ["none", "nsp"])
def test_micro_batches_add_up_to_the_large_batch(config, data, pair):
    form = "segment-pairs" if pair == "nsp" else "full-sentences"
    base = changed(config, inputs={"format": form}, objective={"sentence_objective": pair}, training={"steps": 3})
    parts = changed(base, training={"gradient_accumulation_steps": 4})
    one, four = Trainer(base, data, 0), Trainer(parts, data, 0)
    batch = BatchSource(data.train, data.tokenizer, base, 0, base.examples.max_seq_length, 8).batch(0)
    whole, added = one._backward(batch), four._backward(batch)
    assert whole[0] == pytest.approx(added[0], rel=1e-5)
    assert (whole[1] is None) == (pair == "none")
    assert pair == "none" or whole[1] == pytest.approx(added[1], rel=1e-5)
    for a, b in zip(one.model.parameters(), four.model.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


SWITCHES = {
    "pre-norm": {"model": {"norm": "pre"}}, "no embedding norm": {"model": {"embedding_norm": False}},
    "bert init": {"model": {"initialization": "bert"}}, "untied": {"model": {"tied_decoder": False}},
    "no transform": {"model": {"decoder_transform": False}}, "dropout": {"model": {"dropout": 0.2}},
    "static": {"masking": {"schedule": "static", "dupe_factor": 2}},
    "whole words": {"masking": {"selection": "whole-word"}},
    "spans": {"masking": {"selection": "span"}}, "all mask": {"masking": {"mask": 1.0, "random": 0.0, "keep": 0.0}},
    "documents": {"inputs": {"format": "document-sentences"}}, "paragraphs": {"inputs": {"format": "paragraphs"}},
    "pairs": {"inputs": {"format": "segment-pairs"}},
    "nsp": {"inputs": {"format": "segment-pairs"}, "objective": {"sentence_objective": "nsp"}},
    "nsp weight": {"inputs": {"format": "segment-pairs"}, "objective": {"sentence_objective": "nsp", "sentence_weight": 0.1}},
    "nsp on sentences": {"inputs": {"format": "sentence-pairs"}, "objective": {"sentence_objective": "nsp"}},
    "sop": {"inputs": {"format": "segment-pairs"}, "objective": {"sentence_objective": "sop"}},
    "causal": {"objective": {"token_objective": "causal"}}, "predicted share": {"objective": {"target_fraction": 0.25}},
    "cosine": {"training": {"lr_scheduler_type": "cosine"}}, "constant": {"training": {"lr_scheduler_type": "constant"}},
    "no clip": {"training": {"max_grad_norm": None}}, "bfloat16": {"training": {"precision": "bfloat16"}},
    "part of the data": {"training": {"data_share": 0.5}}, "patience": {"training": {"patience": 1}},
    "curriculum": {"training": {"curriculum": {"share": 0.5, "length": 0.5}}},
}


SAME_SO_FAR = {"static", "patience"}        # no example has come twice yet, no validation was worse


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_trains_and_makes_a_difference(config, data, name):
    budget = {"steps": 4, "warmup_steps": 0, "logging_steps": 2, "eval_steps": 2, "max_grad_norm": 0.1}
    base = changed(config, training=budget)
    other = changed(base, **SWITCHES[name])
    assert other != base
    trainer, done = trained(other, data)
    assert done.status == "finished"
    assert all(math.isfinite(r["loss"]) for r in done.records if "loss" in r)
    after, start = weights(trainer), weights(Trainer(other, data, 0))
    assert not torch.equal(start["encoder.layers.0.up.weight"], after["encoder.layers.0.up.weight"])
    usual = weights(trained(base, data)[0])["encoder.layers.0.up.weight"]
    assert torch.equal(usual, after["encoder.layers.0.up.weight"]) == (name in SAME_SO_FAR)


@pytest.mark.parametrize(("precision", "apart"), [("float32", 1e-4), ("bfloat16", 5e-3)])
def test_a_compiled_model_trains_as_the_plain_one(config, data, precision, apart):
    budget = {"steps": 3, "logging_steps": 1, "eval_steps": 3, "precision": precision}
    plain = trained(changed(config, training=budget), data)[1].records
    fused = trained(changed(config, training=budget | {"compile": True}), data)[1].records
    for key in ("loss", "gradient_norm", "validation_nll"):
        assert [r[key] for r in fused if key in r] == pytest.approx([r[key] for r in plain if key in r], rel=apart)


def test_curriculum_keeps_the_tokens_of_a_step(config, data):
    other = changed(config, training={"steps": 4, "curriculum": {"share": 0.5, "length": 0.5}})
    first, second = phases(other)
    assert first.length * first.batch_size == second.length * second.batch_size
    assert (first.begin, first.end, second.end) == (0, 2, 4)
    assert trained(other, data)[1].tokens == 4 * second.length * second.batch_size


def test_predicted_share_leaves_the_corruption_as_it_is(config, data):
    part = changed(config, masking={"mlm_probability": 0.5}, objective={"target_fraction": 0.5})
    whole = changed(config, masking={"mlm_probability": 0.5})
    rows = BatchSource(data.train, data.tokenizer, whole, 0, 32, 40)
    other = BatchSource(data.train, data.tokenizer, part, 0, 32, 40)
    assert (rows.batch(0).input_ids == other.batch(0).input_ids).all()
    assert len(other.batch(0).targets) / len(rows.batch(0).targets) == pytest.approx(0.5, abs=0.1)


def test_eight_rows_can_be_learnt_by_heart(config, data):
    small = changed(config, training={"steps": 250, "batch_size": 8, "data_share": 1e-9 + 8 / 60, "learning_rate": 0.01,
                                    "warmup_steps": 10, "logging_steps": 50, "eval_steps": 250},
                    masking={"schedule": "static", "dupe_factor": 1})
    rows = BatchSource(data.train, data.tokenizer, small, 0, 32, 8).rows
    small = changed(small, training={"data_share": 8 / 60 * 8 / rows})
    _, done = trained(small, data)
    assert done.records[-1]["loss"] < 0.1


def test_eight_pairs_can_be_learnt_by_heart(config, data):
    """Words and next sentence at once, on one batch again and again: pairs are drawn anew at each pass otherwise."""
    both = changed(config, inputs={"format": "segment-pairs", "batch": "rows"}, objective={"sentence_objective": "nsp"},
                   training={"steps": 200, "batch_size": 8, "learning_rate": 0.01, "warmup_steps": 10})
    trainer = Trainer(both, data, 0)
    batch = BatchSource(data.train, data.tokenizer, both, 0, both.examples.max_seq_length, 8).batch(0)
    assert 0 < batch.next_sentence_label.sum() < 8
    for _ in range(200):
        trainer._step(batch)
    words, pairs = trainer._backward(batch)
    assert words / len(batch.targets) < 0.05
    assert pairs / 8 < 0.01


def test_divergence_is_a_result(config, data):
    wild = changed(config, training={"steps": 30, "learning_rate": 1e6, "warmup_steps": 0, "max_grad_norm": None,
                                   "logging_steps": 5, "eval_steps": 30})
    _, done = trained(wild, data)
    assert done.status == "diverged"


def test_no_steps_leave_the_encoder_as_initialised(config, data):
    still = changed(config, training={"steps": 0, "warmup_steps": 0})
    trainer, done = trained(still, data)
    assert (done.status, done.step) == ("finished", 0)
    assert torch.equal(weights(trainer)["words.bias"], torch.zeros(data.tokenizer.vocabulary_size))


@pytest.mark.parametrize(("schedule", "warmup"), [("linear", 0), ("linear", 30), ("cosine", 10), ("constant", 10)])
def test_schedule_rises_to_the_peak_once_and_never_leaves_it_upwards(config, schedule, warmup):
    training = changed(config, training={"steps": 100, "warmup_steps": warmup, "learning_rate": 0.3,
                                       "lr_scheduler_type": schedule}).training
    rates = [learning_rate(step, training) for step in range(100)]
    assert max(rates) == pytest.approx(0.3)
    assert all(a < b for a, b in zip(rates[:warmup - 1], rates[1:warmup], strict=False))
    assert all(a >= b for a, b in zip(rates[warmup:], rates[warmup + 1:], strict=False))
    assert min(rates) > 0
    if schedule != "constant":
        assert learning_rate(100, training) == pytest.approx(0, abs=1e-12)
        assert rates[warmup + (100 - warmup) // 2] == pytest.approx(0.15, rel=0.02)


RESUMED = {"pairs": {"inputs": {"format": "segment-pairs"}, "objective": {"sentence_objective": "nsp"}},
           "curriculum": {"training": {"curriculum": {"share": 0.5, "length": 0.5}}},
           "causal": {"objective": {"token_objective": "causal"}}, "micro-batches": {"training": {"gradient_accumulation_steps": 2}},
           "static": {"masking": {"schedule": "static", "dupe_factor": 2}}}


@pytest.mark.parametrize("name", RESUMED)
def test_any_recipe_resumes_bit_for_bit(config, data, tmp_path, name):
    plan = {"steps": 12, "save_steps": 5, "logging_steps": 3, "eval_steps": 6}      # logs between checkpoints
    base = changed(changed(config, model={"dropout": 0.1}, training=plan), **RESUMED[name])
    whole, done = trained(base, data)

    def interrupt(record, speed):
        if record["step"] == 9:
            raise Stop

    with pytest.raises(Stop):
        trained(base, data, state=tmp_path, fingerprint="f", on_record=interrupt)
    torch.rand(7)                                           # what the global generator did since is of no account
    resumed = Trainer(base, data, 0, tmp_path, "f")
    assert resumed.progress.step == 5
    assert resumed.train().records == done.records
    assert all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(resumed).values(), strict=True))


def test_same_seed_same_bits_and_another_seed_other_ones(config, data):
    (first, one), (again, two), (other, _) = (trained(config, data, seed) for seed in (0, 0, 1))
    assert one.records == two.records
    assert all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(again).values(), strict=True))
    assert not torch.equal(weights(first)["encoder.token.weight"], weights(other)["encoder.token.weight"])


@pytest.mark.parametrize("spoil", [lambda b: b[:-7], lambda b: b[:40], lambda b: b"", lambda b: b"\xff" * len(b),
                                   lambda b: b[:-50] + bytes([b[-50] ^ 1]) + b[-49:]])
def test_no_damage_goes_unnoticed(config, data, tmp_path, spoil):
    trainer = Trainer(config, data, 0)
    path = write_checkpoint(tmp_path, "f", trainer.progress, trainer._tensors())
    path.write_bytes(spoil(path.read_bytes()))
    assert read_checkpoint(tmp_path, "f") is None
    assert [file.suffix for file in tmp_path.iterdir()] == [".refused"]


def test_a_checkpoint_gives_back_what_was_written(config, data, tmp_path):
    trainer, _ = trained(changed(config, training={"steps": 3, "warmup_steps": 0}), data)
    tensors = trainer._tensors()
    write_checkpoint(tmp_path, "f", trainer.progress, tensors)
    progress, found = read_checkpoint(tmp_path, "f")
    assert progress == trainer.progress
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert any(name.endswith("exp_avg_sq") for name in found)


def broken_after(trainer, step):
    """Makes the loss of all later steps infinite."""
    backward = trainer._backward

    def failing(batch):
        words, pairs = backward(batch)
        return (words if trainer.progress.step < step else math.nan), pairs

    trainer._backward = failing
    return trainer


@pytest.mark.parametrize("step", [0, 3, 5, 11])
def test_a_loss_that_is_no_number_ends_the_run_at_its_step(config, data, step):
    small = changed(config, training={"steps": 12, "logging_steps": 3, "eval_steps": 6})
    trainer = broken_after(Trainer(small, data, 0), step)
    done = trainer.train()
    assert (done.status, done.step) == ("diverged", step + 1)
    assert done.records[-1] == {**done.records[-1], "step": step + 1, "loss": None, "gradient_norm": None}
    assert [r["step"] for r in done.records if "loss" in r] == sorted({1, 2, 4, *range(3, 12, 3)}
                                                                             .intersection(range(step + 1))
                                                                             | {step + 1})
    json.dumps(done.records, allow_nan=False)
    assert all(torch.isfinite(tensor).all() for tensor in weights(trainer).values())


def test_validations_stand_at_powers_of_two_until_they_are_regular(config, data):
    _, done = trained(changed(config, training={"steps": 26, "eval_steps": 10, "logging_steps": 5}), data)
    assert [r["step"] for r in done.records if "validation_nll" in r] == [0, 1, 2, 4, 8, 10, 20, 26]
    assert [r["step"] for r in done.records] == [0, 1, 2, 4, 5, 8, 10, 15, 20, 25, 26]


@pytest.mark.parametrize("rate", [1e2, 1e6, 1e30])
@pytest.mark.parametrize("patience", [None, 1])
def test_a_wild_run_is_recorded_as_diverged_in_valid_json(config, data, rate, patience):
    wild = changed(config, training={"steps": 12, "learning_rate": rate, "warmup_steps": 0, "max_grad_norm": None,
                                   "logging_steps": 3, "eval_steps": 3, "patience": patience})
    _, done = trained(wild, data)
    assert done.status == "diverged"
    json.dumps(done.records, allow_nan=False)


@pytest.mark.parametrize(("values", "patience", "last", "status"), [
    ([3.0, 2.9, 2.95, 2.8, 2.85, 2.9, 2.7], 2, 5, "finished"),
    ([3.0, 2.9, 2.95, 2.8, 2.85, 2.9, 2.7], 3, 6, "finished"),
    ([3.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0], 1, 1, "finished"), ([3.0, 90.0, 2.0, 2.0, 2.0, 2.0, 2.0], 1, 1, "diverged"),
    ([3.0, math.inf, 2.0, 2.0, 2.0, 2.0, 2.0], 1, 1, "diverged")])
def test_patience_counts_validations_without_a_better_one(config, data, monkeypatch, values, patience, last, status):
    measured = iter(values)
    monkeypatch.setattr("study.training.trainer.mean_nll", lambda *_: next(measured))
    patient = changed(config, training={"steps": 6, "logging_steps": 1, "eval_steps": 1, "patience": patience})
    _, done = trained(patient, data)
    assert (done.step, done.status) == (last, status)


def test_early_validations_try_nobodys_patience(config, data, monkeypatch):
    measured = {0: 3.0, 1: 3.1, 2: 3.2, 4: 3.3, 5: 2.9, 10: 2.95, 15: 1.0}
    monkeypatch.setattr("study.training.trainer.mean_nll", lambda *_: measured[trainer.progress.step])
    trainer = Trainer(changed(config, training={"steps": 15, "eval_steps": 5, "patience": 1}), data, 0)
    assert trainer.train().step == 10


@pytest.mark.parametrize("weight", [0.0, 0.1, 2.0])
def test_the_pair_loss_is_weighted_as_stated(config, data, weight):
    base = changed(config, inputs={"format": "segment-pairs"}, objective={"sentence_objective": "nsp", "sentence_weight": weight})
    trainer = Trainer(base, data, 0)
    batch = BatchSource(data.train, data.tokenizer, base, 0, 32, 8).batch(0)
    trainer._backward(batch)
    pooler = trainer.model.pairs.pooler.weight.grad.clone()
    alone = Trainer(changed(base, objective={"sentence_weight": 1.0}), data, 0)
    alone._backward(batch)
    torch.testing.assert_close(pooler, weight * alone.model.pairs.pooler.weight.grad, rtol=1e-5, atol=1e-8)


def test_updates_equal_those_of_torch_with_decay_on_matrices_alone(config, data):
    """Three updates against torch.optim.AdamW; the pair head, which has no gradient, stays as it is."""
    recipe = changed(config, training={"weight_decay": 0.1, "max_grad_norm": None})
    trainer, other = Trainer(recipe, data, 0), Trainer(recipe, data, 0)
    matrices = [p for p in other.model.parameters() if p.ndim >= 2]
    vectors = [p for p in other.model.parameters() if p.ndim < 2]
    training = recipe.training
    theirs = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                               betas=(training.adam_beta1, training.adam_beta2), eps=training.adam_epsilon, fused=True)
    source = BatchSource(data.train, data.tokenizer, recipe, 0, recipe.examples.max_seq_length, training.batch_size)
    before = {name: p.clone() for name, p in trainer.model.state_dict().items()}
    for step in range(3):
        for each in (trainer, other):
            each.model.zero_grad(set_to_none=True)
            each._backward(source.batch(step))
        trainer.optimizer.step(0.01 / (step + 1))
        for group in theirs.param_groups:
            group["lr"] = 0.01 / (step + 1)
        theirs.step()
    for (name, ours), their in zip(trainer.model.named_parameters(), other.model.parameters(), strict=True):
        assert torch.equal(ours, their), name
        assert torch.equal(ours, before[name]) == name.startswith("pairs."), name


def test_a_cell_does_not_load_the_compiler(config):
    """It costs a second at the start of every cell."""
    code = ("import sys, torch; from study.training.trainer import AdamW; m = torch.nn.Linear(2, 2);"
            "o = AdamW(m, __import__('study.config.load').config.load_study('experiments/tiny').settings.training);"
            "m(torch.ones(1, 2)).sum().backward(); torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0); o.step(0.1);"
            "print('torch._dynamo' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_written_cell_loads_as_it_was_trained(study, config, data, tmp_path):
    trainer, done = trained(config, data)
    loaded = study.model_copy(update={"folder": tmp_path, "settings": study.settings.model_copy(update={"root": "."})})
    write_cell(loaded.cell("dynamic", 0), config, trainer.model, done, {"status": done.status})
    settings, model = load_cell(loaded, "dynamic", 0)
    assert settings == config
    assert all(torch.equal(a, b) for a, b in zip(weights(trainer).values(), model.state_dict().values(), strict=True))
    with pytest.raises(StudyError, match="no trained cell"):
        load_cell(loaded, "dynamic", 1)


def test_weights_that_a_validation_finds_destroyed_end_the_run(config, data, monkeypatch):
    """A validation that is no number: diverged at that step, and readers of the record meet no null."""
    found = iter([5.0, math.nan])
    monkeypatch.setattr("study.training.trainer.mean_nll", lambda *_: next(found))
    seen = []
    _, done = trained(changed(config, training={"steps": 12, "logging_steps": 1, "eval_steps": 3}), data,
                      on_record=lambda record, speed: seen.append(record))
    assert (done.status, done.step) == ("diverged", 1)
    assert "validation_nll" not in done.records[-1]
    assert seen == done.records
    assert all(record.get("validation_nll", 0.0) is not None for record in done.records)
