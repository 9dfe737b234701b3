"""The arms of arms.yaml as tests go through them."""
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import stats

from study.config.arms import resolve
from study.config.load import load_study
from study.config.schema import RunConfig
from study.data.batches import BatchSource, gather
from tests.support.studies import ROOT


@cache
def _configs() -> dict[str, RunConfig]:
    study = load_study(ROOT / "experiments" / "tiny")
    return {arm: resolve(study, arm) for arm in study.settings.arms}


def distinct_arms(settings: Callable[[RunConfig], object],
                  condition: Callable[[RunConfig], bool] = lambda config: True) -> list[str]:
    """The first arm of each distinct value of `settings`, among the arms that meet the condition."""
    first = {}
    for arm, config in _configs().items():
        if condition(config):
            first.setdefault(repr(settings(config)), arm)
    return list(first.values())


def masks_and_inputs(config: RunConfig) -> tuple:
    """All settings that decide the content of a row."""
    objective = config.objective.model_copy(update={"sentence_weight": 1.0})
    return config.inputs, config.masking, objective, config.examples


def true_ids(source: BatchSource, epoch: np.ndarray, example: np.ndarray) -> np.ndarray:
    """The rows (N, T) before masking."""
    if source.config.masking.schedule == "static":
        epoch = epoch % source.config.masking.dupe_factor
    return gather(source.store.ids, source.layout.spans(epoch, source.text_of(example), source.seed), source.length,
                  source.tokenizer, source.layout.padded).ids


def within(count: int, total: int, probability: float) -> bool:
    """Whether a count is within the 1 - 1e-6 interval of its binomial distribution."""
    low, high = stats.binom.interval(1 - 1e-6, total, probability)
    return low <= count <= high
