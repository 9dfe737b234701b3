"""Tables of a study's results: cells, arms with intervals, groups of tokens, learning curves."""
from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from study.analysis import finetuned, learning, statistics
from study.analysis.gate import shortfall
from study.analysis.learning import FAILED
from study.analysis.measures import chosen_layer, last_layer, probe
from study.analysis.metrics import cell_metric
from study.analysis.results import CellResults, StudyResults, headline_probe

STABILITY = {               # metrics of stability (stability.py) -> the largest possible value
    "largest_gradient_norm": math.inf, "clipped_share": 1.0, "loss_spikes": math.inf, "loss_above_start": 1.0}
ARM_COLUMNS = {             # columns of cells.csv that arms.csv averages -> the largest possible value; None: no bounds
    "nll": math.inf, "nll_pairs": math.inf, "probe_accuracy": 1.0, "untrained_accuracy": 1.0,
    "last_layer_accuracy": 1.0, "finetuned_accuracy": 1.0, "finetuned_untrained": 1.0, "share_closed": None,
    "nsp_accuracy": 1.0, "sop_accuracy": 1.0, "escape_step": math.inf} | STABILITY
TOKEN_GROUPS = (("kind", "mixed"), ("decile", "mask_only"), ("piece", "mask_only"), ("place", "mask_only"))


def cell_table(results: StudyResults) -> pd.DataFrame:
    """One row per cell."""
    return pd.DataFrame([_cell_row(results, cell) for cell in results.cells])


def _cell_row(results: StudyResults, cell: CellResults) -> dict:
    training, status = cell.training, learning.run_status(results, cell)
    row = {"study": results.study.settings.name, "arm": cell.arm, "seed": cell.seed, "status": status}
    row |= _nll_columns(results, cell)
    if status == "diverged":
        row |= _capped(results, cell)
    row["escape_step"] = learning.learning_curve(results, cell).escape_step
    failed = shortfall(results, cell)
    row["gate"] = failed.flag if failed else "passed"
    row |= _pair_columns(results, cell)
    row |= _probe_columns(results, cell)
    row |= _finetune_columns(results, cell) | _measured(results, cell, STABILITY)
    return row | {key: training[key] for key in ("steps", "tokens", "flops", "parameters", "fingerprint")}


def _nll_columns(results: StudyResults, cell: CellResults) -> dict:
    """NLL (nats) and perplexities of a cell, and how far its NLL is from the floor."""
    mask_only, mixed = cell.evaluation["mask_only"] or {}, cell.evaluation["mixed"] or {}
    row = {"perplexity": mask_only.get("perplexity"), **_measured(results, cell, ["nll"])}
    row |= {key: mask_only.get(key) for key in ("unigram_perplexity", "floor_perplexity", "excess_nll",
                                                "share_closed")}
    return row | {"mixed_perplexity": mixed.get("perplexity")}


def _capped(results: StudyResults, cell: CellResults) -> dict:
    """The columns of a diverged run that follow from its NLL, which is at most that of unigram frequencies."""
    mask_only, capped = cell.evaluation["mask_only"], _measured(results, cell, ["nll", "nll_mixed"])
    nll, row = capped["nll"], {}
    if nll is not None:
        row["perplexity"], unigram, floor = math.exp(nll), mask_only["unigram_nll"], mask_only.get("floor_nll")
        if floor is not None:
            row |= {"excess_nll": nll - floor, "share_closed": (unigram - nll) / (unigram - floor)}
    if capped["nll_mixed"] is not None:
        row["mixed_perplexity"] = math.exp(capped["nll_mixed"])
    return row


def _measured(results: StudyResults, cell: CellResults, metrics: Iterable[str]) -> dict[str, float | None]:
    """Metrics of a cell by name; None for those that it lacks."""
    values = {metric: cell_metric(results, cell, metric) for metric in metrics}
    return {metric: None if value is None else value.cell for metric, value in values.items()}


def _pair_columns(results: StudyResults, cell: CellResults) -> dict:
    row = _measured(results, cell, ["nll_pairs"])
    for task in ("nsp", "sop"):
        row |= {f"{task}_{key}": (cell.evaluation[task] or {}).get(key) for key in ("accuracy", "ceiling")}
    return row


def _probe_columns(results: StudyResults, cell: CellResults) -> dict:
    row = {}
    for task, scores in cell.probe.items():
        for pooling in results.study.settings.probe.poolings:
            row[f"{task}_{pooling}_accuracy"] = scores[pooling]["accuracy"]
            row[f"{task}_{pooling}_untrained_accuracy"] = scores[pooling]["untrained_accuracy"]
    row["chosen_layer"], _ = chosen_layer(results, cell) or (None, None)
    for name, measure in (("probe_accuracy", probe()), ("untrained_accuracy", probe("untrained")),
                          ("last_layer_accuracy", last_layer())):
        value = measure(results, cell)
        row[name] = None if value is None else value.cell
    return row


def _finetune_columns(results: StudyResults, cell: CellResults) -> dict:
    """Fine-tuned accuracy of the first task with the most rows; no columns in a study without fine-tuning."""
    if not results.study.settings.finetune.arms:
        return {}
    values = {"finetuned_accuracy": finetuned.accuracy()(results, cell),
              "finetuned_untrained": finetuned.accuracy("untrained")(results, cell)}
    return {name: None if value is None else value.cell for name, value in values.items()}


def finetune_table(results: StudyResults) -> pd.DataFrame:
    """Fine-tuned accuracy: one row per arm, task, number of labelled rows and recipe (trained, untrained, variants).

    accuracy: mean over cells with its 95 % t interval. spread_runs: standard deviation over the runs of a cell, the
    root of the mean square over cells. spread_cells: that over cells, of the means over runs. rate: the geometric mean
    of the chosen learning rates.
    """
    rows = []
    for arm in results.study.settings.finetune.arms:
        cells = [cell.finetune for cell in results.of_arm(arm)]
        for task in (task.name for task in results.study.settings.finetune.tasks):
            names = [name for name, part in cells[0].get(task, {}).items() if isinstance(part, dict) and name != "rows"]
            for name in names:
                rows += [_finetune_row(arm, task, size, name, [cell[task][name][size] for cell in cells])
                         for size in cells[0][task][name]]
    return pd.DataFrame(rows, columns=["arm", "task", "rows", "recipe", "n", "accuracy", "low", "high", "spread_runs",
                                       "spread_cells", "rate", "diverged"])


def _finetune_row(arm: str, task: str, size: str, name: str, scores: list[dict]) -> dict:
    estimate = statistics.t_estimate(np.array([score["accuracy"] for score in scores]))
    low, high = estimate.clipped(1.0)
    spreads = [score["spread"] for score in scores if score["spread"] is not None]
    runs = [run for score in scores for run in score["runs"]]
    rates = [run["rate"] for run in runs]
    return {"arm": arm, "task": task, "rows": int(size), "recipe": name, "n": len(scores), "accuracy": estimate.mean,
            "low": low, "high": high, "spread_runs": math.sqrt(np.mean(np.square(spreads))) if spreads else None,
            "spread_cells": float(np.std([score["accuracy"] for score in scores], ddof=1)) if len(scores) > 1 else None,
            "rate": math.exp(np.mean(np.log(rates))),
            "diverged": sum(candidate["diverged"] for run in runs for candidate in run["candidates"])}


def arm_table(results: StudyResults, cells: pd.DataFrame) -> pd.DataFrame:
    """One row per arm: means over seeds with 95 % t intervals, clipped to the possible values.

    cells: the table of cells. The interval of perplexity is that of the NLL, exponentiated.
    """
    rows = []
    for arm in results.study.settings.arms:
        part = cells[cells.arm == arm]
        row = {"arm": arm, "n": len(part), **{status: int((part.status == status).sum()) for status in FAILED}}
        for name, largest in ARM_COLUMNS.items():
            if name not in part:            # of fine-tuning, in a study without it
                continue
            estimate = statistics.t_estimate(part[name].to_numpy(float))    # NaN where a run has no such number
            low, high = estimate.interval() if largest is None else estimate.clipped(largest)
            row |= {f"{name}_mean": estimate.mean, f"{name}_low": low, f"{name}_high": high}
        row |= {f"perplexity_{end}": math.exp(row[f"nll_{end}"]) for end in ("mean", "low", "high")}
        row |= {f"{task}_ceiling": part[f"{task}_ceiling"].astype(float).max() for task in ("nsp", "sop")}
        rows.append(row)
    return pd.DataFrame(rows)


def token_table(results: StudyResults) -> pd.DataFrame:
    """NLL by group of tokens, means over seeds: one row per arm, group (kind, decile, piece, place) and part of it.

    Arms without an NLL on [MASK] are left out.
    """
    rows = []
    for arm in results.study.settings.arms:
        evaluations = [cell.evaluation for cell in results.of_arm(arm)]
        if any(scores["mask_only"] is None or scores["mask_only"]["nll"] is None for scores in evaluations):
            continue
        for group, masks in TOKEN_GROUPS:
            parts = [scores[masks].get(f"by_{group}", {}) for scores in evaluations]
            parts = [dict(enumerate(part)) if isinstance(part, list) else part for part in parts]
            rows += [{"arm": arm, "group": group, "part": name, "tokens": scores["tokens"],
                      "nll": float(np.mean([part[name]["nll"] for part in parts]))}
                     for name, scores in parts[0].items() if scores["tokens"]]
    return pd.DataFrame(rows, columns=["arm", "group", "part", "tokens", "nll"])


def probe_table(results: StudyResults) -> pd.DataFrame:
    """Accuracy of the first task's probe by layer (0: embeddings) and by number of training rows, of the trained and
    the untrained encoder: one row per arm, encoder, `by` (layers, sizes) and number. Means over seeds.

    Points that a cell of the arm lacks are left out.
    """
    task, rows = headline_probe(results.study).task, []
    for arm in results.study.settings.arms:
        probes = [cell.probe[task].get("more", {}) for cell in results.of_arm(arm)]
        for encoder in ("trained", "untrained"):
            for by in ("layers", "sizes"):
                scores = [_by_number(probe.get(encoder, {}).get(by)) for probe in probes]
                rows += [{"arm": arm, "encoder": encoder, "by": by, "number": number, "n": len(scores),
                          "accuracy": float(np.mean([score[number] for score in scores]))}
                         for number in scores[0] if all(number in score for score in scores)]
    return pd.DataFrame(rows, columns=["arm", "encoder", "by", "number", "n", "accuracy"])


def _by_number(scores: list | dict | None) -> dict[int, float]:
    """Layer or number of rows -> accuracy, from an entry of probe.json."""
    pairs = enumerate(scores) if isinstance(scores, list) else (scores or {}).items()
    return {int(number): score["accuracy"] for number, score in pairs if score}


def input_table(results: StudyResults) -> pd.DataFrame:
    """What each arm was trained on, counted on the first rows of its first seed: one row per arm."""
    rows = []
    for arm in results.study.settings.arms:
        inputs = results.cell(arm, results.study.settings.seeds[0]).inputs
        rows.append({"arm": arm, **inputs["shares"],
                     **{key: inputs[key] for key in ("examples", "views_per_example", "views_per_mask")}})
    return pd.DataFrame(rows)


def curve_table(results: StudyResults) -> pd.DataFrame:
    """Validation perplexity by step, one column per arm: geometric means over seeds, blank where not measured."""
    rows = [{"arm": cell.arm, "step": record["step"], "nll": record["validation_nll"]}
            for cell in results.cells for record in cell.records if "validation_nll" in record]
    arms = results.study.settings.arms
    if not rows:
        return pd.DataFrame(columns=["step", *arms])
    table = pd.DataFrame(rows).pivot_table(index="step", columns="arm", values="nll", aggfunc="mean")
    return np.exp(table.reindex(columns=arms)).reset_index()
