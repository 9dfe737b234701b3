"""The search in the report: what was tried, in which order, what it gave, and which settings mattered."""
from __future__ import annotations

from collections import Counter

import numpy as np

from study.config.schema import Range
from study.report.figures import GREY, draw, plain_ticks

LEAST = 8                                   # finished trials of an arm before importances are more than noise


def search_figure(trials: list[dict], space: dict[str, Range], colors: dict[str, str]) -> str:
    """Two or more panels: validation NLL by number of the trial, with the best so far as a line, and by each tuned
    setting. A hollow point is a trial that was stopped early, at its last validation."""
    tuned = [key for key in space if any(key in trial["params"] for trial in trials)]

    def paint(axes) -> None:
        figure = axes.figure
        axes.remove()
        panels = figure.subplots(1, 1 + len(tuned), sharey=True, squeeze=False)[0]
        for arm in dict.fromkeys(trial["arm"] for trial in trials):
            part = [trial for trial in trials if trial["arm"] == arm and trial["value"] is not None]
            if not part:
                continue
            color, values = colors[arm], [trial["value"] for trial in part]
            filled = [color if trial["state"] == "complete" else "none" for trial in part]
            panels[0].step([trial["number"] for trial in part], np.minimum.accumulate(values), where="post",
                           color=color, linewidth=1, alpha=0.6)
            for panel, key in zip(panels, [None, *tuned], strict=True):
                panel.scatter([trial["number"] if key is None else trial["params"][key] for trial in part], values,
                              s=22, c=filled, edgecolors=color, label=arm)
        panels[0].set_xlabel("trial")
        panels[0].set_ylabel("validation NLL (nats)")
        panels[0].xaxis.get_major_locator().set_params(integer=True)
        panels[0].legend()
        for panel, key in zip(panels[1:], tuned, strict=True):
            panel.set_xlabel(key)
            panel.set_xlim(space[key].low, space[key].high)
            panel.tick_params(axis="x", labelsize=7)
            if space[key].log:
                panel.set_xscale("log")
                plain_ticks(panel.xaxis, tuple(range(1, 10)))
            panel.axvspan(space[key].low, space[key].high, color=GREY, alpha=0.04, linewidth=0)

    return draw(3.6 * (1 + len(tuned)), 3.0, paint)


def trial_counts(trials: list[dict]) -> list[str]:
    """`arm: 8 trials, 2 of them pruned`, for each tuned arm."""
    said = []
    for arm in dict.fromkeys(trial["arm"] for trial in trials):
        count = Counter(trial["state"] for trial in trials if trial["arm"] == arm)
        other = [f"{number} {state}" for state, number in sorted(count.items()) if state != "complete"]
        said.append(f"{arm}: {count.total()} trials" + (f", {' and '.join(other)} of them" if other else ""))
    return said


def chosen(best: dict[str, dict[str, float]]) -> list[str]:
    """What the arms were then trained with, those with the same values together: `every arm with ...` where all are."""
    groups: dict[str, list[str]] = {}
    for arm, values in best.items():
        said = ", ".join(f"{key} {value}" for key, value in values.items()) or "the settings of params.yaml"
        groups.setdefault(said, []).append(arm)
    if len(groups) == 1:
        return [f"every arm with {said}" for said in groups]
    return [f"{', '.join(arms)} with {said}" for said, arms in groups.items()]


def importances(trials: list[dict], space: dict[str, Range]) -> dict[str, dict[str, float]]:
    """Arm -> share of the variance of the score that each tuned setting explains, by functional ANOVA (Hutter et al.
    2014, as in Optuna); of arms with several settings and enough finished trials."""
    found = {}
    for arm in dict.fromkeys(trial["arm"] for trial in trials):
        done = [trial for trial in trials if trial["arm"] == arm and trial["state"] == "complete"]
        if len(space) < 2 or len(done) < LEAST:
            continue
        import optuna

        scale = {key: optuna.distributions.FloatDistribution(one.low, one.high, log=one.log)
                 for key, one in space.items()}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        known = optuna.create_study()
        known.add_trials([optuna.trial.create_trial(params=trial["params"], distributions=scale, value=trial["value"])
                          for trial in done])
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found[arm] = optuna.importance.get_param_importances(known, evaluator=evaluator)
    return found
