"""Counter-based random numbers: every random choice about data is a pure function of its coordinates.

A number depends on (seed, stream, epoch, example, position) and on nothing else. Batch size, order, worker count,
device and resuming therefore cannot change it, and two arms at one seed see the same draws. The mixing function is
splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"), applied once per coordinate.
"""
from __future__ import annotations

import numpy as np

# Streams: one number per purpose, so that no two choices share their draws.
(SELECT, CORRUPT, REPLACE, ORDER, PAIR, SPLIT, NEGATIVE, PREDICT, SUBSET, SPAN, DROPOUT, REPEAT, OVERLAP_RANDOM,
 OVERLAP_KEEP) = range(14)

_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31 = np.uint64(27), np.uint64(30), np.uint64(31)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> _30)) * _FIRST
    x = (x ^ (x >> _27)) * _SECOND
    return x ^ (x >> _31)


def integers(seed: int, stream: int, *coordinates) -> np.ndarray:
    """Returns 64 random bits (uint64) for each point of the broadcast `coordinates`.

    Any number of coordinates may be given; each is a non-negative integer or an array of them.
    """
    with np.errstate(over="ignore"):
        state = _mix(np.asarray(seed, np.uint64) + _GOLDEN)
        for coordinate in (stream, *coordinates):
            state = _mix((state ^ np.asarray(coordinate, np.uint64)) * np.uint64(3) + _GOLDEN)
    return state


def uniforms(seed: int, stream: int, *coordinates) -> np.ndarray:
    """Returns float64 uniforms in [0, 1), in the shape of `integers`."""
    return (integers(seed, stream, *coordinates) >> np.uint64(11)) * 2.0**-53


def permutation(seed: int, stream: int, size: int, *coordinates) -> np.ndarray:
    """Returns a permutation of range(size), int64."""
    return np.argsort(integers(seed, stream, *coordinates, np.arange(size)), kind="stable")
