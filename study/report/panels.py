"""Small multiples: effects along training, and shares by layer."""
from __future__ import annotations

import pandas as pd

from study.report.canvas import COLORS, GREY, draw

PANELS = 5                                  # panels in a row, of effects along training
SMALLEST_ROOM = 0.02                        # nats above and below the lines of such a row
LAYER_PANELS = 2                            # panels in a row, of probes by layer


def along_training(table: pd.DataFrame, colors: dict[str, str]) -> str:
    """Effects along training, one small panel per comparison: the effect (line) and its 95 % interval (band) against
    the percentage of the steps. The largest effects come first, and the panels of a row share their scale.

    table: treatment, baseline, fraction, effect, low, high.
    """
    parts = sorted((part for _, part in table.groupby(["treatment", "baseline"], sort=False)),
                   key=lambda part: -part.effect.abs().max())
    rows = [parts[start:start + PANELS] for start in range(0, len(parts), PANELS)]

    def paint(axes) -> None:
        figure = axes.figure
        axes.remove()
        grid = figure.subplots(len(rows), PANELS, sharex=True, sharey="row", squeeze=False)
        for number, part in enumerate(parts):
            row, place = divmod(number, PANELS)
            low, high = (pick([pick(part.effect) for part in rows[row]]) for pick in (min, max))
            room = max(0.2 * (high - low), SMALLEST_ROOM)
            _along_panel(grid[row, place], part, colors, (min(low, 0) - room, max(high, 0) + room),
                         first=place == 0, last=number + PANELS >= len(parts))
        for panel in grid.flat[len(parts):]:
            panel.set_axis_off()
        figure.supxlabel("% of the training steps", fontsize=9)
        figure.supylabel("difference (nats)", fontsize=9)

    return draw(7.2, 0.5 + 1.15 * len(rows), paint)


def _along_panel(axes, part: pd.DataFrame, colors: dict[str, str], limits: tuple[float, float], first: bool,
                 last: bool) -> None:
    """One comparison between these limits; only the first panel of a row and the last one of a column have ticks."""
    arm, baseline = part.treatment.iloc[0], part.baseline.iloc[0]
    percent, color = 100 * part.fraction, colors[arm]
    axes.patch.set_visible(False)
    axes.axhline(0, color=GREY, linewidth=0.8, clip_on=False)
    if part.low.notna().all():
        axes.fill_between(percent, part.low.clip(*limits), part.high.clip(*limits), color=color, alpha=0.2,
                          linewidth=0, clip_on=False)
    axes.plot(percent, part.effect, color=color, linewidth=1.5, clip_on=False)
    axes.set_title(f"{arm}\n− {baseline}", fontsize=7.5, pad=2)
    axes.set_xlim(0, 100)
    axes.set_ylim(*limits)
    axes.set_xticks([0, 50, 100])
    axes.tick_params(labelsize=7.5, length=2, left=first, bottom=last, labelbottom=last)
    axes.spines.left.set_visible(first)
    axes.spines.bottom.set_visible(last)


def layers(panels: dict[str, list[tuple[str, list[tuple[int, float]], str]]], levels: list[float],
           label: str = "probe accuracy, %") -> str:
    """A share by layer in percent, such as probe accuracy, one panel per question.

    panels: question -> lines, each with its name, points (layer, accuracy) and colour; grey lines are dotted. levels:
    accuracies that are drawn as dashed lines in every panel.
    """
    rows = -(-len(panels) // LAYER_PANELS)
    most = max(len(lines) for lines in panels.values())

    def paint(axes) -> None:
        figure = axes.figure
        axes.remove()
        grid = figure.subplots(rows, LAYER_PANELS, sharex=True, sharey=True, squeeze=False)
        for panel, (name, lines) in zip(grid.flat, panels.items(), strict=False):
            for line, points, color in lines:
                panel.plot([layer for layer, _ in points], [100 * accuracy for _, accuracy in points],
                           linewidth=1.3, color=color, label=line, linestyle=(0, (1.2, 1.2)) if color == GREY else "-")
            for level in levels:
                panel.axhline(100 * level, color=GREY, linewidth=0.7, linestyle=(0, (4, 3)))
            panel.set_title(name, fontsize=8.5)
            panel.set_xticks(sorted({layer for _, points, _ in lines for layer, _ in points}))
            panel.tick_params(labelsize=7.5, labelbottom=True)
            panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, handlelength=1.4)
        for panel in grid.flat[len(panels):]:
            panel.set_axis_off()
        figure.supxlabel("layer (0: embeddings)", fontsize=9)
        figure.supylabel(label, fontsize=9)

    return draw(7.2, 0.4 + rows * max(1.5, 0.35 + 0.16 * most), paint)


def strips(panels: dict[str, list[tuple[str, list[float], float]]]) -> str:
    """Runs around the mean of their arm, a panel per metric and a row per source of chance.

    panels: label of the metric -> rows, each with its name, the numbers of its runs and their standard deviation,
    which is drawn as a bar to both sides of the mean.
    """
    most = max(len(rows) for rows in panels.values())

    def paint(axes) -> None:
        figure = axes.figure
        axes.remove()
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)
        for panel, (label, rows) in zip(grid.flat, panels.items(), strict=True):
            panel.axvline(0, color=GREY, linewidth=0.9, zorder=0)
            for place, (_, numbers, deviation) in enumerate(rows):
                mean = sum(numbers) / len(numbers)
                panel.plot([-deviation, deviation], [place, place], color=COLORS[0], linewidth=6, alpha=0.35,
                           solid_capstyle="butt")
                panel.plot([number - mean for number in numbers], len(numbers) * [place], "o", color="black",
                           markersize=4, fillstyle="none", markeredgewidth=0.7)
            panel.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8)
            panel.set_ylim(len(rows) - 0.5, -0.5)
            panel.tick_params(axis="y", length=0)
            panel.set_xlabel(f"{label}, minus the mean", fontsize=8.5)

    return draw(7.2, 0.8 + 0.35 * most, paint)
