"""Curves on and off the plateau, and where a single loss stands."""
import math
from pathlib import Path

import numpy as np
import pytest

from study.doctor.curve import diverged_above, position_of, smoothed, window_for
from study.doctor.ladder import Ladder, Level
from study.doctor.logs import TrainingLog

LADDER = Ladder([Level("uniform", 9.0, 9.0, 0.0), Level("unigram", 6.8, 6.2, 0.02),
                 Level("neighbours-mixture", 4.8, 4.3, 0.02), Level("neighbours-product", 4.3, 3.9, 0.02),
                 Level("two-neighbours-product", 4.0, 3.6, 0.02)], 10**6, 8000, 8103)
STEPS = range(0, 1001, 50)


def log_of(losses=(), evaluations=(), on_mask=False, diverged=None) -> TrainingLog:
    return TrainingLog(Path("log.csv"), list(losses), list(evaluations), on_mask, [], diverged, None, 1000, None)


def falling(to: float, since: int) -> list[tuple[int, float]]:
    """From 9 to this loss, which it has from a step on."""
    return [(step, max(to, 9 - (9 - to) * step / since)) for step in STEPS]


def test_a_stuck_curve_is_on_the_plateau_since_the_step_at_which_it_came_there():
    position = position_of(log_of(evaluations=falling(6.5, 300)), None, LADDER)
    assert (position.state, position.escaped) == ("plateau", None)
    assert position.reached == 300
    assert position.measure == "evaluation loss"


@pytest.mark.parametrize("shift", [-0.09, 0.0, 0.3, 0.6, 0.69])
def test_the_plateau_reaches_from_the_use_of_the_shown_token_to_its_neglect(shift):
    assert position_of(None, 6.2 + shift, LADDER).state == "plateau"


@pytest.mark.parametrize(("loss", "state"), [(9.5, "above"), (7.0, "above"), (6.0, "learning"), (2.0, "learning"),
                                             (0.4, "too low")])
def test_a_single_loss_stands_above_on_or_below_the_plateau(loss, state):
    position = position_of(None, loss, LADDER)
    assert (position.state, position.last, position.escaped) == (state, loss, None)


def test_a_curve_that_learns_has_left_the_plateau_at_the_first_of_three_points_below():
    points = [*falling(6.5, 300)[:12], (600, 6.05), (650, 6.3), (700, 6.0), (750, 5.8), (800, 5.5)]
    position = position_of(log_of(evaluations=points), None, LADDER)
    assert (position.state, position.escaped, position.reached) == ("learning", 700, 300)


def test_two_points_below_the_plateau_are_too_few_to_say_that_it_was_left():
    points = [*falling(6.5, 300), (1050, 6.0), (1100, 5.9)]
    position = position_of(log_of(evaluations=points), None, LADDER)
    assert (position.state, position.escaped) == ("leaving", None)


def test_a_curve_that_comes_back_is_on_the_plateau():
    points = [(0, 9.0), (50, 6.0), (100, 5.9), (150, 5.8), (200, 6.4), (250, 6.5)]
    position = position_of(log_of(evaluations=points), None, LADDER)
    assert (position.state, position.escaped) == ("plateau", 50)


def test_three_evaluations_count_and_on_mask_only_if_they_are():
    evaluations, losses = falling(6.75, 300), falling(5.0, 300)
    assert position_of(log_of(losses, evaluations), None, LADDER).last == 6.75
    assert position_of(log_of(losses), None, LADDER).measure == "training loss"
    on_mask = position_of(log_of(losses, evaluations, on_mask=True), None, LADDER)
    assert (on_mask.levels.plateau, on_mask.levels.plateau_top) == (6.8, 6.8)
    assert not position_of(log_of(losses, on_mask=True), None, LADDER).on_mask


@pytest.mark.parametrize("evaluations", [[(1000, 2.3)], [(500, 2.5), (1000, 2.3)], [(0, 9.1), (950, 2.3)]])
def test_one_or_two_evaluations_far_below_the_plateau_have_left_it(evaluations):
    position = position_of(log_of(falling(3.0, 300), evaluations), None, LADDER)
    assert (position.state, position.last, position.measure) == ("learning", 2.3, "evaluation loss")
    assert position_of(log_of(evaluations=evaluations), None, LADDER).state == "learning"


@pytest.mark.parametrize(("loss", "state"), [(6.5, "plateau"), (6.0, "leaving"), (5.3, "leaving"), (5.1, "learning")])
def test_a_log_of_one_loss_is_judged_with_more_care_near_the_plateau(loss, state):
    assert position_of(log_of([(1000, loss)]), None, LADDER).state == state


@pytest.mark.parametrize("evaluations", [[(0, 9.1)], [(0, 9.1), (800, 6.5)]])
def test_training_losses_count_if_the_few_evaluations_are_out_of_date(evaluations):
    position = position_of(log_of(falling(3.0, 300), evaluations, on_mask=True), None, LADDER)
    assert (position.state, position.last, position.measure) == ("learning", 3.0, "training loss")
    assert (position.on_mask, position.is_evaluation) == (False, False)
    assert position_of(log_of(falling(3.0, 300), [*evaluations, (850, 6.5), (860, 6.5)]), None, LADDER).is_evaluation


def test_an_evaluation_counts_if_the_log_has_no_training_loss():
    position = position_of(log_of(evaluations=[(0, 9.5)]), None, LADDER)
    assert (position.state, position.is_evaluation) == ("above", True)


def test_a_noisy_stuck_training_loss_is_not_taken_for_an_escape(rng):
    points = [(step, 6.35 + 0.25 * float(rng.standard_normal())) for step in range(2000)]
    raw = position_of(log_of(evaluations=points), None, LADDER)
    position = position_of(log_of(points), None, LADDER)
    assert raw.escaped is not None
    assert (position.state, position.escaped, position.window) == ("plateau", None, 25)


@pytest.mark.parametrize("points", [0, 1, 30, 60, 160, 10_000])
def test_windows_are_odd_and_grow_with_the_curve_up_to_a_limit(points):
    window = window_for(points)
    assert window % 2 == 1
    assert 1 <= window <= 25
    assert window <= max(1, points / 50)


def test_smoothing_is_the_mean_around_each_point_and_fewer_at_the_ends(rng):
    values = rng.random(20)
    points = smoothed([(step, float(value)) for step, value in enumerate(values)], 5)
    assert [step for step, _ in points] == list(range(20))
    for place, (_, mean) in enumerate(points):
        assert mean == pytest.approx(np.mean(values[max(0, place - 2):place + 3]))


def test_a_run_has_diverged_from_its_first_value_that_is_no_number():
    position = position_of(log_of(falling(6.5, 300), diverged=700), None, LADDER)
    assert (position.state, position.diverged) == ("diverged", 700)


def test_a_run_without_any_number_has_diverged():
    position = position_of(log_of(diverged=10), None, LADDER)
    assert (position.state, position.diverged) == ("diverged", 10)
    assert math.isnan(position.last)


def test_a_run_that_falls_and_then_stays_above_a_uniform_guess_has_diverged():
    points = [(0, 9.4), (50, 7.0), (100, 9.5), (150, 6.9), (200, 9.2), (250, 12.0)]
    assert diverged_above(points, 9.0) == 200
    assert diverged_above(points[:4], 9.0) is None
    assert diverged_above([(0, 9.4), (50, 9.3)], 9.0) is None
    assert position_of(log_of(evaluations=points), None, LADDER).state == "diverged"
