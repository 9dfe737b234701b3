"""The learning rate and the row length as functions of the step."""
from __future__ import annotations

import math
from dataclasses import dataclass

from study.config.schema import RunConfig, Training


def learning_rate(step: int, training: Training) -> float:
    """Returns the learning rate of update `step`, counted from 0: linear warm-up, then decay to 0 or constant.

    Update s of w warm-up steps has (s + 1) / w of the peak, so the first update is not lost. The last update of a decay
    is one step before 0.
    """
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    if training.lr_scheduler_type == "constant":
        return training.learning_rate
    done = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    if training.lr_scheduler_type == "linear":
        return training.learning_rate * (1 - done)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Phase:
    """Steps [begin, end) with rows of one length. The number of tokens per step is the same in every phase."""
    begin: int
    end: int
    length: int
    batch_size: int


def phases(config: RunConfig) -> list[Phase]:
    """Returns one phase, or two with a length curriculum: short rows first, and correspondingly more of them."""
    steps, length, rows = config.training.steps, config.examples.max_seq_length, config.training.batch_size
    curriculum = config.training.curriculum
    if curriculum is None:
        return [Phase(0, steps, length, rows)]
    switch = round(curriculum.step_fraction * steps)
    factor = max(1, round(1 / curriculum.length_fraction))
    return [Phase(0, switch, length // factor, rows * factor), Phase(switch, steps, length, rows)]
