"""The figures of the report as SVG text, drawn from tables and records. Small multiples are in panels.py."""
from __future__ import annotations

import math
import textwrap

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

CURVES_TOP = 2.5                            # times the unigram level, or the end of the best arm if that is higher
FULL_COLOR = 1.0                            # nats: a difference of this size has the full colour
STEP = 0.1                                  # nats between two colours
ROW = 0.2                                   # inches that a row of a forest plot or of the ladder takes
FAR = 4.0                                   # an effect so many times the median one may be off the scale
LABEL_WIDTH = 54                            # characters in a line of the label of a claim's axis


def validations(records: list[dict]) -> list[tuple[int, int, float]]:
    """(step, tokens, NLL in nats) of each validation of a run. records: those of metrics.jsonl."""
    return [(r["step"], r["tokens"], r["validation_nll"]) for r in records if "validation_nll" in r]


def curves(records: dict[str, list[list[dict]]], colors: dict[str, str], levels: dict[str, float]) -> str:
    """Validation perplexity against training tokens: one line per arm, the mean over seeds, with a band from the lowest
    to the highest seed. records: arm -> one list of records per seed. levels: name -> perplexity, drawn as dashed
    lines; among them `unigram`.

    A line is thin where some of its runs have ended. An arm that ends above the figure is named at its top edge.
    """
    patterns = dashes(colors)

    def paint(axes) -> None:
        ends, lowest = [], [*levels.values()]
        for arm in records:
            runs = [validations(seed) for seed in records[arm] if len(validations(seed)) > 1]
            if not runs:
                continue
            points = pd.DataFrame([record for run in runs for record in run[1:]], columns=["step", "tokens", "nll"])
            perplexity = np.exp(points.nll.clip(upper=30)).groupby(points.step).agg(["mean", "min", "max", "size"])
            lowest.append(perplexity["min"].min())
            tokens, together = points.groupby("step").tokens.mean() / 1e6, int((perplexity["size"] == len(runs)).sum())
            for part, width in ((slice(together), 1.6), (slice(max(0, together - 1), None), 0.7)):
                axes.plot(tokens[part], perplexity["mean"][part], color=colors[arm], linewidth=width,
                          linestyle=patterns[arm])
            axes.fill_between(tokens, perplexity["min"], perplexity["max"], color=colors[arm], alpha=0.1, linewidth=0)
            ends.append((tokens.iloc[-1], perplexity["mean"].iloc[-1], arm))
        axes.set_yscale("log")
        axes.set_ylim(0.75 * min(lowest), CURVES_TOP * max(levels["unigram"], min(end for _, end, _ in ends)))
        for name, level in levels.items():
            reference_level(axes, level, name)
        name_line_ends(axes, ends, colors)
        axes.set_xlabel("training tokens (millions)")
        axes.set_ylabel("validation perplexity on [MASK]")
        plain_ticks(axes.yaxis)

    return draw(7.2, max(3.4, height_for_names(colors)), paint)


def ladder(rows: list[dict], seeds: list[float]) -> str:
    """The references and the baseline, one row each, by NLL in nats, with their perplexities. rows: of ladder.py, from
    the highest to the lowest NLL. seeds: NLL of each run of the baseline, drawn as rings."""
    def paint(axes) -> None:
        own = next(row["nll"] for row in rows if row["is_baseline"])
        axes.axvline(own, color=GREY, linewidth=0.8, zorder=0)
        for place, row in enumerate(rows):
            color = "black" if row["is_baseline"] else COLORS[0]
            if row["is_baseline"]:
                axes.plot(seeds, [place] * len(seeds), "o", color=color, markersize=6, fillstyle="none", alpha=0.7)
            axes.plot(row["nll"], place, "o", color=color, markersize=4 if row["is_baseline"] else 5)
            _beside(axes, place, f"{row['perplexity']:,.1f}", color)
        _rows(axes, [row["label"].replace(": ", ":\n") for row in rows])
        for label, row in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if row["is_baseline"] else "normal")
        _beside(axes, -1, "perplexity", GREY)
        axes.set_xlabel("NLL on [MASK], test tokens (nats; lower is better)")

    return draw(5.8, 0.75 + 1.35 * ROW * (len(rows) + 1), paint)


def forest(groups: dict[str, list[dict]], colors: dict[str, str], label: str, digits: int,
           noise: tuple[float, float] | None = None) -> str:
    """Effects with their 95 % intervals, one row per comparison, under the name of its group.

    groups: name -> rows with treatment, baseline, effect, low, high and gated, whether an arm fails the learning gate
    (drawn hollow). noise: the interval of the A/A control, as a band. An effect off the scale is drawn as a triangle
    at its edge, an interval that continues beyond it as a small one; the numbers are on the right.
    """
    rows = [row for name, part in groups.items() for row in ({"heading": name}, *part)]
    limits = forest_limits([row for part in groups.values() for row in part], noise)

    def paint(axes) -> None:
        axes.axvline(0, color=GREY, linewidth=0.9, zorder=0)
        if noise is not None:
            axes.axvspan(*noise, color=GREY, alpha=0.18, linewidth=0, zorder=0)
        axes.set_xlim(*limits)
        for place, row in enumerate(rows):
            if "heading" not in row:
                _effect(axes, place, row, colors[row["treatment"]], limits, digits)
        _rows(axes, [row.get("heading") or f"{row['treatment']} − {row['baseline']}" for row in rows])
        for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_fontweight("bold" if "heading" in row else "normal")
        axes.set_xlabel(label)

    return draw(5.8, 0.7 + ROW * len(rows), paint)


def forest_limits(rows: list[dict], noise: tuple[float, float] | None) -> tuple[float, float]:
    """The ends of the axis of a forest plot: zero, the noise and all intervals, each at most 1.5 times as far out as
    the furthest effect that is shown. That one is at most FAR times the median effect."""
    sizes = [abs(row["effect"]) for row in rows]
    reach = max(FAR * float(np.median(sizes)), max(map(abs, noise or (0.0,))))
    near = [row for row in rows if abs(row["effect"]) <= reach] or rows
    ends = [end for row in near for end in (row["effect"], row["low"], row["high"]) if math.isfinite(end)]
    ends = [*np.clip(ends, -1.5 * reach, 1.5 * reach), *(noise or ()), 0.0]
    room = 0.05 * (max(ends) - min(ends)) or 1.0
    return float(min(ends) - room), float(max(ends) + room)


def _effect(axes, place: int, row: dict, color: str, limits: tuple[float, float], digits: int) -> None:
    """A row of a forest plot: dot and bar, and the numbers on the right."""
    inside = limits[0] <= row["effect"] <= limits[1]
    bounds = ""
    if not math.isnan(row["low"]):
        ends = np.clip([row["low"], row["high"]], *limits)      # an end can be infinite
        axes.plot(ends, [place, place], color=color, linewidth=1.8, solid_capstyle="butt")
        for cut, end, marker in ((row["low"] < limits[0], limits[0], "<"), (row["high"] > limits[1], limits[1], ">")):
            if cut and inside:
                axes.plot(end, place, marker, color=color, markersize=3.5, clip_on=False)
        bounds = f" [{row['low']:+z.{digits}f}, {row['high']:+z.{digits}f}]".replace("+inf", "∞").replace("-inf", "-∞")
    marker = "o" if inside else "<" if row["effect"] < 0 else ">"
    axes.plot(min(max(row["effect"], limits[0]), limits[1]), place, marker, color=color, markersize=5.5,
              markerfacecolor="white" if row["gated"] else color, clip_on=False)
    _beside(axes, place, f"{row['effect']:+z.{digits}f}{bounds}", color)


def _rows(axes, names: list[str]) -> None:
    """Names the rows of a figure from the top down."""
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.8)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _beside(axes, place: float, text: str, color: str) -> None:
    """A text to the right of a row."""
    axes.annotate(text, (1.025, place), xycoords=("axes fraction", "data"), fontsize=7.5, color=color, va="center",
                  annotation_clip=False)


def claim(numbers: list[float], seeds: list[float], label: str) -> str:
    """One claim: the mean effect with its interval (dot and bar), the seeds' differences (rings) and the margin (band).

    numbers: effect, low, high, margin. label: of the axis; a long one takes several lines.
    """
    effect, low, high, margin = numbers
    lines = textwrap.wrap(label, LABEL_WIDTH)

    def paint(axes) -> None:
        axes.axvspan(-margin, margin, color=LIGHT, alpha=0.35, linewidth=0)
        axes.axvline(0, color=GREY, linewidth=0.9)
        axes.plot([low, high], [0, 0], color=COLORS[0], linewidth=3, solid_capstyle="butt")
        axes.plot(effect, 0, "o", color=COLORS[0], markersize=7)
        axes.plot(seeds, stacked(seeds, 0.5, 0.2), "o", color="black", markersize=4.5, fillstyle="none")
        axes.set_ylim(-0.7, 1.1)
        axes.set_yticks([0, 0.5], ["mean", "seeds"])
        axes.set_xlabel("\n".join(lines), fontsize=8)

    return draw(3.8, 1.1 + 0.14 * len(lines), paint)


def stacked(values: list[float], level: float, step: float) -> list[float]:
    """A height for each value, starting at `level`; equal values are drawn one above the other, `step` apart."""
    return [level + step * values[:place].count(value) for place, value in enumerate(values)]


def escapes(runs: dict[str, list[tuple[float | None, float]]], colors: dict[str, str], levels: dict[str, float]) -> str:
    """Final NLL against the escape step, a point per run. runs: name of a group -> (escape step, NLL in nats); without
    an escape step, the run is a cross at the right edge. levels: name -> NLL, as dashed lines."""
    known = [step for points in runs.values() for step, _ in points if step is not None]
    edge = 1.5 * max(known, default=1.0)

    def paint(axes) -> None:
        for number, (name, points) in enumerate(runs.items()):
            style = {"color": colors[name], "markersize": 4.5, "linestyle": "none", "alpha": 0.75}
            left = [point for point in points if point[0] is not None]
            axes.plot(*(zip(*left, strict=True) if left else ([], [])), MARKERS[number % len(MARKERS)],
                      markeredgewidth=0, label=name, **style)
            stuck = [nll for step, nll in points if step is None]
            axes.plot([edge] * len(stuck), stuck, "x", **style)
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)
        for name, level in levels.items():
            reference_level(axes, level, name)
        axes.set_xlabel("escape step (cross: the run never left the plateau)")
        axes.set_ylabel("final NLL on [MASK] (nats)")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)

    return draw(7.2, 3.6, paint)


def deciles(table: pd.DataFrame, baseline: str) -> str:
    """NLL on [MASK] by frequency in training: the baseline's own values, then each arm's difference from them.

    table: NLL in nats, one row per arm (the baseline included) and one column per tenth of the masked tokens, the most
    frequent first. Differences that are smaller than half of STEP are left blank.
    """
    differences = table.drop(index=baseline) - table.loc[baseline]

    def paint(axes) -> None:
        _color_cells(axes, differences.to_numpy())
        for row, values in enumerate([table.loc[baseline], *differences.to_numpy()]):
            for column, value in enumerate(values):
                if not row or abs(value) >= STEP / 2:
                    axes.text(column + 0.5, row + 0.52, f"{value:+z.2f}" if row else f"{value:.2f}", ha="center",
                              va="center", fontsize=7.5,
                              color="white" if row and abs(value) > 0.7 * FULL_COLOR else "black")
        axes.set_xlim(0, table.shape[1])
        axes.set_ylim(0, len(table))
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_xticks([column + 0.5 for column in range(table.shape[1])], [part + 1 for part in table.columns])
        axes.set_yticks([row + 0.5 for row in range(len(table))],
                        [f"{baseline} (nats)", *(f"{arm} − {baseline}" for arm in differences.index)])
        axes.invert_yaxis()
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.set_xlabel("tenth of the masked tokens, by frequency in training (1: most frequent)")

    return draw(7.2, 0.9 + 0.22 * len(table), paint)


def _color_cells(axes, values: np.ndarray) -> None:
    """A cell for each value (rows, columns), below a first row without colours. Cells of one colour are one path."""
    import matplotlib
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    levels = np.clip(np.round(values / STEP), -FULL_COLOR / STEP, FULL_COLOR / STEP)
    for level in np.unique(levels[levels != 0]):
        cells = [Path([(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1), (x, y)], closed=True)
                 for y, x in np.argwhere(levels == level) + (1, 0)]
        color = matplotlib.colormaps["PuOr_r"]((level * STEP / FULL_COLOR + 1) / 2)
        axes.add_patch(PathPatch(Path.make_compound_path(*cells), facecolor=color, edgecolor="white", linewidth=0.6))
