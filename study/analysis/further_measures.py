"""Measures that a study takes if its `evaluation` settings ask for them: token identity and minimal pairs.

As in measures.py, a measure returns a Value, or None if the cell has no such number.
"""
from __future__ import annotations

import numpy as np

from study.analysis.measures import Measure, Value
from study.analysis.results import CellResults, StudyResults


def token_identity(encoder: str = "trained") -> Measure:
    """Share of tokens that a linear probe reads from the states of the last layer."""
    def measure(_: StudyResults, cell: CellResults) -> Value | None:
        if "token_identity" not in cell.evaluation:
            return None
        last, arrays = len(cell.evaluation["token_identity"]["layers"][encoder]) - 1, cell.evaluation_arrays
        right, tokens = arrays[f"token_identity/{encoder}/layer-{last}"], arrays["token_identity/tokens"]
        return Value.of_rows(right.astype(float), tokens.astype(float), arrays.get("token_identity/documents"))
    return measure


def headline_pairs(results: StudyResults) -> str | None:
    """The task of minimal pairs that claims use: the first one; None if the study has none."""
    tasks = results.study.settings.evaluation.minimal_pairs
    return tasks[0].name if tasks else None


def minimal_pairs(results: StudyResults, cell: CellResults) -> Value | None:
    """Share of the minimal pairs in which the acceptable sentence is the likelier one; ties count half. The pairs of a
    paradigm share a number."""
    task, arrays = headline_pairs(results), cell.evaluation_arrays
    if f"pairs/{task}/correct" not in arrays:
        return None
    correct = arrays[f"pairs/{task}/correct"].astype(float)
    return Value.of_rows(correct, np.ones(len(correct)), arrays[f"pairs/{task}/paradigm"])


def minimal_pairs_over(baseline: str) -> Measure:
    """Accuracy on minimal pairs minus that of `word-frequency` or `bigram`, which is taken as known without error."""
    def measure(results: StudyResults, cell: CellResults) -> Value | None:
        accuracy = minimal_pairs(results, cell)
        if accuracy is None:
            return None
        level = results.pair_baselines[headline_pairs(results)][baseline]["accuracy"]
        return Value(accuracy.cell - level, accuracy.texts - level)
    return measure
