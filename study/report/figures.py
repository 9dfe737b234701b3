"""Figures of the report as SVG text: the same numbers give the same bytes."""
from __future__ import annotations

import io
import math
import re
from collections.abc import Callable

import numpy as np
import pandas as pd

# Okabe and Ito's colours first, told apart by readers with any colour vision; black is the baseline's.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c6d31", "#7a3e9d", "#7f8f00", "#b2182b",
          "#1b3a8c", "#e7298a")
STROKES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (8, 2.5)))
MARKERS = "os^Dv"
DRAWN = 200                                 # points a panel: more is ink, not news
GREY, LIGHT = "#767676", "#bdbdbd"


def draw(width: float, height: float, paint: Callable) -> str:
    """SVG of `paint(axes)` on a canvas of width x height inches; text as paths, no date."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = {"svg.hashsalt": "study", "svg.fonttype": "path", "font.size": 9, "axes.spines.top": False,
             "axes.spines.right": False, "axes.titlesize": 10, "axes.titlelocation": "left", "figure.dpi": 100,
             "axes.edgecolor": "#444444", "figure.facecolor": "white", "legend.frameon": False}
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
        paint(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    # fewer bytes: a hundredth of a pixel is enough, and nobody reads the indents and comments
    text = re.sub(r"scale\([^)]*\)|(\d+\.\d\d)\d+", lambda found: found[1] or found[0], out.getvalue())
    text = re.sub(r"<!--.*?-->", "", text)
    return "\n".join(line.strip() for line in text.splitlines() if line.strip()) + "\n"


def palette(factors: dict[str, str], baseline: str) -> dict[str, str]:
    """A colour an arm, of arm -> factor: black for the study's baseline, dark grey for what else is a point of
    reference, the same for all arms of one factor."""
    others = dict.fromkeys(factor for factor in factors.values() if factor != factors[baseline])
    turn = {factor: COLORS[index % len(COLORS)] for index, factor in enumerate(others)} | {factors[baseline]: GREY}
    return {arm: turn[factor] for arm, factor in factors.items()} | {baseline: "#000000"}


def strokes(colors: dict[str, str]) -> dict[str, str | tuple]:
    """A kind of line an arm, so that arms of one colour differ, in print without colours too."""
    seen: dict[str, int] = {}
    found = {}
    for arm, color in colors.items():
        found[arm] = STROKES[seen.setdefault(color, 0) % len(STROKES)]
        seen[color] += 1
    return found


TOP = 2.5                                   # times the unigram level: what lies above it, the first steps, says little


def curves(records: dict[str, list[list[dict]]], colors: dict[str, str], unigram: float, floor: float | None) -> str:
    """Validation perplexity against tokens, a line an arm: mean over the seeds that came so far, band from the lowest
    to the highest. An arm without a colour is drawn in grey, without its name; one that ends above the figure is named
    at its edge."""
    kinds = strokes(colors)

    def paint(axes) -> None:
        ends, lowest = [], [unigram, floor or unigram]
        for arm in sorted(records, key=lambda arm: arm in colors):
            runs = [validated(seed) for seed in records[arm] if len(validated(seed)) > 1]
            if not runs:
                continue
            at = pd.DataFrame([record for run in runs for record in run[1:]], columns=["step", "tokens", "nll"])
            found = np.exp(at.nll.clip(upper=30)).groupby(at.step).agg(["mean", "min", "max"])
            lowest.append(found["min"].min())
            tokens, tint = at.groupby("step").tokens.mean() / 1e6, colors.get(arm, LIGHT)
            axes.plot(tokens, found["mean"], color=tint, linewidth=1.6 if arm in colors else 0.8,
                      linestyle=kinds.get(arm, "-"))
            if arm in colors:
                axes.fill_between(tokens, found["min"], found["max"], color=tint, alpha=0.1, linewidth=0)
                ends.append((tokens.iloc[-1], found["mean"].iloc[-1], arm))
        axes.set_yscale("log")
        axes.set_ylim(0.75 * min(lowest), TOP * unigram)
        _levels(axes, unigram, floor)
        _end_labels(axes, ends, colors)
        axes.set_xlabel("training tokens, millions")
        axes.set_ylabel("validation perplexity on [MASK]")
        plain_ticks(axes.yaxis)

    return draw(7.2, max(4.2, _tall(colors)), paint)


def validated(records: list[dict]) -> list[tuple[int, int, float]]:
    """(step, tokens, NLL in nats) of a run's validations."""
    return [(r["step"], r["tokens"], r["validation_nll"]) for r in records if "validation_nll" in r]


def _levels(axes, unigram: float, floor: float | None) -> None:
    for level, name in ((unigram, "unigram"), (floor, "best possible")):
        if level is not None:
            axes.axhline(level, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.annotate(f"{name} {level:.1f}", (0.99, level), xycoords=("axes fraction", "data"), xytext=(0, 3),
                          textcoords="offset points", color=GREY, fontsize=8, ha="right")


LINE = 0.155                                # inches that a name takes beside the end of its line


def _tall(names) -> float:
    """Inches that a figure with these names at its right edge needs."""
    return LINE * len(names) + 0.9


def _end_labels(axes, ends: list[tuple[float, float, str]], colors: dict[str, str]) -> None:
    """Names beside the ends (x, y) of lines, the axis' limits being set; pushed apart where they would touch."""
    height = axes.figure.get_figheight() - 0.6
    to_share = axes.transData + axes.transAxes.inverted()
    wanted = sorted((float(to_share.transform((x, y))[1]), x, y, arm) for x, y, arm in ends)
    places: list[float] = []
    for share, *_ in wanted:                # upwards from the lowest
        places.append(max(min(share, 1.0), places[-1] + LINE / height if places else 0.0))
    top = 1.0
    for index in reversed(range(len(places))):
        places[index] = min(places[index], top)
        top = places[index] - LINE / height
    for (share, x, y, arm), place in zip(wanted, places, strict=True):
        limit = axes.get_ylim()[1]
        axes.annotate(arm if share <= 1 else f"{arm}, above", (x, min(y, limit)), xytext=(1.03, place),
                      textcoords="axes fraction", color=colors[arm], fontsize=8.5, va="center", annotation_clip=False,
                      arrowprops={"arrowstyle": "-", "color": colors[arm], "linewidth": 0.5, "alpha": 0.6,
                                  "relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 1})


def plain_ticks(axis, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Ticks of a logarithmic axis at these multiples of powers of ten, as people write them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def forest(table: pd.DataFrame, colors: dict[str, str], label: str, digits: int) -> str:
    """Effects against the baseline with their 95 % intervals, a row a comparison."""
    def paint(axes) -> None:
        for row, found in enumerate(table.to_dict("records")):
            tint = colors[found["treatment"]]
            if math.isfinite(found["low"]):
                axes.plot([found["low"], found["high"]], [row, row], color=tint, linewidth=2.2, solid_capstyle="butt")
            axes.plot(found["effect"], row, "o", color=tint, markersize=6)
            axes.annotate(f"{found['effect']:+z.{digits}f}", (found["effect"], row), xytext=(0, 8),
                          textcoords="offset points", ha="center", va="center", fontsize=8, color=tint,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})
        axes.axvline(0, color=GREY, linewidth=0.9, zorder=0)
        axes.set_yticks(range(len(table)), [f"{r['treatment']} − {r['baseline']}" for r in table.to_dict("records")])
        axes.set_ylim(len(table) - 0.4, -0.7)
        axes.set_xlabel(label)

    return draw(6.8, 0.9 + (0.55 if len(table) < 12 else 0.36) * max(1, len(table)), paint)


def claim(numbers: list[float], seeds: list[float], label: str) -> str:
    """One claim's effect with its interval (bold), the seeds' differences (rings) and the margin (band).

    numbers: effect, low, high, margin.
    """
    effect, low, high, margin = numbers

    def paint(axes) -> None:
        axes.axvspan(-margin, margin, color=LIGHT, alpha=0.35, linewidth=0)
        axes.axvline(0, color=GREY, linewidth=0.9)
        axes.plot([low, high], [0, 0], color=COLORS[0], linewidth=3, solid_capstyle="butt")
        axes.plot(effect, 0, "o", color=COLORS[0], markersize=7)
        axes.plot(seeds, _stacked(seeds, 0.5, 0.2), "o", color="black", markersize=4.5, fillstyle="none")
        axes.set_ylim(-0.7, 1.1)
        axes.set_yticks([0, 0.5], ["mean", "seeds"])
        axes.set_xlabel(label)

    return draw(5.6, 1.35, paint)


FULL = 1.0                                  # nats: at this difference a square has its full colour


def _stacked(values: list[float], level: float, above: float) -> list[float]:
    """Heights at which points of these values can be told apart: equal ones stand on each other."""
    return [level + above * values[:place].count(value) for place, value in enumerate(values)]


def deciles(table: pd.DataFrame, baseline: str) -> str:
    """NLL on [MASK] by frequency in training, the most frequent tenth of the masked tokens first: of the baseline, and
    of each other arm minus the baseline's.

    table: a row an arm, a column a tenth, nats; the baseline is one of the rows.
    """
    differences = table.drop(index=baseline) - table.loc[baseline]

    def paint(axes) -> None:
        axes.pcolormesh([[0] * table.shape[1], *differences.to_numpy().tolist()], cmap="PuOr_r", vmin=-FULL, vmax=FULL,
                        edgecolors="white", linewidth=0.6)
        for row, found in enumerate([table.loc[baseline], *differences.to_numpy()]):
            for column, value in enumerate(found):
                axes.text(column + 0.5, row + 0.52, f"{value:+z.2f}" if row else f"{value:.2f}", ha="center",
                          va="center", fontsize=7.5, color="white" if row and abs(value) > 0.7 * FULL else "black")
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_xticks([column + 0.5 for column in range(table.shape[1])], [part + 1 for part in table.columns])
        axes.set_yticks([row + 0.5 for row in range(len(table))],
                        [f"{baseline}, nats", *(f"{arm} − {baseline}" for arm in differences.index)])
        axes.invert_yaxis()
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.set_xlabel("tenth of the masked tokens, the most frequent first")

    return draw(7.2, 0.9 + 0.24 * len(table), paint)


def _lines(axes, lines: dict[str, list[tuple[float, float]]], colors: dict[str, str]) -> None:
    """A line an arm through its points, named at its end; grey and without a name where it has no colour."""
    kinds = strokes(colors)
    for arm in sorted(lines, key=lambda arm: arm in colors):
        axes.plot(*zip(*lines[arm], strict=True), marker="o", markersize=3, color=colors.get(arm, LIGHT),
                  linewidth=1.4 if arm in colors else 0.7, linestyle=kinds.get(arm, "-"))
    _end_labels(axes, [(*lines[arm][-1], arm) for arm in lines if arm in colors], colors)


def probe_bars(table: pd.DataFrame, colors: dict[str, str], levels: dict[str, float]) -> str:
    """Probe accuracy of each arm, its untrained encoder beside it, and what needs no encoder as lines."""
    arms = table.arm.tolist()

    def paint(axes) -> None:
        for row, found in enumerate(table.to_dict("records")):
            axes.barh(row, 100 * found["probe_accuracy_mean"], height=0.55, color=colors[found["arm"]], alpha=0.85)
            axes.plot(100 * found["untrained_accuracy_mean"], row, "|", color="black", markersize=18, markeredgewidth=2)
            if math.isfinite(found["probe_accuracy_low"]):
                axes.plot([100 * found["probe_accuracy_low"], 100 * found["probe_accuracy_high"]], [row, row],
                          color="black", linewidth=1)
            axes.annotate(f"{100 * found['probe_accuracy_mean']:.1f}", (0.6, row), va="center", color="white",
                          fontsize=8.5, fontweight="bold")
        for name, level in levels.items():
            axes.axvline(100 * level, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.annotate(f"{name} {100 * level:.1f}", (100 * level, -0.75), ha="center", fontsize=8, color=GREY,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
        axes.set_yticks(range(len(arms)), arms)
        axes.set_ylim(len(arms) - 0.4, -1.1)
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy on test rows, %  (black mark: the encoder untrained)")

    return draw(7.2, 1.1 + 0.42 * len(arms), paint)


def probe_lines(lines: dict[str, list[tuple[float, float]]], colors: dict[str, str], label: str, log: bool) -> str:
    """Probe accuracy against the layer or the number of training rows: a line an arm, points (x, accuracy)."""
    percent = {arm: [(x, 100 * y) for x, y in line] for arm, line in lines.items()}
    values = [y for line in percent.values() for _, y in line]

    def paint(axes) -> None:
        if log:
            axes.set_xscale("log")
        axes.set_xticks(sorted({x for line in lines.values() for x, _ in line}))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_ylim(min(values) - 2, max(values) + 2)
        _lines(axes, percent, colors)
        axes.set_xlabel(label)
        axes.set_ylabel("probe accuracy, %")

    return draw(7.2, max(3.4, _tall(colors)), paint)


def planes(points: dict[str, np.ndarray], labels: np.ndarray, names: list[str], axis: str) -> str:
    """[CLS] vectors of test rows in two dimensions, a panel an encoder; `axis` names a dimension."""
    def paint(axes) -> None:
        figure = axes.figure
        axes.remove()
        panels = figure.subplots(1, len(points))
        for panel, (name, xy) in zip(np.atleast_1d(panels), points.items(), strict=True):
            for index, label in enumerate(names):
                part = xy[:DRAWN][labels[:len(xy)][:DRAWN] == index]
                panel.plot(part[:, 0], part[:, 1], MARKERS[index % len(MARKERS)], markersize=3, alpha=0.6, label=label,
                           color=COLORS[index % len(COLORS)], markeredgewidth=0)
            panel.set_title(name)
            panel.set_xlabel(f"{axis} 1")
            panel.set_ylabel(f"{axis} 2")
        figure.legend(*np.atleast_1d(panels)[0].get_legend_handles_labels(), loc="outside lower center",
                      ncols=min(4, len(names)), markerscale=2.5)

    return draw(7.2, 3.8, paint)
