"""The hyperparameter search in the report: the trials, their scores and the importance of each tuned setting."""
from __future__ import annotations

from collections import Counter

import numpy as np

from study.config.schema import SearchRange
from study.report.canvas import GREY, draw, plain_ticks
from study.report.formatting import plural

MIN_TRIALS = 8                              # finished trials of an arm that importances need to be more than noise


def search_figure(trials: list[dict], space: dict[str, SearchRange], colors: dict[str, str]) -> str:
    """Validation NLL by trial number, with the best so far as a line, then by each tuned setting, one panel each.

    A hollow point is a pruned trial, at its last validation.
    """
    tuned = [key for key in space if any(key in trial["params"] for trial in trials)]

    def paint(axes) -> None:
        figure = axes.figure
        axes.remove()
        panels = figure.subplots(1, 1 + len(tuned), sharey=True, squeeze=False)[0]
        for arm in dict.fromkeys(trial["arm"] for trial in trials):
            scored = [trial for trial in trials if trial["arm"] == arm and trial["value"] is not None]
            if not scored:
                continue
            color, values = colors[arm], [trial["value"] for trial in scored]
            filled = [color if trial["state"] == "complete" else "none" for trial in scored]
            panels[0].step([trial["number"] for trial in scored], np.minimum.accumulate(values), where="post",
                           color=color, linewidth=1, alpha=0.6)
            for panel, key in zip(panels, [None, *tuned], strict=True):
                panel.scatter([trial["number"] if key is None else trial["params"][key] for trial in scored], values,
                              s=22, c=filled, edgecolors=color, label=arm)
        panels[0].set_xlabel("trial")
        panels[0].set_ylabel("validation NLL (nats)")
        panels[0].xaxis.get_major_locator().set_params(integer=True)
        panels[0].legend()
        for panel, key in zip(panels[1:], tuned, strict=True):
            _setting_axis(panel, key, space[key])

    return draw(3.6 * (1 + len(tuned)), 3.0, paint)


def _setting_axis(panel, key: str, searched: SearchRange) -> None:
    panel.set_xlabel(key)
    panel.set_xlim(searched.low, searched.high)
    panel.tick_params(axis="x", labelsize=7)
    if searched.log:
        panel.set_xscale("log")
        plain_ticks(panel.xaxis, tuple(range(1, 10)))
    panel.axvspan(searched.low, searched.high, color=GREY, alpha=0.04, linewidth=0)


def trial_counts(trials: list[dict]) -> list[str]:
    """`arm: 8 trials (2 pruned)` for each tuned arm."""
    lines = []
    for arm in dict.fromkeys(trial["arm"] for trial in trials):
        states = Counter(trial["state"] for trial in trials if trial["arm"] == arm)
        incomplete = [f"{count} {state}" for state, count in sorted(states.items()) if state != "complete"]
        count = plural(states.total(), "trial")
        lines.append(f"{arm}: {count}" + (f" ({', '.join(incomplete)})" if incomplete else ""))
    return lines


def chosen(best: dict[str, dict[str, float]]) -> list[str]:
    """The settings that the arms were trained with: `a and b with key value`, or `every arm with ...`.

    best: arm -> tuned settings.
    """
    groups: dict[str, list[str]] = {}
    for arm, values in best.items():
        settings = ", ".join(f"{key} {value}" for key, value in values.items()) or "the settings of params.yaml"
        groups.setdefault(settings, []).append(arm)
    if len(groups) == 1:
        return [f"every arm with {settings}" for settings in groups]
    return [f"{', '.join(arms)} with {settings}" for settings, arms in groups.items()]


def importances(trials: list[dict], space: dict[str, SearchRange]) -> dict[str, dict[str, float]]:
    """Arm -> setting -> share of the variance of the score that it explains, by functional ANOVA (Hutter et al. 2014,
    as implemented in Optuna). Arms with fewer than MIN_TRIALS finished trials or one tuned setting are left out."""
    shares = {}
    for arm in dict.fromkeys(trial["arm"] for trial in trials):
        complete = [trial for trial in trials if trial["arm"] == arm and trial["state"] == "complete"]
        if len(space) < 2 or len(complete) < MIN_TRIALS:
            continue
        import optuna

        distributions = {key: optuna.distributions.FloatDistribution(searched.low, searched.high, log=searched.log)
                         for key, searched in space.items()}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study()
        study.add_trials([optuna.trial.create_trial(params=trial["params"], distributions=distributions,
                                                    value=trial["value"]) for trial in complete])
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares[arm] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return shares
