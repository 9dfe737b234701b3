"""How smoothly a run trained: measures that a few runs can decide, where a rate of divergence cannot.

They are read from what training records per logging interval: the largest gradient norm before clipping, the number of
clipped steps, and the largest loss of a step. All are None for runs that were recorded without them.
"""
from __future__ import annotations

from study.analysis.decision_rules import SPIKE_NATS
from study.analysis.measures import Value
from study.analysis.results import CellResults, StudyResults


def _intervals(cell: CellResults, after_warmup: bool = True) -> list[tuple[dict, dict]]:
    """The logging intervals as pairs of records: at the start and at the end. after_warmup: only those after it."""
    start = cell.settings.training.warmup_steps if after_warmup else 0
    return [(before, record) for before, record in zip(cell.records, cell.records[1:], strict=False)
            if "clipped" in record and before["step"] >= start]


def largest_gradient_norm(_: StudyResults, cell: CellResults) -> Value | None:
    """The largest gradient norm after the warm-up, before clipping."""
    norms = [record["largest_gradient_norm"] for _, record in _intervals(cell)]
    return Value(max(norms)) if norms else None


def clipped_share(_: StudyResults, cell: CellResults) -> Value | None:
    """The share of the steps after the warm-up whose gradient was clipped."""
    intervals = _intervals(cell)
    steps = sum(record["step"] - before["step"] for before, record in intervals)
    return Value(sum(record["clipped"] for _, record in intervals) / steps) if steps else None


def loss_spikes(_: StudyResults, cell: CellResults) -> Value | None:
    """The number of logging intervals with a step whose loss exceeds the mean of the interval before by more than
    SPIKE_NATS."""
    intervals = _intervals(cell, after_warmup=False)
    spikes = [record["largest_loss"] > before["loss"] + SPIKE_NATS for before, record in intervals
              if before.get("loss") is not None]
    return Value(float(sum(spikes))) if spikes else None


def loss_above_start(_: StudyResults, cell: CellResults) -> Value | None:
    """The share of the logging intervals with a step whose loss exceeds the validation NLL before the first step."""
    intervals, start = _intervals(cell, after_warmup=False), cell.records[0].get("validation_nll")
    if not intervals or start is None:
        return None
    return Value(sum(record["largest_loss"] > start for _, record in intervals) / len(intervals))
