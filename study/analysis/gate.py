"""The learning gate: whether the runs of an arm learnt enough for the arm to be compared with another.

A run passes if it trained for at least TIMES_ESCAPE times its escape step and ended below the best count model. Before
that, a difference between two arms shows which of them started first. A run that overfits has learnt: it may pass by
its training loss instead. Runs without training pass. A diverged run fails: its divergence is a result, which metrics
of stability measure, but its last NLL says nothing of what the arm learns.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from study.analysis.decision_rules import TIMES_ESCAPE
from study.analysis.learning import Curve, learning_curve, overfits, run_status, training_curve
from study.analysis.metrics import METRICS
from study.analysis.reasons import Flag, sentence
from study.analysis.results import CellResults, StudyResults
from study.analysis.verdict import Verdict


@dataclass(frozen=True)
class Shortfall:
    """The first part of the gate that a run fails, with its numbers: its steps, its escape step (None: never) and its
    last NLL and the level that this should be below, in nats. measure: what the NLL is, in words."""
    flag: Flag
    steps: int
    escape: int | None = None
    nll: float = math.nan
    level: float = math.nan
    measure: str = ""

    @property
    def distance(self) -> float:
        """How far the run is from passing this part: comparable among runs that fail the same part."""
        if self.flag == Flag.TRAINED_TOO_SHORT:
            return self.escape / self.steps
        return self.nll - self.level


@dataclass(frozen=True)
class GateFailure:
    """Why arms cannot be compared. runs: arm -> how many of its runs fail."""
    flags: frozenset[Flag]
    reason: str
    runs: dict[str, int]


def shortfall(results: StudyResults, cell: CellResults) -> Shortfall | None:
    """What a run lacks; None if it passes."""
    steps = cell.training["steps"]
    if run_status(results, cell) == "diverged":
        return Shortfall(Flag.RUN_DIVERGED, steps)
    if steps == 0:
        return None
    failed = check_curve(learning_curve(results, cell), steps)
    if failed and overfits(results, cell):
        return check_curve(replace(training_curve(results, cell), count_level=math.inf), steps)
    return failed


def check_curve(curve: Curve, steps: int) -> Shortfall | None:
    """The first part of the gate that a curve of a run of so many steps fails; None if it passes."""
    escape, nll = curve.escape_step, curve.points[-1][1] if curve.points else math.nan
    if escape is None:
        flag = Flag.NEVER_ESCAPED
    elif steps < TIMES_ESCAPE * escape:
        flag = Flag.TRAINED_TOO_SHORT
    elif nll >= curve.count_level:
        flag = Flag.ABOVE_COUNT_MODEL
    else:
        return None
    return Shortfall(flag, steps, escape, nll, curve.count_level, curve.measure)


def failed_gate(results: StudyResults, arms: Iterable[str]) -> GateFailure | None:
    """Why these arms cannot be compared; None if every run of each of them passes.

    The reason names each arm, how many of its runs fail which part, and the numbers of the run furthest from passing.
    """
    parts, flags, runs = [], set(), {}
    for arm in arms:
        cells = results.of_arm(arm)
        failed = [found for cell in cells if (found := shortfall(results, cell))]
        runs[arm] = len(failed)
        for flag in sorted({found.flag for found in failed}, key=list(Flag).index):
            same = [found for found in failed if found.flag == flag]
            worst = max(same, key=lambda found: found.distance)
            parts.append(sentence([flag], failing=len(same), n=len(cells), arm=arm, times=TIMES_ESCAPE,
                                  steps=worst.steps, escape=worst.escape, needed=TIMES_ESCAPE * (worst.escape or 0),
                                  nll=worst.nll, level=worst.level, measure=worst.measure))
            flags.add(flag)
    return GateFailure(frozenset(flags), "; ".join(parts), runs) if parts else None


def gate_verdict(results: StudyResults, arms: Iterable[str], metric: str) -> Verdict | None:
    """The verdict if these arms fail the gate and the metric asks for it; else None."""
    if METRICS[metric].defined_on_plateau:
        return None
    failure = failed_gate(results, arms)
    return failure and Verdict("undecided", failure.reason, flags=failure.flags)
