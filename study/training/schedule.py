"""The learning rate as one closed-form function of the step."""
from __future__ import annotations

import math

from study.config.schema import Training


def learning_rate(step: int, training: Training) -> float:
    """Learning rate of update `step` (from 0): linear warm-up, then linear or cosine decay to 0, or constant.

    The first update of a warm-up is not zero: update s of w has (s + 1) / w of the peak. The last update of a decay is
    one step above zero.
    """
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    if training.lr_scheduler_type == "constant":
        return training.learning_rate
    done = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    if training.lr_scheduler_type == "linear":
        return training.learning_rate * (1 - done)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
