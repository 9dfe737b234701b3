"""Result files of a study as one tidy frame of cells, arms with intervals, and paired comparisons.

Reads files only. Tables go to `reports/<study>/tables/`; what the report needs beside them and is not kept in git goes
to `reports/<study>/data.json`, so that the report can be built again from committed files.
"""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study import StudyError
from study.analysis import statistics
from study.config import Loaded

ESCAPE = 0.1                                # nats under the unigram level: a model that has left the plateau
METRICS = {"nll": "NLL on [MASK] (nats)", "probe_accuracy": "probe accuracy"}


def read_json(path: Path) -> Any:
    """The content of a result file. Raises StudyError when a stage has yet to write it, or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: not there yet; run `dvc repro` in the study's folder") from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: damaged ({error}); delete it and run `dvc repro`") from None


def read_records(path: Path) -> list[dict]:
    """The records of a metrics.jsonl."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read ({error}); run `dvc repro`") from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an evaluation.npz or probe.npz."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read ({error}); run `dvc repro`") from None


def cells(study: Loaded) -> pd.DataFrame:
    """One row a cell. Raises StudyError when two cells were scored on different evaluation sets."""
    rows, scored = [], {}
    for arm, seed in study.cells:
        folder = study.cell(arm, seed)
        evaluation = read_json(folder / "evaluation.json")
        scored.setdefault(evaluation["hash"], f"{arm}-{seed}")
        if len(scored) > 1:
            first, second = scored.values()
            raise StudyError(f"{study.runs}: {first} and {second} were scored on different evaluation sets; run "
                             f"`dvc repro` so that all cells are scored on one")
        rows.append(_cell(study, arm, seed, evaluation))
    return pd.DataFrame(rows)


def _cell(study: Loaded, arm: str, seed: int, evaluation: dict) -> dict:
    folder = study.cell(arm, seed)
    training, records = read_json(folder / "training.json"), read_records(folder / "metrics.jsonl")
    headline, mixed, pairs = evaluation["mask_only"] or {}, evaluation["mixed"] or {}, evaluation["nsp"] or {}
    row = {"study": study.settings.study, "arm": arm, "seed": seed, "status": training["status"],
           "perplexity": headline.get("perplexity"), "nll": headline.get("nll"),
           "unigram_perplexity": headline.get("unigram_perplexity"),
           "floor_perplexity": headline.get("floor_perplexity"), "excess_nll": headline.get("excess_nll"),
           "share_closed": headline.get("share_closed"), "mixed_perplexity": mixed.get("perplexity"),
           "escape_step": escape_step(records, headline.get("unigram_nll")), "nsp_accuracy": pairs.get("accuracy")}
    if training["status"] == "diverged" and headline:
        finite = math.isfinite(headline["nll"])
        row["nll"] = min(headline["nll"], headline["unigram_nll"]) if finite else headline["unigram_nll"]
        row["perplexity"] = math.exp(row["nll"])
    for task, scores in read_json(folder / "probe.json").items():
        for pooling in study.settings.probe.poolings:
            row[f"{task}_{pooling}_accuracy"] = scores[pooling]["accuracy"]
            row[f"{task}_{pooling}_untrained_accuracy"] = scores[pooling]["untrained_accuracy"]
    row["probe_accuracy"] = row[f"{primary(study)}_accuracy"]
    row["untrained_accuracy"] = row[f"{primary(study)}_untrained_accuracy"]
    return row | {key: training[key] for key in ("steps", "tokens", "flops", "parameters", "fingerprint")}


def primary(study: Loaded) -> str:
    """Task and pooling of the headline probe: the first task, mean pooling where it is there."""
    poolings = study.settings.probe.poolings
    return f"{study.settings.probe.tasks[0].name}_{'mean' if 'mean' in poolings else poolings[0]}"


def escape_step(records: list[dict], unigram: float | None) -> int | None:
    """First logged step whose validation NLL lies clearly under the unigram level; None: never."""
    if unigram is None:
        return None
    return next((r["step"] for r in records if r.get("validation_nll", math.inf) < unigram - ESCAPE), None)


def arms(study: Loaded, frame: pd.DataFrame) -> pd.DataFrame:
    """One row an arm: means over seeds with 95 % t intervals; perplexities through the NLL."""
    rows = []
    for arm in study.settings.arms:
        part = frame[frame.arm == arm]
        row = {"arm": arm, "n": len(part), "diverged": int((part.status == "diverged").sum())}
        for name, column in (("nll", "nll"), ("probe_accuracy", "probe_accuracy"),
                             ("untrained_accuracy", "untrained_accuracy"), ("share_closed", "share_closed"),
                             ("nsp_accuracy", "nsp_accuracy"), ("escape_step", "escape_step")):
            found = statistics.t_interval(part[column].dropna().to_numpy(float))
            row |= {f"{name}_mean": found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        row |= {f"perplexity_{end}": math.exp(row[f"nll_{end}"]) for end in ("mean", "low", "high")}
        rows.append(row)
    return pd.DataFrame(rows)


def comparisons(study: Loaded, frame: pd.DataFrame) -> pd.DataFrame:
    """Each arm against its baseline, paired by seed: two-way t over seeds and texts, t over seeds beside it."""
    rows = []
    for arm in study.settings.arms:
        baseline = study.arms[arm].baseline
        if baseline in study.settings.arms:
            rows += [_comparison(study, frame, arm, baseline, metric) for metric in METRICS]
    columns = ["treatment", "baseline", "metric", "n", "effect", "low", "high", "p"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def _comparison(study: Loaded, frame: pd.DataFrame, arm: str, baseline: str, metric: str) -> dict:
    of = frame.set_index(["arm", "seed"])[metric]
    first, second = (of[name].reindex(study.settings.seeds).to_numpy(float) for name in (arm, baseline))
    texts = [_per_text(study, arm, seed, metric) for seed in study.settings.seeds]
    others = [_per_text(study, baseline, seed, metric) for seed in study.settings.seeds]
    difference = first - second
    if any(x is None for x in (*texts, *others)) or (frame.status == "diverged").any():
        headline = statistics.t_interval(difference)        # a capped run has no row sums that fit it
    else:
        headline = statistics.two_way_t(np.stack(texts) - np.stack(others))
    over_seeds = statistics.t_interval(difference)
    return {"treatment": arm, "baseline": baseline, "metric": metric, "n": len(difference), "effect": headline.mean,
            "low": headline.low, "high": headline.high, "p": headline.p, "t_low": over_seeds.low,
            "t_high": over_seeds.high, "correlation": statistics.correlation(first, second),
            "d_z": statistics.effect_size(difference),
            "smallest_detectable_effect": statistics.smallest_detectable_effect(difference)}


def _per_text(study: Loaded, arm: str, seed: int, metric: str) -> np.ndarray | None:
    """One number a text whose mean is the cell's metric: row NLL over mean tokens a row, or correct 0/1."""
    if metric == "nll":
        arrays = read_arrays(study.cell(arm, seed) / "evaluation.npz")
        if "mask_only/nll" not in arrays:
            return None
        return arrays["mask_only/nll"] / arrays["mask_only/tokens"].mean()
    arrays, (task, pooling) = read_arrays(study.cell(arm, seed) / "probe.npz"), primary(study).rsplit("_", 1)
    return (arrays[f"{task}/{pooling}/trained/predicted"] == arrays[f"{task}/label"]).astype(float)


def curves(study: Loaded) -> pd.DataFrame:
    """Validation perplexity by step, a column an arm: the geometric mean over seeds, blank where none was measured."""
    rows = [{"arm": arm, "step": record["step"], "nll": record["validation_nll"]} for arm, seed in study.cells
            for record in read_records(study.cell(arm, seed) / "metrics.jsonl") if "validation_nll" in record]
    if not rows:
        return pd.DataFrame(columns=["step", *study.settings.arms])
    table = pd.DataFrame(rows).pivot_table(index="step", columns="arm", values="nll", aggfunc="mean")
    return np.exp(table.reindex(columns=study.settings.arms)).reset_index()


def compare(study: Loaded) -> None:
    """Writes cells.csv, arms.csv, comparisons.csv, curves.csv, metrics.json and data.json."""
    frame = cells(study)
    tables = {"cells": frame, "arms": arms(study, frame), "comparisons": comparisons(study, frame),
              "curves": curves(study)}
    folder = study.reports / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
    shown = ("perplexity_mean", "nll_mean", "probe_accuracy_mean", "untrained_accuracy_mean")
    metrics = {row["arm"]: {key.removesuffix("_mean"): _plain(row[key]) for key in shown}
               for row in tables["arms"].to_dict("records")}
    _write(study.reports / "metrics.json", metrics)
    examples = study.runs / "examples"
    _write(study.reports / "data.json", {"corpus": read_json(study.runs / "corpus" / "manifest.json"),
                                         "references": read_json(examples / "references.json"),
                                         "baselines": read_json(examples / "baselines.json")})


def _plain(value: float) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
