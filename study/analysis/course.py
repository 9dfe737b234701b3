"""The training loss over the whole run or its end, as tutorials print it: means over steps, every step alike."""
from __future__ import annotations

from study.analysis.measures import Measure, Value
from study.analysis.results import CellResults, StudyResults

LAST = 0.1                                  # share of the steps that the end of a run has


def running_loss(key: str, part: float = 1.0) -> Measure:
    """The mean of a training loss over the last `part` of the steps, in nats; over all of them, it is the running mean
    that tutorials print. None without training, in a diverged run, or if the records have no such loss.

    key: `loss` (masked tokens) or `pair_loss` (sentence pairs) of metrics.jsonl. A record has the mean since the record
    before, so it counts for as many steps; it is part of the end if all of its steps are.
    """
    def measure(_: StudyResults, cell: CellResults) -> Value | None:
        total, steps, before = 0.0, 0, 0
        begin = cell.training["steps"] * (1 - part)
        for record in cell.records:
            if record["step"] and record.get(key) is None:
                return None
            if record["step"] and before >= begin - 1e-9:
                total += record[key] * (record["step"] - before)
                steps += record["step"] - before
            before = record["step"]
        return Value(total / steps) if steps else None
    return measure
