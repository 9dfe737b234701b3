"""Random numbers: a pure function of their coordinates, uniform, and independent in every coordinate."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from study import randomness

STREAMS = range(11)
COUNT = 20_000


@given(st.integers(0, 2**40), st.sampled_from(STREAMS), st.integers(0, 2**20), st.integers(0, 2**40))
def test_a_draw_depends_only_on_its_coordinates(seed, stream, epoch, example):
    position = np.arange(16)
    rows = randomness.uniforms(seed, stream, epoch, np.array([[example + 1], [example]]), position[None])
    assert (rows[1] == randomness.uniforms(seed, stream, epoch, example, position)).all()
    assert rows[1, 7] == randomness.uniforms(seed, stream, epoch, example, 7)
    assert ((rows >= 0) & (rows < 1)).all()
    assert (rows[0] != rows[1]).all()


@pytest.mark.parametrize("stream", STREAMS)
def test_draws_are_uniform(stream):
    u = randomness.uniforms(3, stream, 5, np.arange(COUNT // 32)[:, None], np.arange(32)[None])
    assert stats.kstest(u.reshape(-1), "uniform").pvalue > 1e-4
    assert stats.kstest(u[:, 0], "uniform").pvalue > 1e-4


def test_neighbours_in_any_coordinate_are_independent():
    index = np.arange(COUNT)
    draws = [randomness.uniforms(seed, stream, epoch, index) for seed in (0, 1) for stream in STREAMS
             for epoch in (0, 1)]
    draws += [np.roll(draws[0], 1), randomness.uniforms(0, 0, index, 0)]
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    correlation[0, -1] = correlation[-1, 0] = 0             # both contain the draw of (0, 0, 0, 0)
    assert np.abs(correlation).max() < 6 / np.sqrt(COUNT)
    counts = np.histogram2d(draws[0], draws[2], bins=10)[0]
    assert stats.chisquare(counts.reshape(-1)).pvalue > 1e-4


def test_coordinates_are_not_interchangeable():
    assert randomness.uniforms(0, 1, 2, 3) != randomness.uniforms(0, 1, 3, 2)
    assert randomness.uniforms(0, 1, 2) != randomness.uniforms(1, 0, 2)
    assert randomness.uniforms(0, 1, 2) != randomness.uniforms(0, 1, 2, 0)


@given(st.integers(0, 2**31), st.integers(1, 300), st.integers(0, 100))
def test_a_permutation_contains_every_index_once(seed, size, epoch):
    order = randomness.permutation(seed, randomness.ORDER, size, epoch)
    assert sorted(order.tolist()) == list(range(size))
    assert (order == randomness.permutation(seed, randomness.ORDER, size, epoch)).all()


def test_every_order_is_equally_likely():
    orders = [tuple(randomness.permutation(seed, randomness.ORDER, 3, 0).tolist()) for seed in range(3000)]
    counts = [orders.count(order) for order in sorted(set(orders))]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-4
