"""Measures of how smoothly a run trained, on records made by hand."""
from types import SimpleNamespace

import pytest

from study.analysis import decision_rules, stability
from study.analysis.metrics import METRICS, display_unit, table_unit
from study.report.formatting import DIGITS

MEASURES = (stability.largest_gradient_norm, stability.clipped_share, stability.loss_spikes,
            stability.loss_above_start)


def settings(warmup: int, branch=None):
    return SimpleNamespace(training=SimpleNamespace(warmup_steps=warmup), branch=branch)


def run(*intervals, warmup=10, branch=None):
    """A run with a record every 10 steps. intervals: (mean loss, largest loss, largest norm, clipped steps)."""
    records = [{"step": 0, "validation_nll": 9.0}]
    records += [{"step": 10 * number, "loss": loss, "largest_loss": largest, "largest_gradient_norm": norm,
                 "clipped": clipped} for number, (loss, largest, norm, clipped) in enumerate(intervals, 1)]
    return SimpleNamespace(records=records, settings=settings(warmup, branch))


def diverged(cell, step, clipped=0, norm=None, loss=None):
    """The run with a step whose loss is not finite at its end, and the extremes since the last record."""
    cell.records.append({"step": step, "loss": None, "clipped": clipped, "largest_gradient_norm": norm,
                         "largest_loss": loss})
    return cell


FIRST = (9.0, 9.0, 9.0, 10)                 # in the warm-up
SMOOTH = run(FIRST, (7.0, 7.5, 2.0, 1), (6.0, 6.5, 1.5, 0))
ROUGH = run(FIRST, (7.0, 9.2, 4.0, 5), (7.5, 8.1, 3.0, 10))


@pytest.mark.parametrize(("measure", "smooth", "rough"), [
    (stability.largest_gradient_norm, 2.0, 4.0),        # the warm-up, with its norm of 9, is left out
    (stability.clipped_share, 1 / 20, 15 / 20), (stability.loss_spikes, 0, 1),
    (stability.loss_above_start, 0, 1 / 2)])
def test_a_rough_run_has_larger_numbers(measure, smooth, rough):
    assert measure(None, SMOOTH).cell == pytest.approx(smooth)
    assert measure(None, ROUGH).cell == pytest.approx(rough)


def test_a_spike_is_as_high_as_the_rule_says(monkeypatch):
    assert decision_rules.SPIKE_NATS == 1.0
    for nats, spikes in ((1.05, 1), (1.15, 0)):         # the largest loss is 8.1, after a mean of 7.0
        monkeypatch.setattr(stability, "SPIKE_NATS", nats)
        assert stability.loss_spikes(None, ROUGH).cell == spikes


@pytest.mark.parametrize(("cell", "expected"), [
    # two steps of the last interval were made; both were clipped
    (diverged(run(FIRST, (7.0, 7.5, 4.0, 5)), 23, 2, 6.0, 7.9), (6.0, 7 / 12, 1, 1 / 2)),
    # the first step after a record
    (diverged(run(FIRST, (7.0, 7.5, 4.0, 5)), 21), (4.0, 5 / 10, 1, 1 / 2)),
    # in the warm-up, which then counts
    (diverged(run(FIRST, (7.0, 7.5, 4.0, 5), warmup=100), 23, 0, 1.0, 7.1), (9.0, 15 / 22, 1, 1 / 2)),
    # the first step after the warm-up
    (diverged(run(FIRST), 11), (9.0, 1.0, 1, 1.0))])
def test_a_diverged_run_has_every_number(cell, expected):
    assert [measure(None, cell).cell for measure in MEASURES] == pytest.approx(list(expected))


def test_a_run_that_diverges_at_its_first_step_has_no_gradient_norm():
    cell = diverged(run(), 1)
    assert [measure(None, cell) and measure(None, cell).cell for measure in MEASURES] == [None, None, 0, 1]


def test_a_run_without_a_step_after_the_first_record_has_every_number():
    assert [measure(None, run(FIRST, warmup=10)).cell for measure in MEASURES] == [9.0, 1.0, 0, 0]


def test_a_branched_run_is_warm_when_both_arms_are_and_its_branch_is_no_spike():
    intervals = (FIRST, (7.0, 7.5, 4.0, 5), (8.5, 8.8, 3.0, 1), (8.4, 8.6, 2.0, 0))
    assert stability.loss_spikes(None, run(*intervals)).cell == 1
    branch = SimpleNamespace(step=20, before=settings(10))
    branched = run(*intervals, warmup=0, branch=branch)
    assert stability.loss_spikes(None, branched).cell == 0
    assert stability.largest_gradient_norm(None, branched).cell == 4.0
    later = run(*intervals, warmup=20, branch=branch)
    assert stability.largest_gradient_norm(None, later).cell == 3.0


def test_older_records_have_no_such_numbers():
    for records in ([{"step": 0, "validation_nll": 9.0}, {"step": 20, "loss": 7.0}],
                    [{"step": 0, "validation_nll": 9.0}, {"step": 3, "loss": None, "gradient_norm": None}],
                    [{"step": 0, "validation_nll": 9.0}]):
        cell = SimpleNamespace(records=records, settings=settings(10))
        assert [measure(None, cell) for measure in MEASURES] == [None] * 4


def test_units_are_shown_as_they_are_and_lower_is_better():
    names = {"largest_gradient_norm": "norm", "clipped_share": "share", "loss_spikes": "spikes",
             "loss_above_start": "share"}
    for name, unit in names.items():
        metric = METRICS[name]
        assert (metric.better, metric.defined_on_plateau) == ("lower", True)
        assert (display_unit(name), table_unit(name)) == ((1.0, unit), unit)
        assert unit in DIGITS
