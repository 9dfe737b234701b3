"""Branched cells: up to the branch they are the other arm's cells to the bit, and then they go on with their own."""
import math

import numpy as np
import pytest
import torch

from study.config.schema import Branch
from study.model.flops import flops_per_token
from study.training.pretrain import completed_phases, training_flops
from study.training.schedule import learning_rate, phases, settings_at
from study.training.trainer import Trainer, batches
from tests.support.studies import changed
from tests.support.training import trained

STEP, STEPS = 5, 12
ALL_MASK = {"masking": {"mask": 1.0, "random": 0.0, "keep": 0.0}}
CHANGES = {
    "all mask": ALL_MASK, "static": {"masking": {"schedule": "static", "dupe_factor": 1}},
    "rate": {"masking": {"mlm_probability": 0.4}}, "spans": {"masking": {"selection": "span"}},
    "fewer targets": {"objective": {"target_fraction": 0.5}}, "causal": {"objective": {"token_objective": "causal"}},
    "learning rate": {"training": {"learning_rate": 0.001}},
    "schedule": {"training": {"lr_scheduler_type": "constant"}},
    "beta2": {"training": {"adam_beta2": 0.9}}, "decay": {"training": {"weight_decay": 0.5}},
    "fast positions": {"training": {"position_learning_rate": 3.0}}, "dropout": {"model": {"dropout": 0.3}},
    "micro-batches": {"training": {"gradient_accumulation_steps": 2}},
    "local attention": {"training": {"local_attention_from": 2}},
    "count embeddings": {"training": {"count_embeddings_at": STEP}},
    "repeated rows": {"inputs": {"repeated_fraction": 0.9}},
    "shorter rows": {"training": {"curriculum": {"step_fraction": 0.75, "length_fraction": 0.5}}},
    "longer": {"training": {"steps": 16}},
}


@pytest.fixture
def before(config):
    """The settings of the arm that is started from. Its records and checkpoints do not fall on the branch."""
    return changed(config, model={"dropout": 0.1, "positions": "absolute"},
                   training={"steps": STEPS, "warmup_steps": 2, "logging_steps": 3, "eval_steps": 6, "save_steps": 4,
                             "max_grad_norm": 0.5})


def branched(before, changes: dict, step: int = STEP):
    """The settings of an arm that changes these settings after `step`."""
    return changed(before, **changes).model_copy(update={"branch": Branch(step=step, before=before)})


def state_after(config, data, steps: int, seed: int = 0) -> Trainer:
    """A trainer after so many steps of its cell."""
    trainer = Trainer(config, data, seed)
    for batch, _ in zip(batches(config, data, seed, 0), range(steps), strict=False):
        trainer.train_step(batch)
    return trainer


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", CHANGES)
def test_a_branched_cell_is_the_other_arm_s_cell_up_to_the_branch_and_not_after_it(before, data, name):
    config = branched(before, CHANGES[name])
    assert equal(state_after(config, data, STEP).tensors(), state_after(before, data, STEP).tensors())
    after = STEPS if name == "static" else STEP + 1         # static masks differ from the second epoch on
    own, others = (state_after(settings, data, after).tensors() for settings in (config, before))
    assert not all(torch.equal(own[key], others[key]) for key in others)


def test_the_records_up_to_the_branch_are_those_of_the_other_arm(before, data):
    parent, own = (trained(settings, data)[1].records for settings in (before, branched(before, ALL_MASK)))
    assert [record["step"] for record in parent] == [0, 1, 2, 3, 4, 6, 9, 12]
    assert [record["step"] for record in own] == [0, 1, 2, 3, 4, STEP, 6, 9, 12]    # no record mixes two settings
    assert own[:5] == parent[:5]
    assert own[6:] != parent[5:]


def test_training_goes_on_as_from_a_checkpoint_of_the_other_arm(before, data):
    """The cell equals one whose weights and optimiser are loaded from a trainer of the other arm, by hand."""
    own = changed(before, **CHANGES["dropout"], **ALL_MASK, training={"learning_rate": 0.002, "steps": 10})
    config = own.model_copy(update={"branch": Branch(step=STEP, before=before)})
    by_hand = Trainer(own, data, 0)
    by_hand.load_tensors({name: tensor.clone() for name, tensor in state_after(before, data, STEP).tensors().items()})
    by_hand.progress.step = STEP
    for batch in batches(own, data, 0, STEP):
        by_hand.train_step(batch)
    finished, progress = trained(config, data)
    assert progress.step == by_hand.progress.step == 10
    assert equal(finished.tensors(), by_hand.tensors())


@pytest.mark.parametrize("changes", [ALL_MASK, CHANGES["learning rate"], CHANGES["spans"]])
def test_the_order_of_the_rows_is_carried_on(before, data, changes):
    """At every step, a branched cell reads the rows that both arms read there, masked by the arm's settings then."""
    config = branched(before, changes)
    own, unbranched = config.model_copy(update={"branch": None}), list(batches(before, data, 0, 0))
    expected = unbranched[:STEP] + list(batches(own, data, 0, STEP))
    for batch, wanted in zip(batches(config, data, 0, 0), expected, strict=True):
        np.testing.assert_array_equal(batch.input_ids, wanted.input_ids)
        np.testing.assert_array_equal(batch.targets, wanted.targets)


def test_selected_positions_are_those_of_the_other_arm_where_the_rate_is(before, data):
    config = branched(before, ALL_MASK)
    for batch, other in zip(batches(config, data, 0, 0), batches(before, data, 0, 0), strict=True):
        np.testing.assert_array_equal(batch.positions, other.positions)
        np.testing.assert_array_equal(batch.targets, other.targets)


@pytest.mark.parametrize("stop", [4, 8])
@pytest.mark.parametrize("name", ["all mask", "causal", "dropout", "local attention", "count embeddings", "decay",
                                  "shorter rows"])
def test_a_cell_resumes_across_the_branch_to_the_bit(before, data, tmp_path, name, stop):
    """Checkpoints are written at steps 4 and 8; the branch is at 5, between two records."""
    config = branched(before, CHANGES[name])
    uninterrupted, progress = trained(config, data)
    interrupt(config, data, tmp_path, stop)
    torch.rand(7)                           # the state of the global generator does not matter
    resumed = Trainer(config, data, 0, tmp_path, "f")
    assert resumed.progress.step == stop
    assert resumed.train().records == progress.records
    assert equal(uninterrupted.tensors(), resumed.tensors())


@pytest.mark.parametrize("name", ["all mask", "local attention", "causal"])
def test_a_checkpoint_at_the_branch_is_the_other_arm_s(before, data, tmp_path, name):
    before = changed(before, training={"save_steps": STEP})
    config = branched(before, CHANGES[name])
    uninterrupted, progress = trained(config, data)
    interrupt(config, data, tmp_path, STEP)
    resumed = Trainer(config, data, 0, tmp_path, "f")
    assert (resumed.progress.step, resumed.config) == (STEP, before)
    assert resumed.train().records == progress.records
    assert equal(uninterrupted.tensors(), resumed.tensors())


def interrupt(config, data, folder, stop: int) -> None:
    """Trains until the first record after the checkpoint of step `stop`."""
    class Interrupted(Exception):
        pass

    def on_record(record, speed):
        if record["step"] > stop:
            raise Interrupted

    with pytest.raises(Interrupted):
        trained(config, data, state=folder, fingerprint="f", on_record=on_record)


def test_the_learning_rate_and_the_validations_follow_the_settings_in_force(before, data):
    own = {"learning_rate": 0.5, "lr_scheduler_type": "constant", "warmup_steps": 0, "logging_steps": 1,
           "eval_steps": 2}
    config = branched(before, {"training": own})
    records = {record["step"]: record for record in trained(config, data)[1].records}
    for step in range(1, STEPS + 1):
        training = (before if step <= STEP else config).training
        if step in records:
            assert records[step]["learning_rate"] == pytest.approx(learning_rate(step - 1, training), rel=1e-6)
    assert [step for step, record in records.items() if "validation_nll" in record] == [0, 1, 2, 4, 6, 8, 10, 12]
    assert list(records) == [0, 1, 2, 3, 4, *range(STEP, STEPS + 1)]


@pytest.mark.parametrize("limit", ["patience", "stop_after_escape"])
def test_a_run_that_ends_before_the_branch_ends_as_the_other_arm_s(before, data, monkeypatch, limit):
    level, values = data.validation.unigram_nll, iter([9.0, *[0.1 + 0.01 * step for step in range(12)]])
    assert level > 0.5
    monkeypatch.setattr("study.objectives.masked_lm.MaskedLM.validation_nll", lambda *_: next(values))
    stopping = changed(before, training={limit: 1, "eval_steps": 1, "logging_steps": 1})
    assert trained(branched(stopping, ALL_MASK), data)[1].step < STEP


def test_a_run_can_diverge_before_the_branch(before, data):
    wild = changed(before, training={"learning_rate": 1e30, "warmup_steps": 0, "max_grad_norm": None})
    config = branched(wild, {"training": {"learning_rate": 1e-3}})
    _, progress = trained(config, data)
    assert (progress.status, progress.step) == ("diverged", trained(wild, data)[1].step)
    assert progress.step <= STEP
    assert [phase.config for phase, _ in completed_phases(config, progress)] == [wild]


# ---- phases

def test_phases_on_both_sides_of_a_branch(before):
    config = branched(before, ALL_MASK)
    first, second = phases(config)
    assert (first.begin, first.end, first.first_batch, first.config) == (0, STEP, 0, before)
    assert (second.begin, second.end, second.first_batch, second.config) == (STEP, STEPS, STEP, config)
    assert [settings_at(step, config) for step in (0, STEP - 1, STEP, STEPS)] == [before, before, config, config]
    assert settings_at(0, before) is before
    assert [phase.config for phase in phases(before)] == [before]


def spans(config) -> list[tuple[int, int, int, int]]:
    return [(phase.begin, phase.end, phase.length, phase.first_batch) for phase in phases(config)]


def test_rows_of_one_length_are_read_in_one_order_through_branch_and_curriculum(config):
    full = config.examples.max_seq_length
    short_first = {"training": {"steps": 12, "curriculum": {"step_fraction": 0.5, "length_fraction": 0.5}}}
    plain, short = changed(config, training={"steps": 12}), changed(config, **short_first)
    assert spans(short) == [(0, 6, full // 2, 0), (6, 12, full, 0)]
    assert spans(branched(plain, short_first, 4)) == [(0, 4, full, 0), (4, 6, full // 2, 0), (6, 12, full, 4)]
    assert spans(branched(plain, short_first, 8)) == [(0, 8, full, 0), (8, 12, full, 8)]
    longer = {"training": {"steps": 20}}
    assert spans(branched(short, longer, 8)) == [(0, 6, full // 2, 0), (6, 8, full, 0), (8, 10, full // 2, 6),
                                                 (10, 20, full, 2)]


def test_operations_are_counted_on_both_sides(before, data):
    config = branched(before, {"masking": {"mlm_probability": 0.6}})
    _, progress = trained(config, data)
    size, length = data.tokenizer.vocabulary_size, config.examples.max_seq_length
    per_token = [flops_per_token(config.model, size, length, rate) for rate in (0.15, 0.6)]
    expected = progress.tokens / STEPS * (STEP * per_token[0] + (STEPS - STEP) * per_token[1])
    parts = completed_phases(config, progress)
    assert training_flops(parts, size, progress.positions) == pytest.approx(expected)
    assert math.isfinite(expected)
