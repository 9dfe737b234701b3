"""Logs of training: the Hugging Face Trainer's trainer_state.json, this project's metrics.jsonl, and CSV.

    trainer_state.json   `log_history`: entries with step and loss, learning_rate, grad_norm or eval_loss
    metrics.jsonl        a record per line: step, and loss, learning_rate, gradient_norm or validation_nll (on [MASK])
    CSV                  columns step and loss; optional eval_loss or validation_loss, and learning_rate
"""
from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from study import StudyError

EVAL_KEYS = ("eval_loss", "validation_loss", "val_loss", "validation_nll")
ALL_MASK_KEY = "validation_nll"             # this project measures it with every selected token shown as [MASK]
RATE_KEYS = ("learning_rate", "lr")
NORM_KEYS = ("grad_norm", "gradient_norm")
LASTING_NORMS = 2                           # at the end of a log; one alone may be a step that float16 skips
KINDS = "a trainer_state.json, a metrics.jsonl or a CSV with the columns step and loss"

Points = list[tuple[int, float]]


@dataclass(frozen=True)
class TrainingLog:
    """A log, in the order of its steps. `losses` and `evaluations`: (step, nats), finite ones only.

    `evaluated_on_mask`: whether evaluations are on tokens that are all shown as [MASK]. `diverged`: the step from which
    on losses or gradient norms are no finite numbers up to the end of the log. `batch_size`: rows per device, as the
    Trainer records it. `steps`: the last step that was logged; `planned`: how many were to be run, if it is known.
    `not_finite`: the number of steps with a loss or gradient norm that is not finite.
    """
    path: Path
    losses: Points
    evaluations: Points
    evaluated_on_mask: bool
    learning_rates: Points
    diverged: int | None
    batch_size: int | None
    steps: int
    planned: int | None
    not_finite: int = 0


def read_log(path: Path) -> TrainingLog:
    """Returns a log. Raises StudyError if the file is missing, is of another kind or has a wrong entry."""
    if not path.is_file():
        raise StudyError(f"{path}: no such file; --log takes {KINDS}")
    reader = {".json": _trainer_records, ".jsonl": _json_lines, ".csv": _table, ".tsv": _table}.get(path.suffix.lower())
    if reader is None:
        raise StudyError(f"{path}: not a known kind of log; --log takes {KINDS}")
    try:
        head, entries = reader(path, path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not a text file; --log takes {KINDS}") from None
    return _log(path, head, entries)


def _trainer_records(path: Path, text: str) -> tuple[dict, Iterable[tuple[str, dict]]]:
    """The settings, and (place, entry) of each entry."""
    try:
        state = json.loads(text)
    except ValueError as error:
        raise StudyError(f"{path}: not JSON ({error}); name JSON lines .jsonl") from None
    entries = state.get("log_history") if isinstance(state, dict) else state
    if not isinstance(entries, list):
        raise StudyError(f"{path}: no log_history; trainer_state.json is in each checkpoint folder of the Trainer")
    return (state if isinstance(state, dict) else {},
            ((f"log_history entry {number}", entry) for number, entry in enumerate(entries, 1)))


def _json_lines(path: Path, text: str) -> tuple[dict, Iterator[tuple[str, dict]]]:
    def records() -> Iterator[tuple[str, dict]]:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    yield f"line {number}", json.loads(line)
                except json.JSONDecodeError as error:
                    raise StudyError(f"{path}, line {number}: not JSON ({error.msg}, column {error.colno}); write one "
                                     f"record per line") from None
    return {}, records()


def _table(path: Path, text: str) -> tuple[dict, Iterator[tuple[str, dict]]]:
    rows = csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    names = [name.strip() for name in rows.fieldnames or []]
    rows.fieldnames = names
    if "step" not in names or not {"loss", *EVAL_KEYS} & set(names):
        raise StudyError(f"{path}, line 1: the columns are {', '.join(names) or 'missing'}; a CSV log needs the "
                         f"columns step and loss")

    def records() -> Iterator[tuple[str, dict]]:
        for row in rows:
            more = row.pop(None, [])        # fields beyond the header; empty after a separator at the end of a line
            if any(field.strip() for field in more):
                raise StudyError(f"{path}, line {rows.line_num}: more fields than the header has; quote fields that "
                                 f"contain the separator")
            if entry := {name: value for name, value in row.items() if (value or "").strip()}:
                yield f"line {rows.line_num}", entry
    return {}, records()


def _log(path: Path, head: dict, entries: Iterable[tuple[str, dict]]) -> TrainingLog:
    points: dict[str, dict[int, float]] = {name: {} for name in ("loss", "eval", "rate", "norm")}
    on_mask, last, keys = False, 0, {"loss": ("loss",), "eval": EVAL_KEYS, "rate": RATE_KEYS, "norm": NORM_KEYS}
    for place, entry in entries:
        if not isinstance(entry, dict) or "step" not in entry:
            raise StudyError(f"{path}, {place}: no step; each entry of a log needs its step")
        step = _step(path, place, entry["step"])
        last = max(last, step)
        for name, names in keys.items():
            for key in filter(entry.__contains__, names):
                points[name][step] = _number(path, place, key, entry[key])
                on_mask |= key == ALL_MASK_KEY
    if not points["loss"] and not points["eval"]:
        raise StudyError(f"{path}: no entry has a loss; --log takes {KINDS}")
    ordered = {name: sorted(values.items()) for name, values in points.items()}
    judged = [ordered[name] for name in ("loss", "eval", "norm")]
    bad = {step for values in judged for step, value in values if not math.isfinite(value)}
    lasting = [step for values, least in zip(judged, (1, 1, LASTING_NORMS), strict=True)
               if (step := _not_finite_since(values, least)) is not None]
    finite = {name: [(step, value) for step, value in values if math.isfinite(value)]
              for name, values in ordered.items()}
    return TrainingLog(path, finite["loss"], finite["eval"], on_mask, finite["rate"], min(lasting, default=None),
                       _count(head, "train_batch_size"), last, _count(head, "max_steps"), len(bad))


def _not_finite_since(values: Points, least: int) -> int | None:
    """The step from which on no value is finite up to the last; None if fewer than `least` values, and not all, are
    such."""
    steps = [step for step, _ in itertools.takewhile(lambda point: not math.isfinite(point[1]), reversed(values))]
    return steps[-1] if steps and len(steps) >= min(least, len(values)) else None


def _step(path: Path, place: str, value) -> int:
    number = _number(path, place, "step", value)
    if not math.isfinite(number) or number < 0 or number != int(number):
        raise StudyError(f"{path}, {place}: step is {value!r}; it must be a whole number")
    return int(number)


def _number(path: Path, place: str, key: str, value) -> float:
    """A number; None, which this project writes for a loss that is not finite, is NaN."""
    if value is None:
        return math.nan
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError):
        raise StudyError(f"{path}, {place}: {key} is {value!r}; it must be a number") from None


def _count(head: dict, key: str) -> int | None:
    """A positive whole number in the settings of the Trainer, None if it is not there."""
    value = head.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
