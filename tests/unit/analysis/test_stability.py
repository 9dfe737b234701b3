"""Measures of how smoothly a run trained, on records made by hand."""
from types import SimpleNamespace

import pytest

from study.analysis import decision_rules, stability

SETTINGS = SimpleNamespace(training=SimpleNamespace(warmup_steps=10))


def run(*intervals, start=9.0):
    """A run with a record every 10 steps. intervals: (mean loss, largest loss, largest norm, clipped steps)."""
    records = [{"step": 0, "validation_nll": start}]
    records += [{"step": 10 * number, "loss": loss, "largest_loss": largest, "largest_gradient_norm": norm,
                 "clipped": clipped} for number, (loss, largest, norm, clipped) in enumerate(intervals, 1)]
    return SimpleNamespace(records=records, settings=SETTINGS)


SMOOTH = run((8.0, 8.5, 9.0, 10), (7.0, 7.5, 2.0, 1), (6.0, 6.5, 1.5, 0))
ROUGH = run((8.0, 9.5, 9.0, 10), (7.0, 9.2, 4.0, 5), (7.5, 8.1, 3.0, 10))


@pytest.mark.parametrize(("measure", "smooth", "rough"), [
    (stability.largest_gradient_norm, 2.0, 4.0),        # the warm-up, with its norm of 9, is left out
    (stability.clipped_share, 1 / 20, 15 / 20), (stability.loss_spikes, 0, 2),
    (stability.loss_above_start, 0, 2 / 3)])
def test_a_rough_run_has_larger_numbers(measure, smooth, rough):
    assert measure(None, SMOOTH).cell == pytest.approx(smooth)
    assert measure(None, ROUGH).cell == pytest.approx(rough)


def test_a_spike_is_as_high_as_the_rule_says(monkeypatch):
    assert decision_rules.SPIKE_NATS == 1.0
    monkeypatch.setattr(stability, "SPIKE_NATS", 1.15)
    assert stability.loss_spikes(None, ROUGH).cell == 1


def test_a_diverged_run_counts_up_to_its_end():
    cell = run((8.0, 8.5, 9.0, 10), (7.0, 9.5, 4.0, 5))
    cell.records.append({"step": 23, "loss": None, "gradient_norm": None})
    assert stability.largest_gradient_norm(None, cell).cell == 4.0
    assert stability.loss_spikes(None, cell).cell == 1


def test_older_records_have_no_such_numbers():
    cell = SimpleNamespace(records=[{"step": 0, "validation_nll": 9.0}, {"step": 20, "loss": 7.0}], settings=SETTINGS)
    assert all(measure(None, cell) is None for measure in (
        stability.largest_gradient_norm, stability.clipped_share, stability.loss_spikes, stability.loss_above_start))
