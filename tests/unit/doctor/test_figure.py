"""The figure of the doctor: what is drawn is inside its axes."""
import pytest
from matplotlib.figure import Figure

from study.doctor.curve import position_of
from study.doctor.figure import painter
from tests.unit.doctor.test_curve import LADDER, log_of


def painted(position):
    """Axes with the ladder and a position."""
    axes = Figure().subplots()
    painter(LADDER, position)(axes)
    return axes


@pytest.mark.parametrize("points", [[(0, 6.5)], [(500, 6.5)], [(500, 6.5), (1000, 6.4)], [(0, 9.0), (10, 7.0)]])
def test_every_point_of_a_log_is_inside_the_axes(points):
    axes = painted(position_of(log_of(points), None, LADDER))
    left, right = axes.get_xlim()
    assert all(left <= step <= right for step, _ in points)


def test_the_axis_of_a_log_of_one_point_names_its_step():
    axes = painted(position_of(log_of([(1_000_000, 6.5)]), None, LADDER))
    assert ([tick.get_text() for tick in axes.get_xticklabels()], axes.get_xlabel()) == (["1,000,000"], "step")


def test_a_loss_without_a_log_has_no_step():
    axes = painted(position_of(None, 6.5, LADDER))
    assert (list(axes.get_xticks()), axes.get_xlabel()) == ([], "")
