"""How each metric is computed from the result files of one cell. The metrics themselves are listed in metrics.py.

A measure is a function of (StudyResults, CellResults). It returns a Value, or None if the cell has no such number.
Functions with parameters return a measure. Shapes: N texts (rows of the evaluation set or of the probe's test set).
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from study.analysis import learning
from study.analysis.results import CellResults, StudyResults, headline_probe


@dataclass(frozen=True)
class Value:
    """A metric of one cell. `texts` (N,) holds one number per text, with mean `cell`, where there are such numbers.

    A comparison with numbers per text treats both seeds and texts as random.
    """
    cell: float
    texts: np.ndarray | None = None

    @classmethod
    def of_texts(cls, texts: np.ndarray) -> Value:
        return cls(float(texts.mean()), texts)

    def __sub__(self, other: Value) -> Value:
        if self.texts is None or other.texts is None:
            return Value(self.cell - other.cell)
        return Value.of_texts(self.texts - other.texts)


Measure = Callable[[StudyResults, CellResults], Value | None]


def difference(first: Measure, second: Measure) -> Measure:
    """The first measure minus the second."""
    def measure(results: StudyResults, cell: CellResults) -> Value | None:
        minuend, subtrahend = first(results, cell), second(results, cell)
        return None if minuend is None or subtrahend is None else minuend - subtrahend
    return measure


# ---- masked language modelling

def nll(masks: str) -> Measure:
    """NLL in nats on one of the fixed sets of masks. A diverged run scores no worse than unigram frequencies."""
    def measure(_: StudyResults, cell: CellResults) -> Value | None:
        scores = cell.evaluation[masks]
        if scores is None:
            return None
        if cell.training["status"] == "diverged":
            return Value(min(scores["nll"] or math.inf, scores["unigram_nll"]))
        arrays = cell.evaluation_arrays
        return Value(scores["nll"], arrays[f"{masks}/nll"] / arrays[f"{masks}/tokens"].mean())
    return measure


def nll_at(corruption: str) -> Measure:
    """NLL in nats at one kind of corrupted token under 80/10/10."""
    def measure(_: StudyResults, cell: CellResults) -> Value | None:
        scores = (cell.evaluation["mixed"] or {"by_kind": {}})["by_kind"].get(corruption)
        return Value(scores["nll"]) if scores else None
    return measure


def initial_excess(_: StudyResults, cell: CellResults) -> Value | None:
    """Validation NLL before the first step minus that of a uniform guess, in nats."""
    scores, first = cell.evaluation["mask_only"], cell.records[0]
    if scores is None or first["step"] or "validation_nll" not in first:
        return None
    return Value(first["validation_nll"] - scores["uniform_nll"])


def escape_step(results: StudyResults, cell: CellResults) -> Value | None:
    """The step at which the run has left the unigram plateau (learning.py); None if it never does."""
    step = learning.learning_curve(results, cell).escape_step
    return None if step is None else Value(float(step))


def diverged(results: StudyResults, cell: CellResults) -> Value:
    """1 if the run diverged, else 0."""
    return Value(float(learning.run_status(results, cell) == "diverged"))


# ---- probes of the first task

def probe(pooling: str | None = None, encoder: str = "trained") -> Measure:
    """Accuracy of the linear probe, as a share. pooling None: the headline pooling."""
    def measure(results: StudyResults, cell: CellResults) -> Value | None:
        task, headline = headline_probe(results.study)
        return _probe_accuracy(cell, task, pooling or headline, encoder)
    return measure


def _probe_accuracy(cell: CellResults, task: str, features: str, encoder: str = "trained") -> Value | None:
    arrays, key = cell.probe_arrays, f"{task}/{features}/{encoder}/predicted"
    if key not in arrays:
        return None
    return Value.of_texts((arrays[key] == arrays[f"{task}/label"]).astype(float))


def probe_chosen(results: StudyResults, cell: CellResults) -> Value | None:
    """Probe accuracy at the layer that cross-validation on the training rows chooses."""
    task, chosen = headline_probe(results.study).task, chosen_layer(results, cell)
    return None if chosen is None else _probe_accuracy(cell, task, f"layer-{chosen[0]}")


def chosen_layer(results: StudyResults, cell: CellResults) -> tuple[int, float] | None:
    """The layer (0: embeddings) that cross-validation on the training rows chooses, and the probe accuracy there.

    None if layers were not probed, or if no layer of a diverged run could be probed.
    """
    layers = cell.probe[headline_probe(results.study).task].get("more", {}).get("trained", {}).get("layers", [])
    probed = [number for number, layer in enumerate(layers) if layer["cv_accuracy"] is not None]
    if not probed:
        return None
    chosen = max(probed, key=lambda number: layers[number]["cv_accuracy"])
    return chosen, layers[chosen]["accuracy"]


def penultimate_over_last(results: StudyResults, cell: CellResults) -> Value | None:
    """Probe accuracy at the last layer but one minus that at the last layer."""
    task = headline_probe(results.study).task
    keys = [key.split("/")[1] for key in cell.probe_arrays if key.startswith(f"{task}/layer-")]
    layers = sorted(set(keys), key=lambda key: int(key.removeprefix("layer-")))[-2:]
    accuracies = [_probe_accuracy(cell, task, layer) for layer in layers]
    if len(accuracies) < 2 or None in accuracies:
        return None
    return accuracies[0] - accuracies[1]


def over_tfidf(results: StudyResults, cell: CellResults) -> Value | None:
    """Probe accuracy minus that of TF-IDF features, which is taken as known without error."""
    accuracy = probe()(results, cell)
    if accuracy is None:
        return None
    level = cell.probe[headline_probe(results.study).task]["tfidf"]["accuracy"]
    return Value(accuracy.cell - level, accuracy.texts - level)


def selectivity(results: StudyResults, cell: CellResults) -> Value | None:
    """Probe accuracy minus that of a probe trained on shuffled labels (Hewitt and Liang 2019)."""
    task, pooling = headline_probe(results.study)
    shuffled = _control(cell, task, "trained", "shuffled")
    return None if shuffled is None else Value(cell.probe[task][pooling]["accuracy"] - shuffled)


def tutorial_probe(encoder: str) -> Measure:
    """Accuracy of the probe as the common tutorial builds it, as a share."""
    def measure(results: StudyResults, cell: CellResults) -> Value | None:
        accuracy = _control(cell, headline_probe(results.study).task, encoder, "tutorial")
        return None if accuracy is None else Value(accuracy)
    return measure


def _control(cell: CellResults, task: str, encoder: str, name: str) -> float | None:
    controls = cell.probe[task].get("more", {}).get(encoder, {})
    return controls[name]["accuracy"] if name in controls else None


def plane_share(results: StudyResults, cell: CellResults) -> Value:
    """Between-class share of the variance on the principal plane of the [CLS] vectors, trained minus untrained."""
    arrays, task = cell.probe_arrays, headline_probe(results.study).task
    trained, untrained = (between_share(arrays[f"{task}/cls/{encoder}/plane"], arrays[f"{task}/label"])
                          for encoder in ("trained", "untrained"))
    return Value(trained - untrained)


def between_share(points: np.ndarray, labels: np.ndarray) -> float:
    """Share of the variance of points (n, 2) that is between the means of their classes; labels (at least n,)."""
    labels, points = labels[:len(points)], points.astype(float)
    total = ((points - points.mean(0))**2).sum()
    between = sum((labels == c).sum() * ((points[labels == c].mean(0) - points.mean(0))**2).sum()
                  for c in np.unique(labels))
    return float(between / total) if total > 0 else 0.0


# ---- sentence pairs

def sentence_accuracy(task: str, over_chance: bool = False) -> Measure:
    """Accuracy on sentence pairs (task nsp or sop), or that minus the share of the commoner class."""
    def measure(_: StudyResults, cell: CellResults) -> Value | None:
        scores = cell.evaluation[task]
        if scores is None:
            return None
        chance = scores["base_rate"] if over_chance else 0.0
        return Value.of_texts((cell.evaluation_arrays[f"{task}/correct"] - chance).astype(float))
    return measure


def below_ceiling(task: str) -> Measure:
    """Accuracy of the best possible classifier on sentence pairs (task nsp or sop) minus that of the model; None if it
    is unknown."""
    def measure(_: StudyResults, cell: CellResults) -> Value | None:
        if (cell.evaluation[task] or {}).get("ceiling") is None:
            return None
        arrays = cell.evaluation_arrays
        return Value.of_texts(arrays[f"{task}/best_correct"].astype(float) - arrays[f"{task}/correct"])
    return measure
