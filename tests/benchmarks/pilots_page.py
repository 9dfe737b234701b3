"""reports/pilots.md and its figure, made from the recorded pilot runs."""
from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from study.analysis.ladder import COUNT_MODELS, LABELS
from study.analysis.statistics import t_estimate
from study.data.plateau import escape_step
from tests.benchmarks.pilots import PILOTS, RESULTS, SEEDS, recorded

DRAWN = {"baseline": ("#1f5fa8", "-"), "all-mask": ("#c44e2f", "-"), "absolute positions": ("#1f5fa8", ":"),
         "all-mask, absolute positions": ("#c44e2f", ":")}
PRODUCT = "neighbours-product"


def write_page() -> Path:
    """Writes the page; returns its path."""
    trials = recorded()
    by_pilot = {name: [trial for trial in trials if trial["pilot"] == name] for name in PILOTS}
    by_pilot = {name: sorted(runs, key=lambda run: run["seed"]) for name, runs in by_pilot.items() if runs}
    base = by_pilot["baseline"]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    page = environment.get_template("pilots.md").render(
        seeds=SEEDS, settings=base[0]["settings"], rows=[_row(name, runs, base) for name, runs in by_pilot.items()],
        machines=sorted({f"{trial['hardware']['cores']} cores of {trial['hardware']['processor']}"
                         for trial in trials}),
        ladders={name: runs[0]["ladder"] for name, runs in by_pilot.items() if runs[0]["data"] != base[0]["data"]},
        ladder=base[0]["ladder"], labels=LABELS)
    draw(by_pilot, RESULTS / "positions.png")
    path = RESULTS.parent / "pilots.md"
    path.write_text(page)
    return path


def level(run: dict, name: str) -> float:
    """Returns the NLL of a reference on the run's validation tokens, in nats."""
    return next(rung["nll"] for rung in run["ladder"] if rung["name"] == name)


def _row(name: str, runs: list[dict], base: list[dict]) -> dict:
    """A pilot: its runs' escape steps and last NLL, and the difference from the baseline at the same seeds where both
    were scored on the same tokens."""
    unigram = level(runs[0], "unigram")
    final = {run["seed"]: run["curve"][-1][1] for run in runs}
    paired = [final[run["seed"]] - run["curve"][-1][1] for run in base if run["seed"] in final]
    same_tokens = runs[0]["data"] == base[0]["data"] and name != "baseline"
    settings = runs[0]["settings"]
    lowest = min((point for run in runs for point in run["curve"]), key=lambda point: point[1])
    per_step = settings["training"]["batch_size"] * settings["examples"]["max_seq_length"]
    return {"name": name, "steps": runs[0]["steps"], "tokens": runs[0]["tokens"], "per_step": per_step,
            "escapes": [escape_step(run["curve"], unigram) for run in runs],
            "final": statistics.mean(final.values()),
            "seeds": len(runs), "lowest": lowest[1], "lowest_step": lowest[0],
            "spread": statistics.stdev(final.values()) if len(runs) > 1 else None,
            "below_unigram": unigram - statistics.mean(final.values()),
            "above_product": statistics.mean(final.values()) - level(runs[0], PRODUCT),
            "above_best": statistics.mean(final.values()) - min(level(runs[0], name) for name in COUNT_MODELS),
            "difference": t_estimate(np.array(paired)) if same_tokens and len(paired) > 1 else None}


def draw(by_pilot: dict[str, list[dict]], path: Path) -> None:
    """Validation NLL by step of the baseline and of all-mask with both kinds of positions, one line per seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, (colour, style) in DRAWN.items():
        for number, run in enumerate(by_pilot.get(name, [])):
            steps, nll = zip(*run["curve"], strict=True)
            axes.plot(steps, nll, color=colour, linestyle=style, linewidth=1.2,
                      label="" if number else name.replace("baseline", "baseline (rotary positions)"))
    run = by_pilot["baseline"][0]
    for reference in ("unigram", PRODUCT):
        axes.axhline(level(run, reference), color="#777777", linewidth=0.8, linestyle="--")
        axes.annotate(LABELS[reference], (run["steps"], level(run, reference)), ha="right", va="bottom", fontsize=8,
                      color="#555555")
    axes.set(xlabel="step", ylabel="validation NLL on [MASK], nats", xlim=(0, run["steps"]),
             ylim=(level(run, PRODUCT) - 0.3, 9))
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})
