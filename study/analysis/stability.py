"""How smoothly a run trained: measures that a few runs can decide, where a rate of divergence cannot.

They are read from what training records per logging interval: the largest gradient norm before clipping, the number of
clipped steps, and the largest loss of a step. All are None for runs that were recorded without them. A diverged run
counts to its end. The step at which its loss or gradient was not finite made no update; its interval counts as one with
a spike and with a loss above the initial one.
"""
from __future__ import annotations

from study.analysis.decision_rules import SPIKE_NATS
from study.analysis.measures import Value
from study.analysis.results import CellResults, StudyResults

Interval = tuple[dict, dict]                # the records at the start and at the end of a logging interval


def _intervals(cell: CellResults) -> list[Interval]:
    return [(before, record) for before, record in zip(cell.records, cell.records[1:], strict=False)
            if "clipped" in record]


def _after_warmup(cell: CellResults) -> list[Interval]:
    """The logging intervals after the warm-up in which a step was made; all of them if the run ended before."""
    settings = [cell.settings] if cell.settings.branch is None else [cell.settings, cell.settings.branch.before]
    start = max(config.training.warmup_steps for config in settings)
    intervals = [pair for pair in _intervals(cell) if pair[1]["largest_gradient_norm"] is not None]
    return [(before, record) for before, record in intervals if before["step"] >= start] or intervals


def largest_gradient_norm(_: StudyResults, cell: CellResults) -> Value | None:
    """The largest gradient norm after the warm-up, before clipping."""
    norms = [record["largest_gradient_norm"] for _, record in _after_warmup(cell)]
    return Value(max(norms)) if norms else None


def clipped_share(_: StudyResults, cell: CellResults) -> Value | None:
    """The share of the steps after the warm-up whose gradient was clipped."""
    intervals = _after_warmup(cell)
    steps = sum(record["step"] - before["step"] - _diverged(record) for before, record in intervals)
    return Value(sum(record["clipped"] for _, record in intervals) / steps) if steps else None


def loss_spikes(_: StudyResults, cell: CellResults) -> Value | None:
    """The number of logging intervals with a step whose loss exceeds the mean of the interval before by more than
    SPIKE_NATS. The interval after a branch is left out, because its loss has another meaning."""
    intervals, branch = _intervals(cell), cell.settings.branch
    spikes = [_diverged(record) or record["largest_loss"] > before["loss"] + SPIKE_NATS for before, record in intervals
              if before.get("loss") is not None and (branch is None or before["step"] != branch.step)]
    return Value(float(sum(spikes))) if intervals else None


def loss_above_start(_: StudyResults, cell: CellResults) -> Value | None:
    """The share of the logging intervals after the first one with a step whose loss exceeds that of the first interval.
    The first interval has one step, so this is the training loss before any update."""
    intervals = _intervals(cell)
    if not intervals:
        return None
    start = intervals[0][1]["loss"]
    above = [_diverged(record) or record["largest_loss"] > start for _, record in intervals[1:]]
    return Value(1.0 if start is None else sum(above) / max(1, len(above)))


def _diverged(record: dict) -> bool:
    """Whether a run ended at this record, with a step whose loss or gradient was not finite."""
    return record["loss"] is None
