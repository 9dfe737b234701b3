"""What cells are compared on: each metric as one number a cell and, where there is one, one number a text.

The numbers of the texts average to that of the cell, so that a comparison can take both seeds and texts as random.
Shapes: N texts.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from study.analysis.results import (
    chosen_layer,
    ended,
    escape_step,
    plateau,
    primary,
    read_arrays,
    read_json,
    read_records,
)
from study.config.load import Study


@dataclass(frozen=True)
class Metric:
    """A metric's name for readers, its unit, and which way is better."""
    label: str
    unit: Literal["nats", "points", "steps", "share"]
    better: Literal["lower", "higher"]


_SETS = {"nll": ("mask_only", "NLL on [MASK]"), "nll_mixed": ("mixed", "NLL on 80/10/10"),
         "nll_whole_word": ("whole_word", "NLL on whole words"), "nll_span": ("span", "NLL on spans"),
         "nll_mask_only_40": ("mask_only_40", "NLL on [MASK] at 40 %")}
_KINDS = {"nll_kept": ("keep", "NLL at kept tokens"), "nll_random": ("random", "NLL at replaced tokens")}
_GAP = {"mix_gap": "NLL under 80/10/10 minus NLL on [MASK]"}
_PROBES = {"probe_accuracy": "probe accuracy", "probe_cls": "probe accuracy on [CLS]",
           "probe_gain": "probe gain over the same encoder untrained",
           "probe_cls_gain": "probe gain on [CLS] over the same encoder untrained",
           "mean_over_cls": "probe accuracy, mean pooling minus [CLS]", "over_tfidf": "probe accuracy minus TF-IDF's",
           "probe_untrained_cls": "probe accuracy on [CLS], untrained",
           "probe_chosen": "probe accuracy at the layer that cross-validation chooses",
           "penultimate_over_last": "probe accuracy, last layer but one minus last"}
_CONTROLS = {"selectivity": "probe accuracy minus that on shuffled labels",
             "tutorial_probe": "accuracy of the common tutorial's own probe",
             "tutorial_untrained": "accuracy of the common tutorial's own probe, untrained"}
_PAIRS = {"nsp_accuracy": ("nsp", "next-sentence accuracy"), "sop_accuracy": ("sop", "sentence-order accuracy"),
          "nsp_over_chance": ("nsp", "next-sentence accuracy minus its base rate"),
          "sop_over_chance": ("sop", "sentence-order accuracy minus its base rate")}
METRICS: dict[str, Metric] = (
    {name: Metric(label, "nats", "lower") for name, (_, label) in (_SETS | _KINDS).items()}
    | {name: Metric(label, "nats", "lower") for name, label in _GAP.items()}
    | {name: Metric(label, "points", "higher") for name, label in (_PROBES | _CONTROLS).items()}
    | {name: Metric(label, "points", "higher") for name, (_, label) in _PAIRS.items()}
    | {"escape_step": Metric("step at which the unigram plateau is left", "steps", "lower"),
       "initial_excess": Metric("NLL before training minus ln V", "nats", "lower"),
       "plane_share": Metric("between-class share of variance on the [CLS] plane, trained minus untrained", "share",
                             "higher"),
       "diverged": Metric("share of runs that diverged", "share", "lower")})


@dataclass(frozen=True)
class Value:
    """A metric of one cell: `cell` a number, `texts` (N,) numbers that average to it, or None."""
    cell: float
    texts: np.ndarray | None = None


def value(study: Study, arm: str, seed: int, metric: str) -> Value | None:
    """A metric of one cell; None when the cell has no such number."""
    folder = study.cell(arm, seed)
    if metric in _SETS:
        return _nll(folder, _SETS[metric][0])
    if metric in _GAP:
        mixed, masked = _nll(folder, "mixed"), _nll(folder, "mask_only")
        return mixed and Value(mixed.cell - masked.cell, None if mixed.texts is None else mixed.texts - masked.texts)
    if metric in _KINDS:
        kinds = (read_json(folder / "evaluation.json")["mixed"] or {"by_kind": {}})["by_kind"]
        found = kinds.get(_KINDS[metric][0])
        return found and Value(found["nll"])
    if metric in _CONTROLS:
        return _control(study, arm, seed, metric)
    if metric in _PROBES:
        return _probe(study, arm, seed, metric)
    if metric in _PAIRS:
        return _pairs(folder, _PAIRS[metric][0], metric.endswith("over_chance"))
    return {"escape_step": _escape, "initial_excess": _initial, "plane_share": _plane,
            "diverged": _diverged}[metric](study, arm, seed)


def _nll(folder, name: str) -> Value | None:
    found = read_json(folder / "evaluation.json")[name]
    if found is None:
        return None
    if read_json(folder / "training.json")["status"] == "diverged":     # capped: it knows no more than word frequencies
        return Value(min(found["nll"] or math.inf, found["unigram_nll"]))
    arrays = read_arrays(folder / "evaluation.npz")
    return Value(found["nll"], arrays[f"{name}/nll"] / arrays[f"{name}/tokens"].mean())


def _probe(study: Study, arm: str, seed: int, metric: str) -> Value | None:
    arrays = read_arrays(study.cell(arm, seed) / "probe.npz")
    task, pooling = primary(study).rsplit("_", 1)

    def correct(pooled: str, encoder: str = "trained") -> np.ndarray | None:
        key = f"{task}/{pooled}/{encoder}/predicted"
        return (arrays[key] == arrays[f"{task}/label"]).astype(float) if key in arrays else None

    pairs = {"probe_accuracy": (correct(pooling), None), "probe_cls": (correct("cls"), None),
             "probe_gain": (correct(pooling), correct(pooling, "untrained")),
             "probe_cls_gain": (correct("cls"), correct("cls", "untrained")),
             "mean_over_cls": (correct("mean"), correct("cls")),
             "probe_untrained_cls": (correct("cls", "untrained"), None)}
    if metric == "penultimate_over_last":
        layers = sorted((key for key in arrays if key.startswith(f"{task}/layer-")), key=lambda key: int(
            key.split("/")[1].removeprefix("layer-")))
        pairs[metric] = tuple(correct(key.split("/")[1]) for key in layers[-2:]) if layers else (None, None)
    if metric == "over_tfidf":
        texts = correct(pooling)
        level = read_json(study.cell(arm, seed) / "probe.json")[task]["tfidf"]["accuracy"]
        return Value(float(texts.mean()) - level, texts - level)
    if metric == "probe_chosen":
        chosen = chosen_layer(study, arm, seed)
        pairs[metric] = (None if chosen is None else correct(f"layer-{chosen[0]}"), None)
    first, second = pairs[metric]
    if first is None or (second is None and metric not in ("probe_accuracy", "probe_chosen", "probe_cls",
                                                           "probe_untrained_cls")):
        return None
    texts = first if second is None else first - second
    return Value(float(texts.mean()), texts)


def _control(study: Study, arm: str, seed: int, metric: str) -> Value | None:
    task, pooling = primary(study).rsplit("_", 1)
    scores = read_json(study.cell(arm, seed) / "probe.json")[task]
    more = scores.get("more", {}).get("untrained" if metric == "tutorial_untrained" else "trained", {})
    if "shuffled" not in more:
        return None
    if metric == "selectivity":
        return Value(scores[pooling]["accuracy"] - more["shuffled"]["accuracy"])
    return Value(more["tutorial"]["accuracy"])


def _pairs(folder, task: str, over_chance: bool) -> Value | None:
    found = read_json(folder / "evaluation.json")[task]
    if found is None:
        return None
    texts = read_arrays(folder / "evaluation.npz")[f"{task}/correct"] - (found["base_rate"] if over_chance else 0.0)
    return Value(float(texts.mean()), texts.astype(float))


def _escape(study: Study, arm: str, seed: int) -> Value | None:
    found = escape_step(read_records(study.cell(arm, seed) / "metrics.jsonl"), plateau(study))
    return None if found is None else Value(float(found))


def _initial(study: Study, arm: str, seed: int) -> Value | None:
    folder = study.cell(arm, seed)
    headline, first = read_json(folder / "evaluation.json")["mask_only"], read_records(folder / "metrics.jsonl")[0]
    if headline is None or first["step"] or "validation_nll" not in first:
        return None
    return Value(first["validation_nll"] - headline["uniform_nll"])


def _plane(study: Study, arm: str, seed: int) -> Value | None:
    arrays, task = read_arrays(study.cell(arm, seed) / "probe.npz"), study.settings.probe.tasks[0].name
    trained, untrained = (between_share(arrays[f"{task}/cls/{name}/plane"], arrays[f"{task}/label"])
                          for name in ("trained", "untrained"))
    return Value(trained - untrained)


def between_share(points: np.ndarray, labels: np.ndarray) -> float:
    """Share of the variance of points (n, 2) that lies between the means of their classes; labels (n or more,)."""
    labels, points = labels[:len(points)], points.astype(float)
    total = ((points - points.mean(0))**2).sum()
    between = sum((labels == c).sum() * ((points[labels == c].mean(0) - points.mean(0))**2).sum()
                  for c in np.unique(labels))
    return float(between / total) if total > 0 else 0.0


def _diverged(study: Study, arm: str, seed: int) -> Value:
    folder = study.cell(arm, seed)
    how = ended(read_json(folder / "training.json"), read_records(folder / "metrics.jsonl"), plateau(study))
    return Value(float(how == "diverged"))


def stuck(study: Study, arm: str) -> int:
    """Runs of a trained arm that finished and never got better than word frequencies."""
    count = 0
    for seed in study.settings.seeds:
        training = read_json(study.cell(arm, seed) / "training.json")
        headline = value(study, arm, seed, "nll")
        count += (training["status"] == "finished" and training["steps"] > 0 and headline is not None
                  and value(study, arm, seed, "escape_step") is None)
    return count
