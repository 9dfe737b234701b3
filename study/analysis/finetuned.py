"""Metrics of fine-tuned encoders, from finetune.json and finetune.npz. metrics.py lists them.

They are of the first task of finetune.tasks and, unless their name says otherwise, of the largest number of labelled
rows. A cell that was not fine-tuned has none of them.

The runs of a cell differ in the new head, the order and dropout; other cells have other runs and other rows. So the
mean over the runs of a cell, taken per test row, leaves both noises in the variance over seeds, and that of the test
rows in the variance over texts.
"""
from __future__ import annotations

import math
from statistics import mean
from typing import Any

from study.analysis.measures import Measure, Value
from study.analysis.results import CellResults, StudyResults

SMALLEST, LARGEST = 0, -1                   # places in recipe.train_sizes, sorted


def _scores(results: StudyResults, cell: CellResults, name: str, place: int) -> tuple[str, dict[str, Any]] | None:
    """The key of the predictions and the scores of a recipe (or variant) at one of the sizes; None if the cell has
    none."""
    tasks = results.study.settings.finetune.tasks
    if not tasks or tasks[0].name not in cell.finetune or name not in (scores := cell.finetune[tasks[0].name]):
        return None
    size = sorted(scores[name], key=int)[place]
    return f"{tasks[0].name}/{size}/{name}/predicted", scores[name][size]


def accuracy(name: str = "trained", place: int = LARGEST) -> Measure:
    """Test accuracy as a share, the mean over the runs. name: trained, untrained or a variant."""
    def measure(results: StudyResults, cell: CellResults) -> Value | None:
        found = _scores(results, cell, name, place)
        if found is None:
            return None
        arrays, label = cell.finetune_arrays, f"{found[0].partition('/')[0]}/label"
        return Value.of_texts((arrays[found[0]] == arrays[label]).astype(float).mean(0))    # (runs, N) to (N,)
    return measure


def log_rate(place: int = LARGEST) -> Measure:
    """log10 of the learning rate that the rows held out choose, the mean over the runs."""
    def measure(results: StudyResults, cell: CellResults) -> Value | None:
        found = _scores(results, cell, "trained", place)
        return None if found is None else Value(mean(math.log10(run["rate"]) for run in found[1]["runs"]))
    return measure


def spread(place: int = LARGEST) -> Measure:
    """Standard deviation of the accuracy over the runs, as a share; None for a single run."""
    def measure(results: StudyResults, cell: CellResults) -> Value | None:
        found = _scores(results, cell, "trained", place)
        return None if found is None or found[1]["spread"] is None else Value(found[1]["spread"])
    return measure
