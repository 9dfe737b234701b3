"""reports/benchmarks.md and its figures, made from the measurements."""
from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from study.analysis.decision_rules import ALPHA
from study.analysis.statistics import t_estimate
from tests.benchmarks import finetuning
from tests.benchmarks.precision import MARGIN
from tests.benchmarks.speed import PRECISIONS, RESULTS, summary
from tests.benchmarks.workload import LEAST, SHAPES

SIDES = {"trainer": "Trainer", "plain": "plain loop", "ours": "this project"}
COLOURS = {"trainer": "#8a8a8a", "plain": "#c4c4c4", "ours": "#1f5fa8"}


def write_table() -> Path:
    """Writes the page; returns its path."""
    speed = json.loads((RESULTS / "speed.json").read_text())
    measured, hardware = speed["measured"], speed["hardware"]
    median = {name: {what: {precision: statistics.median(numbers) for precision, numbers in by.items()}
                     for what, by in kinds.items()} for name, kinds in measured.items()}
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    machine = (f"{hardware['cores']} cores of {hardware['processor']}, " + (f"{hardware['gpu']}, " if hardware["gpu"]
               else "") + f"torch {speed['versions']['torch']}, transformers {speed['versions']['transformers']}")
    page = environment.get_template("benchmarks.md").render(
        machine=machine, repeats=len(measured["small"]["trainer"]["float32"]), seconds=speed["seconds"],
        shapes=summary(measured), words={name: shape.words for name, shape in SHAPES.items()}, sides=SIDES,
        precisions=PRECISIONS, columns=list(measured["small"]["ours"]), median=median, harness=_harness(), when=speed,
        bfloat16=_bfloat16(), finetuning=_finetuning(), clone=_clone(), axes=AXES, work=MEASURED,
        least=LEAST, warmup=speed["warmup"], parts=speed["parts"], growth=growth_factors)
    draw_speed(median, RESULTS / "speed.png")
    path = RESULTS.parent / "benchmarks.md"
    path.write_text(page)
    return path


def _harness() -> dict | None:
    """The results of harness.py, with their figure; None if it has not run."""
    path = RESULTS / "harness.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    draw_growth(found["growth"], RESULTS / "growth.png")
    return found


def _finetuning() -> dict | None:
    """The results of finetuning.py; None if it has not run."""
    path = RESULTS / "finetuning.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    return content | finetuning.summary(content["measured"])


def _clone() -> dict | None:
    """The results of clone.py; None if it has not run."""
    path = RESULTS / "clone.json"
    return json.loads(path.read_text()) if path.exists() else None


def _bfloat16() -> dict | None:
    """The results of precision.py, with their figure: under `runs`, for each number of steps, the final difference in
    nats, paired by seed. None if it has not run."""
    path = RESULTS / "precision.json"
    if not path.exists():
        return None
    measured = json.loads(path.read_text())
    draw_curves(next(iter(measured["runs"].values())), RESULTS / "precision.png")
    return measured | {"runs": [_difference(runs) for runs in measured["runs"].values()]}


def _difference(found: dict) -> dict:
    last = {precision: np.array([curve[-1][1] for curve in curves.values()]) for precision, curves in found.items()}
    difference = t_estimate(last["bfloat16"] - last["float32"])
    inside = difference.p_equivalent(MARGIN) < ALPHA
    return {"mean": difference.mean, "low": difference.low, "high": difference.high, "seeds": len(last["float32"]),
            "margin": MARGIN, "inside": inside,
            "steps": next(iter(found["float32"].values()))[-1][0], "perplexity": math.exp(last["float32"].mean())}


def draw_curves(found: dict, path: Path) -> None:
    """Validation perplexity by step, one line per run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    looks = (COLOURS["trainer"], "-"), (COLOURS["ours"], "--")
    for (precision, curves), (colour, style) in zip(found.items(), looks, strict=True):
        for number, curve in enumerate(curves.values()):
            steps, nll = zip(*curve, strict=True)
            axes.plot(steps, np.exp(nll), color=colour, linestyle=style, linewidth=1.2,
                      label="" if number else precision)
    axes.set(xlabel="step", ylabel="validation perplexity", yscale="log")
    axes.set_yticks([10, 20, 50, 100, 200, 500], minor=False)
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})


AXES = {"documents": "training documents", "vocabulary": "vocabulary", "length": "row length, equal tokens per step",
        "cells": "cells"}
MEASURED = {"documents": "tokenising and packing", "cells": "idle dvc repro"}      # otherwise: one training step


def growth_factors(points: dict) -> tuple[float, float]:
    """Ratio of the largest size to the smallest, and of their times."""
    (small, first), *_, (large, last) = points.items()
    return int(large) / int(small), last["seconds"] / first["seconds"]


def draw_growth(growth: dict, path: Path) -> None:
    """Seconds and peak memory against documents, vocabulary, length and cells."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    panels = figure.subplots(2, len(growth))
    for column, (kind, points) in enumerate(growth.items()):
        numbers = [int(number) for number in points]
        for axes, key, label in zip(panels[:, column], ("seconds", "memory"), ("seconds", "peak memory, MB"),
                                    strict=True):
            values = [point[key] for point in points.values()]
            axes.plot(numbers, values, marker="o", color=COLOURS["ours"])
            axes.set(ylabel=label, ylim=(0, 1.1 * max(values)), xlim=(0, 1.1 * max(numbers)))
            axes.spines[["top", "right"]].set_visible(False)
        panels[1, column].set_xlabel(AXES[kind])
        panels[0, column].set_title(MEASURED.get(kind, "one training step"), size=9)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def draw_speed(median: dict, path: Path) -> None:
    """Bars for every side in every column, one panel per workload."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, (name, kinds) in zip(figure.subplots(1, len(median)), median.items(), strict=True):
        bars = [(f"{label}, {column}", kinds[side][column], COLOURS[side]) for side, label in SIDES.items()
                for column in kinds[side]]
        labels, speeds, colours = zip(*bars, strict=True)
        drawn = axes.barh(labels, speeds, color=colours)
        axes.bar_label(drawn, [f"{speed:,.0f}" for speed in speeds], padding=3, size=8)
        axes.set(title=SHAPES[name].words.replace(", batch", ",\nbatch"), xlabel="tokens per second",
                 xlim=(0, max(speeds) * 1.3))
        axes.title.set_size(8)
        axes.tick_params(labelsize=8)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})
