"""reports/benchmarks.md and its figures, from what the benchmarks measured."""
from __future__ import annotations

import json
import statistics
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tests.benchmarks.speed import PRECISIONS, RESULTS, summary
from tests.benchmarks.workload import SHAPES

SIDES = {"usual": "usual script", "ours": "this harness", "bare": "bare steps"}
COLOURS = {"usual": "#9a9a9a", "ours": "#1f5fa8"}


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
        machine=machine, repeats=len(measured["small"]["ours"]["float32"]), seconds=speed["seconds"],
        shapes=summary(measured), words={name: shape.words for name, shape in SHAPES.items()}, sides=SIDES,
        precisions=PRECISIONS, median=median)
    draw_speed(median, RESULTS / "speed.png")
    path = RESULTS.parent / "benchmarks.md"
    path.write_text(page)
    return path


def draw_speed(median: dict, path: Path) -> None:
    """Bars of both sides at both precisions, a panel a workload."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.6), layout="constrained")
    for axes, (name, kinds) in zip(figure.subplots(1, len(median)), median.items(), strict=True):
        labels = [(what, precision) for what in ("usual", "ours") for precision in PRECISIONS]
        speeds = [kinds[what][precision] for what, precision in labels]
        bars = axes.barh([f"{SIDES[what]}, {precision}" for what, precision in labels], speeds,
                         color=[COLOURS[what] for what, _ in labels])
        axes.bar_label(bars, [f"{speed:,.0f}" for speed in speeds], padding=3)
        axes.set(title=SHAPES[name].words, xlabel="tokens a second", xlim=(0, max(speeds) * 1.25))
        axes.title.set_size(8)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})
