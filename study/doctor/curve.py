"""Where a loss or a curve stands on the ladder: on the unigram plateau, since when, or below it."""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from study.data.plateau import ESCAPE_NATS, ESCAPE_VALIDATIONS, escape_step
from study.doctor.ladder import Ladder
from study.doctor.logs import Points, TrainingLog

WINDOWS = 50                                # a training curve is smoothed over one of this many parts of it
LARGEST_WINDOW = 25                         # points
RECENT = 0.9                                # of the step of the last training loss; earlier evaluations are out of date
FAR_BELOW_PLATEAU = 1.0                     # nats; chance seldom takes a mean of 150 tokens so far (standard error 0.3)
LOWEST_BELIEVED = 1.0                       # nats; RoBERTa-base on a billion words ends at 1.35 (perplexity 3.84, model
                                            # card of nyu-mll/roberta-base-1B-3)
EVALUATION = "evaluation loss"
STATES = {"diverged": "diverged", "above": "above the plateau", "plateau": "on the plateau",
          "leaving": "just below the plateau", "learning": "off the plateau",
          "too low": "too low to be believed without a check"}


@dataclass(frozen=True)
class Levels:
    """The levels, in nats, that a curve is held against: (name, label, nll) of the rungs; `plateau_top` and `plateau`:
    unigram frequencies without and with the use of the shown token."""
    rungs: list[tuple[str, str, float]]
    plateau_top: float
    plateau: float

    @classmethod
    def of(cls, ladder: Ladder, on_mask: bool) -> Levels:
        """Those under all [MASK] or under the user's own corruption."""
        rungs = [(level.name, level.label, level.all_mask if on_mask else level.own) for level in ladder.levels]
        unigram = ladder["unigram"]
        return cls(rungs, unigram.all_mask, unigram.all_mask if on_mask else unigram.own)

    @property
    def uniform(self) -> float:
        """ln V."""
        return self.rungs[0][2]

    @property
    def best(self) -> float:
        """The level of the best count model."""
        return min(nll for _, _, nll in self.rungs)


@dataclass(frozen=True)
class Position:
    """Where a curve stands. points: smoothed. measure: what they are. state: a key of STATES. `reached`: first step at
    the plateau or below; `escaped`: first of ESCAPE_VALIDATIONS points in a row below it; `diverged`: first bad step.
    """
    points: Points
    measure: str
    on_mask: bool
    window: int
    state: str
    reached: int | None
    escaped: int | None
    diverged: int | None
    levels: Levels

    @property
    def is_evaluation(self) -> bool:
        """Whether the points are evaluations."""
        return self.measure == EVALUATION

    @property
    def last(self) -> float:
        """The last loss, nats; NaN if no loss of the log is a number."""
        return self.points[-1][1] if self.points else math.nan

    @property
    def lowest(self) -> tuple[int, float]:
        """(step, loss) of the lowest point."""
        return min(self.points, key=lambda point: point[1])


def position_of(log: TrainingLog | None, loss: float | None, ladder: Ladder) -> Position:
    """The position of a log, by its evaluations or its smoothed training losses, or of one loss."""
    if log is None:
        points, measure, on_mask, window, diverged = [(0, loss)], "loss", False, 1, None
    else:
        measured = uses_evaluations(log)
        points = log.evaluations if measured else log.losses
        measure, on_mask = (EVALUATION if measured else "training loss"), measured and log.evaluated_on_mask
        window, diverged = 1 if measured else window_for(len(points)), log.diverged
        points = smoothed(points, window)
    levels = Levels.of(ladder, on_mask)
    above = diverged_above(points, levels.uniform) if log is not None else None
    diverged = above if diverged is None else diverged
    escaped = escape_step(points, levels.plateau) if log is not None else None
    reached = next((step for step, nll in points if nll <= levels.plateau_top + ESCAPE_NATS), None)
    last = points[-1][1] if points else math.nan
    return Position(points, measure, on_mask, window, _state(last, diverged, escaped, levels, log is None), reached,
                    escaped, diverged, levels)


def _state(last: float, diverged: int | None, escaped: int | None, levels: Levels, single: bool) -> str:
    if diverged is not None:
        return "diverged"
    if last < min(LOWEST_BELIEVED, levels.best):
        return "too low"
    if last > levels.plateau_top + ESCAPE_NATS:
        return "above"
    if last > levels.plateau - ESCAPE_NATS:
        return "plateau"
    far = last <= levels.plateau - FAR_BELOW_PLATEAU
    return "learning" if single or far or escaped is not None else "leaving"


def uses_evaluations(log: TrainingLog) -> bool:
    """Whether a log is judged by its evaluations: if they are enough to show an escape, or if the last one is about as
    new as the last training loss."""
    if not log.evaluations or not log.losses:
        return len(log.evaluations) > 0
    return len(log.evaluations) >= ESCAPE_VALIDATIONS or log.evaluations[-1][0] >= RECENT * log.losses[-1][0]


def window_for(points: int) -> int:
    """How many points of a training curve are averaged: an odd number, 1 for short curves."""
    window = min(LARGEST_WINDOW, points // WINDOWS)
    return max(1, window - (window + 1) % 2)


def smoothed(points: Points, window: int) -> Points:
    """Means over `window` points around each point, fewer at the ends."""
    if window == 1 or not points:
        return points
    values, half = np.array([nll for _, nll in points]), window // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, len(values))
    means = (sums[high] - sums[low]) / (high - low)
    return [(step, float(mean)) for (step, _), mean in zip(points, means, strict=True)]


def diverged_above(points: Points, uniform: float) -> int | None:
    """The step from which on a curve that was once clearly below a uniform guess stays above it; None if none does."""
    above = [nll > uniform for _, nll in points]
    if not above or not above[-1] or min(nll for _, nll in points) > uniform - ESCAPE_NATS:
        return None
    return points[len(above) - above[::-1].index(False)][0]
