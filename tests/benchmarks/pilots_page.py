"""reports/pilots.md and its figure, made from the recorded pilot runs."""
from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from study.analysis.ladder import COUNT_MODELS, LABELS
from study.analysis.statistics import t_estimate
from study.data.plateau import escape_step
from tests.benchmarks import pilots_quick
from tests.benchmarks.pilots import FULL, PILOTS, RESULTS, SEEDS, recorded

BLUE, RED = "#1f5fa8", "#c44e2f"
POSITIONS = {"baseline": (BLUE, "-"), "all-mask": (RED, "-"), "absolute positions": (BLUE, ":"),
             "all-mask, absolute positions": (RED, ":")}
FULL_LENGTH = {"full length, half the rate": (BLUE, "-"), "full length, all-mask, half the rate": (RED, "-")}
RATES = {"baseline": {0.00125: "full length, a quarter of the rate", 0.0025: "full length, half the rate",
                      0.0035: "full length, rate 0.0035", 0.005: "full length"},
         "all-mask": {0.00125: "full length, all-mask, a quarter of the rate",
                      0.0025: "full length, all-mask, half the rate", 0.0035: "full length, all-mask, rate 0.0035"}}
CHOSEN = 0.0025                             # the learning rate of experiments/wikitext2
PRODUCT = "neighbours-product"


def runs_by_pilot() -> dict[str, list[dict]]:
    """Returns the recorded runs of each pilot, by seed."""
    trials = recorded()
    by_pilot = {name: [trial for trial in trials if trial["pilot"] == name] for name in PILOTS}
    return {name: sorted(runs, key=lambda run: run["seed"]) for name, runs in by_pilot.items() if runs}


def page_text(by_pilot: dict[str, list[dict]]) -> str:
    """Returns the page."""
    base = by_pilot["baseline"]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    rows = {name: _row(name, runs, base) for name, runs in by_pilot.items()}
    return environment.get_template("pilots.md").render(
        seeds=SEEDS, settings=base[0]["settings"], short=[row for row in rows.values() if not row["full"]],
        full=[row for row in rows.values() if row["full"]],
        rates={arm: {rate: rows[name] for rate, name in names.items()} for arm, names in RATES.items()},
        chosen={arm: rows[names[CHOSEN]] for arm, names in RATES.items()}, chosen_rate=CHOSEN,
        quick=_quick(), quick_rates=pilots_quick.RATES, quick_steps=pilots_quick.STEPS,
        longer=[run for run in pilots_quick.recorded() if run["steps"] != pilots_quick.STEPS],
        machines=sorted({f"{trial['hardware']['cores']} cores of {trial['hardware']['processor']}"
                         for runs in by_pilot.values() for trial in runs}),
        ladders={name: runs[0]["ladder"] for name, runs in by_pilot.items() if runs[0]["data"] != base[0]["data"]},
        ladder=base[0]["ladder"], labels=LABELS)


def write_page() -> Path:
    """Writes the page and its figures; returns its path."""
    by_pilot = runs_by_pilot()
    base = by_pilot["baseline"]
    product, best = level(base[0], PRODUCT), best_count_model(base[0])
    draw(by_pilot, POSITIONS, {"unigram": level(base[0], "unigram"), PRODUCT: product}, (product - 0.3, 9),
         RESULTS / "positions.png")
    draw(by_pilot, FULL_LENGTH, {best: level(base[0], best)}, (3.5, 6), RESULTS / "full_length.png")
    path = RESULTS.parent / "pilots.md"
    path.write_text(page_text(by_pilot))
    return path


def level(run: dict, name: str) -> float:
    """Returns the NLL of a reference on the run's validation tokens, in nats."""
    return next(rung["nll"] for rung in run["ladder"] if rung["name"] == name)


def _quick() -> dict[str, dict[float, list[dict]]]:
    """The pilots of the quick study at its number of steps: arm -> learning rate -> last validations, by seed."""
    table: dict[str, dict[float, list[dict]]] = {}
    for run in sorted(pilots_quick.recorded(), key=lambda run: run["seed"]):
        if run["steps"] == pilots_quick.STEPS:
            table.setdefault(run["arm"], {}).setdefault(run["rate"], []).append(run["last"])
    return table


def best_count_model(run: dict) -> str:
    """Returns the name of the count model with the lowest NLL."""
    return min(COUNT_MODELS, key=lambda name: level(run, name))


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
    return {"name": name, "steps": runs[0]["steps"], "rate": settings["training"]["learning_rate"],
            "full": settings["training"]["eval_steps"] >= FULL["eval_steps"],
            "tokens": runs[0]["tokens"], "per_step": per_step,
            "escapes": [escape_step(run["curve"], unigram) for run in runs],
            "final": statistics.mean(final.values()), "first": runs[0]["curve"][-1][1],
            "seeds": len(runs), "lowest": lowest[1], "lowest_step": lowest[0],
            "spread": statistics.stdev(final.values()) if len(runs) > 1 else None,
            "below_unigram": unigram - statistics.mean(final.values()),
            "above_product": statistics.mean(final.values()) - level(runs[0], PRODUCT),
            "above_best": statistics.mean(final.values()) - level(runs[0], best_count_model(runs[0])),
            "difference": t_estimate(np.array(paired)) if same_tokens and len(paired) > 1 else None}


def draw(by_pilot: dict[str, list[dict]], drawn: dict[str, tuple[str, str]], references: dict[str, float],
         limits: tuple[float, float], path: Path) -> None:
    """Validation NLL by step of some pilots, one line per seed, with references.

    drawn: pilot -> its colour and style. references: name -> NLL in nats. limits: lowest and highest NLL shown.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, (colour, style) in drawn.items():
        for number, run in enumerate(by_pilot.get(name, [])):
            steps, nll = zip(*run["curve"], strict=True)
            axes.plot(steps, nll, color=colour, linestyle=style, linewidth=1.2,
                      label="" if number else name.replace("baseline", "baseline (rotary positions)"))
    for name, nll in references.items():
        axes.axhline(nll, color="#777777", linewidth=0.8, linestyle="--")
        axes.annotate(LABELS[name], (0.01, nll), xycoords=("axes fraction", "data"), va="top", fontsize=8,
                      color="#555555")
    axes.set(xlabel="step", ylabel="validation NLL on [MASK], nats", ylim=limits)
    axes.margins(x=0)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})
