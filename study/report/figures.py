"""The figures of the report as SVG text, drawn from tables and records."""
from __future__ import annotations

import math

import numpy as np
import pandas as pd

from study.report.canvas import (
    COLORS,
    GREY,
    LIGHT,
    MARKERS,
    dashes,
    draw,
    height_for_names,
    name_line_ends,
    plain_ticks,
    reference_level,
)

MAX_POINTS = 200                            # points per panel: more points only overlap
CURVES_TOP = 2.5                            # times the unigram level: values above it belong to the first steps
PANELS = 5                                  # panels in a row of small ones
SMALLEST_ROOM = 0.02                        # nats above and below the lines of such a row
FULL_COLOR = 1.0                            # nats: a difference of this size has the full colour


def validations(records: list[dict]) -> list[tuple[int, int, float]]:
    """(step, tokens, NLL in nats) of each validation of a run. records: those of metrics.jsonl."""
    return [(r["step"], r["tokens"], r["validation_nll"]) for r in records if "validation_nll" in r]


def curves(records: dict[str, list[list[dict]]], colors: dict[str, str], levels: dict[str, float]) -> str:
    """Validation perplexity against training tokens: one line per arm, the mean over seeds, with a band from the lowest
    to the highest seed. records: arm -> one list of records per seed. levels: name -> perplexity, drawn as dashed
    lines; among them `unigram`.

    Arms without a colour are drawn in grey and not named. An arm that ends above the figure is named at its top edge.
    """
    patterns = dashes(colors)

    def paint(axes) -> None:
        ends, lowest = [], [*levels.values()]
        for arm in sorted(records, key=lambda arm: arm in colors):
            runs = [validations(seed) for seed in records[arm] if len(validations(seed)) > 1]
            if not runs:
                continue
            points = pd.DataFrame([record for run in runs for record in run[1:]], columns=["step", "tokens", "nll"])
            perplexity = np.exp(points.nll.clip(upper=30)).groupby(points.step).agg(["mean", "min", "max"])
            lowest.append(perplexity["min"].min())
            tokens, color = points.groupby("step").tokens.mean() / 1e6, colors.get(arm, LIGHT)
            axes.plot(tokens, perplexity["mean"], color=color, linewidth=1.6 if arm in colors else 0.8,
                      linestyle=patterns.get(arm, "-"))
            if arm in colors:
                axes.fill_between(tokens, perplexity["min"], perplexity["max"], color=color, alpha=0.1, linewidth=0)
                ends.append((tokens.iloc[-1], perplexity["mean"].iloc[-1], arm))
        axes.set_yscale("log")
        axes.set_ylim(0.75 * min(lowest), CURVES_TOP * levels["unigram"])
        for name, level in levels.items():
            reference_level(axes, level, name)
        name_line_ends(axes, ends, colors)
        axes.set_xlabel("training tokens (millions)")
        axes.set_ylabel("validation perplexity on [MASK]")
        plain_ticks(axes.yaxis)

    return draw(7.2, max(4.2, height_for_names(colors)), paint)


def forest(table: pd.DataFrame, colors: dict[str, str], label: str, digits: int,
           noise: tuple[float, float] | None = None) -> str:
    """Effects with their 95 % intervals, one row per comparison. table: treatment, baseline, effect, low, high and
    gated, whether an arm fails the learning gate (drawn hollow). noise: the interval of the A/A control, as a band."""
    rows = table.to_dict("records")

    def paint(axes) -> None:
        for place, row in enumerate(rows):
            color = colors[row["treatment"]]
            if math.isfinite(row["low"]):
                axes.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2.2,
                          solid_capstyle="butt")
            axes.plot(row["effect"], place, "o", color=color, markersize=6,
                      markerfacecolor="white" if row["gated"] else color)
            axes.annotate(f"{row['effect']:+z.{digits}f}", (row["effect"], place), xytext=(0, 8),
                          textcoords="offset points", ha="center", va="center", fontsize=8, color=color,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})
        axes.axvline(0, color=GREY, linewidth=0.9, zorder=0)
        if noise is not None:
            axes.axvspan(*noise, color=GREY, alpha=0.18, linewidth=0, zorder=0)
        axes.set_yticks(range(len(rows)), [f"{row['treatment']} − {row['baseline']}" for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.7)
        axes.set_xlabel(label)

    return draw(6.8, 0.9 + (0.55 if len(rows) < 12 else 0.36) * max(1, len(rows)), paint)


def claim(numbers: list[float], seeds: list[float], label: str) -> str:
    """One claim: the mean effect with its interval (dot and bar), the seeds' differences (rings) and the margin (band).

    numbers: effect, low, high, margin.
    """
    effect, low, high, margin = numbers

    def paint(axes) -> None:
        axes.axvspan(-margin, margin, color=LIGHT, alpha=0.35, linewidth=0)
        axes.axvline(0, color=GREY, linewidth=0.9)
        axes.plot([low, high], [0, 0], color=COLORS[0], linewidth=3, solid_capstyle="butt")
        axes.plot(effect, 0, "o", color=COLORS[0], markersize=7)
        axes.plot(seeds, stacked(seeds, 0.5, 0.2), "o", color="black", markersize=4.5, fillstyle="none")
        axes.set_ylim(-0.7, 1.1)
        axes.set_yticks([0, 0.5], ["mean", "seeds"])
        axes.set_xlabel(label)

    return draw(5.6, 1.35, paint)


def stacked(values: list[float], level: float, step: float) -> list[float]:
    """A height for each value, starting at `level`; equal values are drawn one above the other, `step` apart."""
    return [level + step * values[:place].count(value) for place, value in enumerate(values)]


def deciles(table: pd.DataFrame, baseline: str) -> str:
    """NLL on [MASK] by frequency in training: the baseline's own values, then each arm's difference from them.

    table: NLL in nats, one row per arm (the baseline included) and one column per tenth of the masked tokens, the most
    frequent first.
    """
    differences = table.drop(index=baseline) - table.loc[baseline]

    def paint(axes) -> None:
        axes.pcolormesh([[0] * table.shape[1], *differences.to_numpy().tolist()], cmap="PuOr_r", vmin=-FULL_COLOR,
                        vmax=FULL_COLOR, edgecolors="white", linewidth=0.6)
        for row, values in enumerate([table.loc[baseline], *differences.to_numpy()]):
            for column, value in enumerate(values):
                axes.text(column + 0.5, row + 0.52, f"{value:+z.2f}" if row else f"{value:.2f}", ha="center",
                          va="center", fontsize=7.5,
                          color="white" if row and abs(value) > 0.7 * FULL_COLOR else "black")
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_xticks([column + 0.5 for column in range(table.shape[1])], [part + 1 for part in table.columns])
        axes.set_yticks([row + 0.5 for row in range(len(table))],
                        [f"{baseline} (nats)", *(f"{arm} − {baseline}" for arm in differences.index)])
        axes.invert_yaxis()
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.set_xlabel("tenth of the masked tokens, by frequency in training (1: most frequent)")

    return draw(7.2, 0.9 + 0.24 * len(table), paint)


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


def probe_bars(table: pd.DataFrame, colors: dict[str, str], levels: dict[str, float]) -> str:
    """Probe accuracy of each arm (bars) and of its untrained encoder (black marks); `levels` (name -> accuracy) that
    need no encoder are dashed lines. table: that of arms.csv."""
    arms = table.arm.tolist()

    def paint(axes) -> None:
        for place, row in enumerate(table.to_dict("records")):
            axes.barh(place, 100 * row["probe_accuracy_mean"], height=0.55, color=colors[row["arm"]], alpha=0.85)
            axes.plot(100 * row["untrained_accuracy_mean"], place, "|", color="black", markersize=18,
                      markeredgewidth=2)
            if math.isfinite(row["probe_accuracy_low"]):
                axes.plot([100 * row["probe_accuracy_low"], 100 * row["probe_accuracy_high"]], [place, place],
                          color="black", linewidth=1)
            axes.annotate(f"{100 * row['probe_accuracy_mean']:.1f}", (0.6, place), va="center", color="white",
                          fontsize=8.5, fontweight="bold")
        for name, level in levels.items():
            axes.axvline(100 * level, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.annotate(f"{name} {100 * level:.1f}", (100 * level, -0.75), ha="center", fontsize=8, color=GREY,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
        axes.set_yticks(range(len(arms)), arms)
        axes.set_ylim(len(arms) - 0.4, -1.1)
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy on the test set, % (black mark: untrained encoder)")

    return draw(7.2, 1.1 + 0.42 * len(arms), paint)


def probe_lines(lines: dict[str, list[tuple[float, float]]], colors: dict[str, str], label: str, log: bool) -> str:
    """Probe accuracy against the layer or the number of training rows: one line per arm through (x, accuracy).

    Arms without a colour are drawn in grey and not named.
    """
    percent = {arm: [(x, 100 * y) for x, y in line] for arm, line in lines.items()}
    values = [y for line in percent.values() for _, y in line]
    patterns = dashes(colors)

    def paint(axes) -> None:
        if log:
            axes.set_xscale("log")
        axes.set_xticks(sorted({x for line in lines.values() for x, _ in line}))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_ylim(min(values) - 2, max(values) + 2)
        for arm in sorted(percent, key=lambda arm: arm in colors):
            axes.plot(*zip(*percent[arm], strict=True), marker="o", markersize=3, color=colors.get(arm, LIGHT),
                      linewidth=1.4 if arm in colors else 0.7, linestyle=patterns.get(arm, "-"))
        name_line_ends(axes, [(*percent[arm][-1], arm) for arm in percent if arm in colors], colors)
        axes.set_xlabel(label)
        axes.set_ylabel("probe accuracy, %")

    return draw(7.2, max(3.4, height_for_names(colors)), paint)


def planes(points: dict[str, np.ndarray], labels: np.ndarray, names: list[str], axis: str) -> str:
    """[CLS] vectors of test rows in two dimensions, one panel per encoder.

    points: encoder -> (rows, 2); labels: (rows or more,) class indices into `names`; axis: name of a dimension.
    """
    def paint(axes) -> None:
        figure = axes.figure
        axes.remove()
        panels = figure.subplots(1, len(points))
        for panel, (name, xy) in zip(np.atleast_1d(panels), points.items(), strict=True):
            for index, label in enumerate(names):
                part = xy[:MAX_POINTS][labels[:len(xy)][:MAX_POINTS] == index]
                panel.plot(part[:, 0], part[:, 1], MARKERS[index % len(MARKERS)], markersize=3, alpha=0.6, label=label,
                           color=COLORS[index % len(COLORS)], markeredgewidth=0)
            panel.set_title(name)
            panel.set_xlabel(f"{axis} 1")
            panel.set_ylabel(f"{axis} 2")
        figure.legend(*np.atleast_1d(panels)[0].get_legend_handles_labels(), loc="outside lower center",
                      ncols=min(4, len(names)), markerscale=2.5)

    return draw(7.2, 3.8, paint)
