"""The learning rate in closed form, the length curriculum, and what a schedule costs."""

import pytest
import torch

from study.config.schema import Branch
from study.orchestration.plan import _work
from study.training.pretrain import completed_phases, training_flops
from study.training.schedule import learning_rate, phases, reads_short_rows
from study.training.search import shortened
from study.training.trainer import drawn_source
from tests.support.studies import changed
from tests.support.training import trained


def test_learning_rate_has_its_closed_form(config):
    def rates(**values):
        training = changed(config, training={"steps": 10, "warmup_steps": 4, "learning_rate": 1.0, **values}).training
        return [learning_rate(step, training) for step in range(10)]

    assert rates(lr_scheduler_type="linear")[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates(lr_scheduler_type="linear")[9] == pytest.approx(1 / 6)
    assert rates(lr_scheduler_type="constant")[4:] == [1.0] * 6
    assert rates(lr_scheduler_type="cosine")[7] == pytest.approx(0.5)
    assert rates(lr_scheduler_type="linear", warmup_steps=0)[0] == 1.0
    # Vaswani et al. 2017, formula 3: min(step^-0.5, step * warmup^-1.5), here with a peak of 1 at step 4
    assert rates(lr_scheduler_type="inverse-sqrt") == pytest.approx(
        [2 * min(step**-0.5, step * 4**-1.5) for step in range(1, 11)])


def test_the_inverse_square_root_from_zero_is_that_of_transformers(config):
    from transformers import get_inverse_sqrt_schedule

    training = changed(config, training={"steps": 20, "warmup_steps": 4, "learning_rate": 0.5, "warmup_from_zero": True,
                                         "lr_scheduler_type": "inverse-sqrt"}).training
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = get_inverse_sqrt_schedule(optimizer, 4)
    for step in range(20):
        assert learning_rate(step, training) == pytest.approx(schedule.get_last_lr()[0], abs=1e-15)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(("warmup", "expected"), [(100, 1), (0, 0), (50_000, 200), (100_000, 400)])
def test_a_trial_has_a_warm_up_step_if_the_cell_has_any(config, warmup, expected):
    schedule = "inverse-sqrt" if warmup else "linear"
    full = changed(config, training={"steps": 100_000, "warmup_steps": warmup, "lr_scheduler_type": schedule})
    training = shortened(full, 400).training
    assert (training.steps, training.warmup_steps, training.eval_steps) == (400, expected, 100)
    assert min(learning_rate(step, training) for step in range(400)) > 0


def test_the_settings_of_a_trial_are_checked(config):
    with pytest.raises(ValueError, match="steps"):
        shortened(config, -1)


@pytest.mark.parametrize(("schedule", "warmup"), [("linear", 0), ("linear", 30), ("cosine", 10), ("constant", 10)])
def test_learning_rate_rises_to_its_peak_and_never_rises_again(config, schedule, warmup):
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


def test_a_length_curriculum_may_keep_the_rows_per_step(config, data):
    curriculum = {"step_fraction": 0.5, "length_fraction": 0.5, "keep": "rows"}
    short_first = changed(config, training={"steps": 4, "curriculum": curriculum})
    first, second = phases(short_first)
    assert (first.batch_size, 2 * first.length) == (second.batch_size, second.length)
    assert trained(short_first, data)[1].tokens == 2 * (first.length + second.length) * second.batch_size


def test_a_length_curriculum_keeps_the_tokens_per_step(config, data):
    short_first = changed(config, training={"steps": 4, "curriculum": {"step_fraction": 0.5, "length_fraction": 0.5}})
    first, second = phases(short_first)
    assert first.length * first.batch_size == second.length * second.batch_size
    assert (first.begin, first.end, second.end) == (0, 2, 4)
    assert trained(short_first, data)[1].tokens == 4 * second.length * second.batch_size


def test_which_updates_have_short_rows(config):
    plain = changed(config, training={"steps": 6})
    short_first = changed(plain, training={"curriculum": {"step_fraction": 0.5, "length_fraction": 0.5}})
    branched = short_first.model_copy(update={"branch": Branch(step=2, before=plain)})
    short = [[step for step in range(-1, 7) if reads_short_rows(step, settings)]
             for settings in (plain, short_first, branched)]
    assert short == [[], [0, 1, 2], [2]]


@pytest.mark.parametrize("keep", ["tokens", "rows"])
@pytest.mark.parametrize("form", ["full-sentences", "segment-pairs"])
def test_operations_are_those_of_the_positions_of_every_phase(config, data, keep, form):
    """Batches of padded rows have as many rows as make up for the padding, which depends on the length."""
    curriculum = {"step_fraction": 0.75, "length_fraction": 0.5, "keep": keep}
    short_first = changed(config, inputs={"format": form, "batch": "tokens"}, training={"curriculum": curriculum})
    trainer, progress = trained(short_first, data)
    size, parts = data.tokenizer.vocabulary_size, completed_phases(short_first, progress)
    sources = [(drawn_source(data, 0, phase), steps) for phase, steps in parts]
    positions = [steps * source.batch(0).input_ids.size for source, steps in sources]
    assert sum(positions) == progress.positions
    per_token = [trainer.objective.token.flops_per_token(size, phase.length) for phase, _ in parts]
    expected = sum(count * flops for count, flops in zip(positions, per_token, strict=True))
    assert training_flops(sources, size, progress.positions) == pytest.approx(expected)
    if form == "full-sentences":                                    # the plan counts full rows
        assert _work(short_first, size) == (sum(positions), pytest.approx(expected))
        if keep == "tokens":                                        # as it was recorded before, to the bit
            mean = sum(flops * steps for flops, (_, steps) in zip(per_token, parts, strict=True))
            assert training_flops(sources, size, progress.positions) == mean * progress.positions / progress.step


def test_a_cell_without_steps_needs_no_operations(config, data):
    untrained = changed(config, training={"steps": 0, "warmup_steps": 0})
    _, progress = trained(untrained, data)
    assert training_flops(completed_phases(untrained, progress), 60, 0) == _work(untrained, 60)[1] == 0
