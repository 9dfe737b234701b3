"""The settings, the learning rate and the row length as functions of the step."""
from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from study.config.schema import RunConfig, Training


def learning_rate(step: int, training: Training) -> float:
    """Returns the learning rate of update `step`, counted from 0: linear warm-up, then decay to 0, constant, or
    decay with the inverse square root of the step.

    Update s of w warm-up steps has (s + 1) / w of the peak, so the first update is not lost; with `warmup_from_zero`
    it has s / w. The last update of a decay to 0 is one step before it. `inverse-sqrt` is the schedule of Vaswani et
    al. (2017), section 5.3; it counts steps as the warm-up does.
    """
    if step < training.warmup_steps:
        return training.learning_rate * (step + (not training.warmup_from_zero)) / training.warmup_steps
    if training.lr_scheduler_type == "constant":
        return training.learning_rate
    if training.lr_scheduler_type == "inverse-sqrt":
        return training.learning_rate * math.sqrt(training.warmup_steps / (step + (not training.warmup_from_zero)))
    done = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    if training.lr_scheduler_type == "linear":
        return training.learning_rate * (1 - done)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def settings_at(step: int, config: RunConfig) -> RunConfig:
    """Returns the settings of update `step`, counted from 0: those of the other arm before the branch of a branched
    arm, else the cell's own."""
    return config.branch.before if config.branch is not None and step < config.branch.step else config


@dataclass(frozen=True)
class Phase:
    """Steps [begin, end) with the same settings and rows of one length. first_batch: the number of the batch of step
    `begin` among those with rows of this length."""
    begin: int
    end: int
    length: int
    batch_size: int
    config: RunConfig
    first_batch: int = 0


def phases(config: RunConfig) -> list[Phase]:
    """Returns the phases of a cell: one, or two with a length curriculum; for a branched cell those of the other arm
    up to the branch, then its own. Rows of one length are read in one order, which every phase carries on."""
    parts = _phases(config)
    if config.branch is not None:
        step = config.branch.step
        parts = [*(replace(phase, end=min(phase.end, step)) for phase in _phases(config.branch.before)
                   if phase.begin < step),
                 *(replace(phase, begin=max(phase.begin, step)) for phase in parts if phase.end > step)]
    read: Counter[int] = Counter()
    for index, phase in enumerate(parts):
        parts[index] = replace(phase, first_batch=read[phase.length])
        read[phase.length] += phase.end - phase.begin
    return parts


def reads_short_rows(step: int, config: RunConfig) -> bool:
    """Returns whether update `step`, counted from 0, has the short rows of a length curriculum."""
    return any(phase.begin <= step < phase.end and phase.length < config.examples.max_seq_length
               for phase in phases(config))


def _phases(config: RunConfig) -> list[Phase]:
    """The phases of a cell without its branch: with a length curriculum short rows first, and correspondingly more of
    them if the curriculum keeps the tokens of a step."""
    steps, length, rows = config.training.steps, config.examples.max_seq_length, config.training.batch_size
    curriculum = config.training.curriculum
    if curriculum is None:
        return [Phase(0, steps, length, rows, config)]
    switch = round(curriculum.step_fraction * steps)
    factor = max(1, round(1 / curriculum.length_fraction))
    short_rows = rows * factor if curriculum.keep == "tokens" else rows
    return [Phase(0, switch, length // factor, short_rows, config), Phase(switch, steps, length, rows, config)]
