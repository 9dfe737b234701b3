"""The figures about leaving the unigram plateau, as SVG text."""
from __future__ import annotations

import math

import numpy as np

from study.analysis.escape import Escapes
from study.report.canvas import COLORS, GREY, draw, height_for_names, name_line_ends

PANELS = 3                                  # side by side


def survival(arms: dict[str, Escapes], colors: dict[str, str]) -> str:
    """Share of each arm's runs that are still on the plateau, by step (Kaplan-Meier). A cross is a run that ended on
    it."""
    from scipy import stats

    names = {arm: colors[arm] for arm in arms}

    def paint(axes) -> None:
        ends, last = [], max(max(runs.step) for runs in arms.values())
        axes.set_ylim(-3, 104)
        axes.set_xlim(0, 1.03 * last)       # the last drop is not on the frame
        for place, (arm, runs) in enumerate(arms.items()):
            curve = stats.ecdf(stats.CensoredData(uncensored=runs.step[runs.escaped],
                                                  right=runs.step[~runs.escaped])).sf
            lift = 0.6 * (place - len(arms) / 2)            # percent, so that equal curves do not hide each other
            x = [0, *np.repeat(curve.quantiles, 2), last if runs.escaped.all() else max(runs.step)]
            share = np.concatenate([[1.0], curve.probabilities])
            y = 100 * np.repeat(share, 2) + lift
            axes.plot(x, y[:len(x)], color=colors[arm], linewidth=1.5)
            ended = runs.step[~runs.escaped]
            axes.plot(ended, 100 * curve.evaluate(ended) + lift, "x", color=colors[arm], markersize=5)
            ends.append((x[-1], y[-1], arm))
        name_line_ends(axes, ends, names)
        axes.set_xlabel("training step")
        axes.set_ylabel("runs on the plateau, %")

    return draw(7.2, max(3.4, height_for_names(names)), paint)


def by_offset(arms: dict[str, tuple[list[int], dict[str, list[float]]]]) -> str:
    """A panel per arm with the attention to each near position, by step. arms: steps, and shares by offset."""
    columns = min(PANELS, len(arms))
    lines = math.ceil(len(arms) / columns)

    def paint(axes) -> None:
        figure = axes.figure
        axes.remove()
        panels = list(figure.subplots(lines, columns, sharey=True, squeeze=False).flat)
        for panel, (arm, (steps, shares)) in zip(panels, arms.items(), strict=False):
            for place, (offset, values) in enumerate(shares.items()):
                panel.plot(steps, [100 * value for value in values], color=COLORS[place], linewidth=1.3,
                           label=offset if arm == next(iter(arms)) else None)
            panel.set_title(arm, fontsize=8)
            panel.tick_params(labelsize=7)
        for panel in panels[len(arms):]:
            panel.remove()
        figure.supxlabel("training step", fontsize=9)
        figure.supylabel("largest share of attention, %", fontsize=9)
        figure.legend(loc="outside right upper", title="offset")

    return draw(7.2, 0.9 + 1.35 * lines, paint)


def around_escape(arms: dict[str, list[tuple[int, float, float]]], colors: dict[str, str]) -> str:
    """Two panels against the steps since the escape: NLL minus the unigram level, in nats, and the attention to a
    neighbour. arms: points (steps since the escape, NLL difference, share of attention)."""
    def paint(axes) -> None:
        figure = axes.figure
        axes.remove()
        panels = figure.subplots(2, 1, sharex=True)
        for arm, points in arms.items():
            since, nll, attention = zip(*points, strict=True)
            panels[0].plot(since, nll, color=colors[arm], linewidth=1.4, label=arm)
            panels[1].plot(since, [100 * share for share in attention], color=colors[arm], linewidth=1.4)
        for panel, label in zip(panels, ("NLL minus unigram (nats)", "attention to a neighbour, %"), strict=True):
            panel.axvline(0, color=GREY, linewidth=0.8)
            panel.set_ylabel(label)
        panels[0].set_ylim(top=0.5)
        last = max(since for points in arms.values() for since, *_ in points)
        panels[0].set_xlim(-2 * last, last)
        panels[1].set_xlabel("steps since the escape")
        figure.legend(loc="outside right upper")

    return draw(7.2, 4.6, paint)
