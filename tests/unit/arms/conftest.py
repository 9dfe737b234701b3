"""Fixtures for tests of the arms' inputs."""
import pytest

from study.config.arms import resolve
from study.data.batches import BatchSource
from study.objectives import objective_of
from study.training.pretrain import load_data


@pytest.fixture(scope="module")
def source_of(tiny):
    """Makes the batch source of an arm at a seed, on the tiny study's text."""
    data = load_data(tiny)

    def make(arm: str, seed: int = 0) -> BatchSource:
        config = resolve(tiny, arm)
        return BatchSource(data.train, data.tokenizer, objective_of(config), seed, config.examples.max_seq_length,
                           config.training.batch_size)

    return make
