"""When the difference in steps on the plateau is a bound of that in escape steps."""
import math

import numpy as np
import pytest

from study.analysis.escape import Escapes, bound_of_difference, restricted_steps

NEVER = math.nan


def restricted(first, second, last=900):
    """The limit and the paired differences within it, of escape steps that are NaN for runs which end at `last`."""
    arms = [Escapes(np.where(np.isnan(steps), last, steps), ~np.isnan(steps)) for steps in (first, second)]
    limit, ours, theirs = restricted_steps(*arms)
    return limit, ours - theirs


@pytest.mark.parametrize(("first", "second", "bound"), [
    ((NEVER, 700), (200, 180), "≥"), ((200, 180), (NEVER, NEVER), "≤"), ((NEVER, 700), (NEVER, 180), ""),
    ((200, 180), (700, 900), ""), ((NEVER, 100), (200, 1200), "")])
def test_a_run_that_never_escapes_bounds_the_difference_if_all_of_the_other_arm_escape_within_the_limit(
        first, second, bound):
    first, second = np.array(first, float), np.array(second, float)
    limit, differences = restricted(first, second)
    assert bound_of_difference(first, second, limit) == bound
    for escape in (1000, 50000):            # wherever such a run would have escaped
        true = np.where(np.isnan(first), escape, first) - np.where(np.isnan(second), escape, second)
        if bound:
            assert (true >= differences if bound == "≥" else true <= differences).all()


def test_within_a_limit_that_later_escapes_exceed_the_difference_can_be_on_either_side():
    first, second = np.array([NEVER]), np.array([1200.0])
    limit, (difference,) = restricted(first, second)
    assert (limit, difference) == (900, 0)
    assert 1000 - second[0] < difference < 2000 - second[0]
    assert bound_of_difference(first, second, limit) == ""
