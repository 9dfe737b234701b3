"""When a run has left the unigram plateau."""
import pytest

from study.data.plateau import escape_step

PLATEAU = 4.0                               # nats


@pytest.mark.parametrize(("nlls", "expected"), [
    ([4.2, 3.5, 3.4, 3.3], 1),
    ([4.2, 3.9, 3.9, 3.9], 1),              # exactly 0.1 nats below the level
    ([4.2, 3.91, 3.9, 3.9, 3.9], 2),
    ([4.2, 3.5, 3.95, 3.5, 3.5, 3.5], 3),   # three in a row, broken by one
    ([4.2, 3.5, 3.4, 3.95, 3.5, 3.4], None),
    ([4.2, 4.1, 3.5, 3.4], None),           # too few validations are left
    ([3.0, 2.9], None), ([], None)])
def test_a_run_has_escaped_at_the_first_of_three_validations_in_a_row(nlls, expected):
    assert escape_step(list(enumerate(nlls)), PLATEAU) == expected
