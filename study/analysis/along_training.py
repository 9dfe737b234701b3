"""Effects along training: how the difference between two arms in validation NLL develops, paired by seed.

A difference that is there early and gone at the end is a head start; one that stays is an effect of the recipe. The
validation set is small and is watched in training, so the effect at the end differs a little from that on the test set.
Shapes: n seeds.
"""
from __future__ import annotations

from bisect import bisect_left
from enum import StrEnum

import numpy as np
import pandas as pd

from study.analysis import statistics
from study.analysis.results import CellResults, StudyResults

FRACTIONS = tuple(part / 20 for part in range(1, 21))       # of an arm's steps
QUARTER, HALF, END = 0.25, 0.5, 1.0         # named in the report; all three are among FRACTIONS
LASTS = 0.5                                 # a lasting effect keeps at least this share of its size at a quarter
GROWS = 2.0                                 # a growing effect has at least this many times its size at a quarter
COLUMNS = ("treatment", "baseline", "fraction", "step", "baseline_step", "n", "effect", "low", "high")


class Course(StrEnum):
    """How an effect develops. It is clear where its 95 % interval excludes zero."""
    NONE = "none"                           # clear neither at a quarter of the steps nor at the end
    HEAD_START = "head start"               # clear at a quarter, but not at the end
    LASTING = "lasting"                     # clear at the end, and at least half as large as at a quarter
    GROWING = "growing"                     # clear at the end, and at least twice as large as at a quarter
    SHRINKING = "shrinking"                 # clear at the end, but less than half as large as at a quarter
    SIGN_CHANGED = "sign changed"           # clear at both, in opposite directions
    UNKNOWN = "unknown"                     # one seed, so no interval


def course(quarter: dict, end: dict) -> Course:
    """How an effect develops. quarter, end: effect, low and high at these times, as in a row of the table."""
    if any(np.isnan(row["low"]) for row in (quarter, end)):
        return Course.UNKNOWN
    early, late = (row["low"] > 0 or row["high"] < 0 for row in (quarter, end))
    if not late:
        return Course.HEAD_START if early else Course.NONE
    share = end["effect"] / quarter["effect"] if quarter["effect"] else np.inf
    if share < 0:
        return Course.SIGN_CHANGED if early else Course.GROWING
    return Course.GROWING if share >= GROWS else Course.LASTING if share >= LASTS else Course.SHRINKING


def along_training_table(results: StudyResults) -> pd.DataFrame:
    """One row per comparison of an arm with its baseline and fraction of the training steps.

    effect: mean difference over seeds in validation NLL, in nats, with its 95 % t interval over seeds. Each arm is read
    at this fraction of its own steps, at the nearest validation; step and baseline_step are where that was in the first
    run. Arms without a validation NLL after the first step are left out.
    """
    rows = []
    for arm in results.study.settings.arms:
        baseline = results.study.arms[arm].baseline
        if baseline in results.study.settings.arms:
            rows += _rows(results, arm, baseline)
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(results: StudyResults, treatment: str, baseline: str) -> list[dict]:
    runs = [results.of_arm(arm) for arm in (treatment, baseline)]
    if not all(any(step for step, _ in cell.validations) for arm in runs for cell in arm):
        return []
    rows = []
    for fraction in FRACTIONS:
        (steps, first), (baseline_steps, second) = (
            zip(*(nll_at(results, cell, fraction) for cell in arm), strict=True) for arm in runs)
        estimate = statistics.t_estimate(np.subtract(first, second))                    # (n,)
        rows.append(dict(zip(COLUMNS, (treatment, baseline, fraction, steps[0], baseline_steps[0], len(first),
                                       estimate.mean, estimate.low, estimate.high), strict=True)))
    return rows


def nll_at(results: StudyResults, cell: CellResults, fraction: float) -> tuple[int, float]:
    """(step, NLL in nats) of the validation nearest to a fraction of a run's steps; the earlier one of two as near.

    A diverged run scores no worse than unigram frequencies, and as they do once its training had stopped.
    """
    points, diverged = cell.validations, cell.training["status"] == "diverged"
    wanted = fraction * (cell.settings.training.steps if diverged else cell.training["steps"])
    after = bisect_left(points, wanted, key=lambda point: point[0])
    step, nll = min(points[max(after - 1, 0):after + 1], key=lambda point: abs(point[0] - wanted))
    if not diverged:
        return step, nll
    return step, results.unigram_nll if wanted > points[-1][0] else min(nll, results.unigram_nll)


def summary(table: pd.DataFrame) -> list[dict]:
    """One entry per comparison: treatment, baseline, n, course, and quarter, half and end (rows of the table)."""
    entries = []
    for (treatment, baseline), part in table.groupby(["treatment", "baseline"], sort=False):
        at = {round(row["fraction"], 6): row for row in part.to_dict("records")}
        entries.append({"treatment": treatment, "baseline": baseline, "n": at[END]["n"], "quarter": at[QUARTER],
                        "half": at[HALF], "end": at[END], "course": course(at[QUARTER], at[END])})
    return entries
