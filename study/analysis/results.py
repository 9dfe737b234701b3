"""Result files of a study as tidy frames: cells, arms with intervals, learning curves. Reads files only."""
from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study import StudyError
from study.analysis import statistics
from study.config.load import Study, flat, read_yaml, resolve

ESCAPE = 0.1                                # nats under the unigram level: a model that has left the plateau
FAILED = ("diverged", "overfitted")
BY_HEART = 0.5                              # of the unigram level: a training loss that only memory explains


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
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StudyError(f"{path}: cannot be read ({error}); run `dvc repro`") from None


def trained_as_said(study: Study) -> None:
    """Raises StudyError naming a cell and a key where a cell was trained with other settings than the study has now."""
    tuned = read_yaml(study.runs / "search" / "best.yaml")
    for arm, seed in study.cells:
        path = study.cell(arm, seed) / "settings.yaml"
        was, now = (dict(flat(content)) for content in
                    (read_yaml(path), resolve(study, arm, tuned.get(arm)).model_dump(mode="json")))
        for key in sorted(now.keys() | was.keys()):
            if was.get(key) != now.get(key):
                raise StudyError(f"{path}: {arm}-{seed} was trained with {key} {was.get(key)}, the study's settings "
                                 f"now give {now.get(key)}; run `dvc repro`")


def cells(study: Study) -> pd.DataFrame:
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


def _cell(study: Study, arm: str, seed: int, evaluation: dict) -> dict:
    folder = study.cell(arm, seed)
    training, records = read_json(folder / "training.json"), read_records(folder / "metrics.jsonl")
    unigram = plateau(study)
    headline, mixed = evaluation["mask_only"] or {}, evaluation["mixed"] or {}
    row = {"study": study.settings.name, "arm": arm, "seed": seed, "status": ended(training, records, unigram),
           "perplexity": headline.get("perplexity"), "nll": headline.get("nll"),
           "unigram_perplexity": headline.get("unigram_perplexity"),
           "floor_perplexity": headline.get("floor_perplexity"), "excess_nll": headline.get("excess_nll"),
           "share_closed": headline.get("share_closed"), "mixed_perplexity": mixed.get("perplexity"),
           "escape_step": escape_step(records, unigram)}
    row |= {f"{task}_accuracy": (evaluation[task] or {}).get("accuracy") for task in ("nsp", "sop")}
    if training["status"] == "diverged" and headline:
        row["nll"] = min(headline["nll"] or math.inf, headline["unigram_nll"])
        row["perplexity"] = math.exp(row["nll"])
    for task, scores in read_json(folder / "probe.json").items():
        for pooling in study.settings.probe.poolings:
            row[f"{task}_{pooling}_accuracy"] = scores[pooling]["accuracy"]
            row[f"{task}_{pooling}_untrained_accuracy"] = scores[pooling]["untrained_accuracy"]
    chosen = chosen_layer(study, arm, seed)
    row["chosen_layer"], row["chosen_accuracy"] = (None, None) if chosen is None else chosen
    row["probe_accuracy"] = row[f"{primary(study)}_accuracy"]
    row["untrained_accuracy"] = row[f"{primary(study)}_untrained_accuracy"]
    return row | {key: training[key] for key in ("steps", "tokens", "flops", "parameters", "fingerprint")}


def primary(study: Study) -> str:
    """Task and pooling of the headline probe: the first task, mean pooling where it is there."""
    poolings = study.settings.probe.poolings
    return f"{study.settings.probe.tasks[0].name}_{'mean' if 'mean' in poolings else poolings[0]}"


def chosen_layer(study: Study, arm: str, seed: int) -> tuple[int, float] | None:
    """The layer, 0 the embeddings, that cross-validation on the training rows chooses for the headline probe, and the
    accuracy there; None where layers were not probed, or nothing can be read from a diverged run."""
    scores = read_json(study.cell(arm, seed) / "probe.json")[study.settings.probe.tasks[0].name]
    layers = scores.get("more", {}).get("trained", {}).get("layers", [])
    read = [number for number, layer in enumerate(layers) if layer["cv_accuracy"] is not None]
    if not read:
        return None
    chosen = max(read, key=lambda number: layers[number]["cv_accuracy"])
    return chosen, layers[chosen]["accuracy"]


def ended(training: dict, records: list[dict], unigram: float) -> str:
    """How a run ended: finished, diverged, or overfitted, where it is worse than guessing on other text (so that it
    was recorded as diverged) and knows its own by heart."""
    losses = [record["loss"] for record in records if "loss" in record]
    by_heart = bool(losses) and losses[-1] is not None and losses[-1] < BY_HEART * unigram
    return "overfitted" if training["status"] == "diverged" and by_heart else training["status"]


def plateau(study: Study) -> float:
    """NLL of word frequencies alone on the masks that training is validated on, nats."""
    return math.log(read_json(study.runs / "examples" / "references.json")["unigram"]["validation"])


def escape_step(records: list[dict], unigram: float) -> int | None:
    """First logged step whose validation NLL lies clearly under the unigram level of the same tokens; None: never."""
    return next((r["step"] for r in records if r.get("validation_nll", math.inf) < unigram - ESCAPE), None)


def arms(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """One row an arm: means over seeds with 95 % t intervals, cut where a scale ends; perplexities through the NLL."""
    rows = []
    for arm in study.settings.arms:
        part = frame[frame.arm == arm]
        row = {"arm": arm, "n": len(part), **{status: int((part.status == status).sum()) for status in FAILED}}
        for name, most in (("nll", math.inf), ("probe_accuracy", 1.0), ("untrained_accuracy", 1.0),
                           ("chosen_accuracy", 1.0), ("share_closed", None), ("nsp_accuracy", 1.0),
                           ("sop_accuracy", 1.0), ("escape_step", math.inf)):
            found = statistics.t_estimate(part[name].to_numpy(float))       # NaN where a run has no such number
            low, high = found.interval() if most is None else found.on_scale(most)
            row |= {f"{name}_mean": found.mean, f"{name}_low": low, f"{name}_high": high}
        row |= {f"perplexity_{end}": math.exp(row[f"nll_{end}"]) for end in ("mean", "low", "high")}
        rows.append(row)
    return pd.DataFrame(rows)


def tokens(study: Study) -> pd.DataFrame:
    """NLL on [MASK] by group of tokens, means over seeds: a row an arm, group (kind, decile, piece, place) and part."""
    rows = []
    for arm in study.settings.arms:
        found = [read_json(study.cell(arm, seed) / "evaluation.json") for seed in study.settings.seeds]
        if any(one["mask_only"] is None or one["mask_only"]["nll"] is None for one in found):
            continue
        for group, name in (("kind", "mixed"), ("decile", "mask_only"), ("piece", "mask_only"),
                            ("place", "mask_only")):
            parts = [one[name].get(f"by_{group}", {}) for one in found]
            parts = [dict(enumerate(part)) if isinstance(part, list) else part for part in parts]
            rows += [{"arm": arm, "group": group, "part": part, "tokens": parts[0][part]["tokens"],
                      "nll": float(np.mean([one[part]["nll"] for one in parts]))}
                     for part in parts[0] if parts[0][part]["tokens"]]
    return pd.DataFrame(rows, columns=["arm", "group", "part", "tokens", "nll"])


def curves(study: Study) -> pd.DataFrame:
    """Validation perplexity by step, a column an arm: the geometric mean over seeds, blank where none was measured."""
    rows = [{"arm": arm, "step": record["step"], "nll": record["validation_nll"]} for arm, seed in study.cells
            for record in read_records(study.cell(arm, seed) / "metrics.jsonl") if "validation_nll" in record]
    if not rows:
        return pd.DataFrame(columns=["step", *study.settings.arms])
    table = pd.DataFrame(rows).pivot_table(index="step", columns="arm", values="nll", aggfunc="mean")
    return np.exp(table.reindex(columns=study.settings.arms)).reset_index()
