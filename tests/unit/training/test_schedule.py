"""The learning rate in closed form, and the length curriculum."""
import pytest

from study.training.schedule import learning_rate, phases
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
