"""The search as the report shows it."""
import math

from study.config.schema import SearchRange
from study.report.search import MIN_TRIALS, chosen, importances, search_figure, trial_counts

SPACE = {"training.learning_rate": SearchRange(low=1e-4, high=1e-2, log=True),
         "training.warmup_steps": SearchRange(low=0, high=500, log=False)}


def trials(arm: str, count: int, pruned: int = 0) -> list[dict]:
    """Trials whose score depends on the learning rate alone."""
    made = []
    for number in range(count):
        rate = 1e-4 * 100 ** (((number * 7) % count) / (count - 1))
        made.append({"arm": arm, "number": number, "state": "pruned" if number < pruned else "complete",
                      "value": 5 + (math.log10(rate) + 3) ** 2, "curve": {},
                      "params": {"training.learning_rate": rate,
                                 "training.warmup_steps": 500 * ((number * 5) % 11) / 10}})
    return made


def test_trials_are_counted_by_arm_and_state():
    assert trial_counts([*trials("dynamic", 12, 2), *trials("pre-ln", 12)]) == [
        "dynamic: 12 trials (2 pruned)", "pre-ln: 12 trials"]
    assert trial_counts(trials("dynamic", 2)[:1]) == ["dynamic: 1 trial"]
    assert trial_counts([]) == []


def test_arms_trained_with_the_same_settings_are_grouped():
    assert chosen({"a": {"training.learning_rate": 0.1}, "b": {"training.learning_rate": 0.1}}) == [
        "every arm with training.learning_rate 0.1"]
    assert chosen({"a": {"training.learning_rate": 0.1}, "b": {"training.learning_rate": 0.2},
                   "c": {"training.learning_rate": 0.1}}) == [
        "a, c with training.learning_rate 0.1", "b with training.learning_rate 0.2"]
    assert chosen({"a": {}, "b": {}}) == ["every arm with the settings of params.yaml"]


def test_the_setting_that_decides_the_score_is_the_most_important():
    shares = importances(trials("dynamic", 24), SPACE)
    assert shares["dynamic"]["training.learning_rate"] > 0.8
    assert math.isclose(sum(shares["dynamic"].values()), 1)
    assert shares == importances(trials("dynamic", 24), SPACE)
    assert importances(trials("dynamic", MIN_TRIALS - 1), SPACE) == {}
    one = {"training.learning_rate": SPACE["training.learning_rate"]}
    assert importances(trials("dynamic", 24), one) == {}


COLORS = {"dynamic": "#000000", "pre-ln": "#0072B2"}


def test_the_figure_has_a_panel_for_the_history_and_one_for_each_setting():
    drawn = [search_figure(trials("dynamic", 12, 2) + trials("pre-ln", 12), dict(list(SPACE.items())[:count]), COLORS)
             for count in (1, 2)]
    assert [figure.count('id="axes_') for figure in drawn] == [2, 3]
    lost = [{**trial, "value": None} for trial in trials("dynamic", 3)]
    assert 'id="axes_2"' in search_figure(lost + trials("pre-ln", 3), SPACE, COLORS)
