"""Which seed decides what in a run. All follow the cell's seed unless the settings fix one."""
from __future__ import annotations

from typing import NamedTuple

from study.config.schema import RunConfig


class Seeds(NamedTuple):
    """The seeds of the initial weights, of the order of the rows (and which text they have), and of masks and
    dropout."""
    initialization: int
    order: int
    masks: int


def seeds_of(config: RunConfig, seed: int) -> Seeds:
    """Returns the seeds of a run. seed: that of the cell plus `training.seed_offset`."""
    training = config.training
    fixed = (training.initialization_seed, training.order_seed, training.mask_seed)
    return Seeds(*(seed if value is None else value for value in fixed))
