"""How far the scores of a retrained cell may be from the recorded ones. `study verify` calls them "within tolerance"
then.

A score is a loss or an accuracy: a number whose key ends in `nll`, `loss` or `accuracy`, and the shares of token
identity. Of the learning curve, the last record counts. A score of a part of a test set rests on fewer tokens than that
of the whole, so it may differ by more; the same goes for probes that were fitted to fewer rows than others. Parts of
fewer than SMALLEST_PART tokens, pairs or rows do not count: two seeds of one arm differ by 10 points or more there. Nor
do single runs of fine-tuning, whose mean counts, and the accuracies in cross-validation, which only choose the penalty
and the layer.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

NLL_TOLERANCE = 0.05                        # nats
ACCURACY_TOLERANCE = 0.02                   # share of rows
PART_FACTOR = 5                             # how many times as far the score of a part may be off
SMALLEST_PART = 500                         # tokens, pairs or test rows
TOLERANCES = {"nll": NLL_TOLERANCE, "accuracy": ACCURACY_TOLERANCE, "nll of a part": PART_FACTOR * NLL_TOLERANCE,
              "accuracy of a part": PART_FACTOR * ACCURACY_TOLERANCE}
FILES = ("evaluation", "probe", "finetune")     # what the keys of scores begin with, apart from those of the curve
ACCURACIES = ("accuracy", "untrained_accuracy")


class Pair(NamedTuple):
    """One value of a cell's results under its dotted key: as recorded, and after retraining."""
    key: str
    old: Any
    new: Any


def largest_gaps(pairs: list[Pair], last_record: str) -> dict[str, float | None]:
    """The largest difference for each of TOLERANCES; None if a number has no counterpart. last_record: what the keys of
    the last record of the learning curve begin with."""
    recorded = {pair.key: pair.old for pair in pairs}
    gaps = dict.fromkeys(TOLERANCES, 0.0)
    for pair in pairs:
        kind = _kind(pair.key, last_record)
        if kind is not None and _is_part(pair.key):
            kind = f"{kind} of a part" if _size(pair.key, recorded) >= SMALLEST_PART else None
        if kind is not None:
            gaps[kind] = max(gaps[kind], _gap(pair))
    return {kind: gap if math.isfinite(gap) else None for kind, gap in gaps.items()}


def are_near(pairs: Iterable[Pair], largest: dict[str, float | None]) -> bool:
    """Whether these values, with the result of `largest_gaps`, are within tolerance. They are not if a section of the
    scores is only in one of the two results."""
    if any(isinstance(value, (dict, list)) for pair in pairs if pair.key.startswith(FILES)
           for value in (pair.old, pair.new)):
        return False
    return all(largest[kind] is not None and largest[kind] <= tolerance for kind, tolerance in TOLERANCES.items())


def _kind(key: str, last_record: str) -> str | None:
    """Whether a key is that of a loss (`nll`), of an accuracy, or of neither."""
    *sections, last = key.split(".")
    is_nll = last == "nll" or last.endswith("_nll")
    if key.startswith(last_record):
        return "nll" if is_nll or last in ("loss", "pair_loss") else None
    if sections[0] not in FILES or "runs" in sections[2:]:
        return None
    if last in ACCURACIES or sections[1:3] == ["token_identity", "layers"]:
        return "accuracy"
    return "nll" if is_nll else None


def _is_part(key: str) -> bool:
    """Whether a score is of a part of a test set, or of a probe that was fitted to fewer rows."""
    return any(part.startswith("by_") or part in ("sizes", "tutorial") for part in key.split(".")[2:])


def _size(key: str, recorded: dict[str, Any]) -> int:
    """Number of tokens, pairs or test rows that a score is of."""
    section, task = key.rpartition(".")[0], ".".join(key.split(".")[:2])
    names = (f"{section}.tokens", f"{section}.pairs", f"{section}.rows.1", f"{section}.rows.test", f"{task}.rows.test")
    return next((recorded[name] for name in names if name in recorded), 0)


def _gap(pair: Pair) -> float:
    """The difference between two numbers; infinite if one of them is missing."""
    if pair.old == pair.new:
        return 0.0
    return abs(pair.old - pair.new) if _is_number(pair.old) and _is_number(pair.new) else math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
