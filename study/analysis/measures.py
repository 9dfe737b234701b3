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
class Sample:
    """Test rows whose results are not known one by one: their number, and the largest variance that they may add to a
    metric. It is that of a binomial share, and of the sum of two for a difference."""
    variance: float
    rows: int


@dataclass(frozen=True)
class Value:
    """A metric of one cell. `texts` (N,) holds one number per document, with mean `cell`, where there are such numbers.

    A comparison with numbers per document treats both seeds and documents as random. The rows of one document are not
    independent, so they share a number. Where only the number of test rows is known, `sample` is what they add.
    """
    cell: float
    texts: np.ndarray | None = None
    sample: Sample | None = None

    @classmethod
    def of_texts(cls, texts: np.ndarray) -> Value:
        return cls(float(texts.mean()), texts)

    @classmethod
    def of_rows(cls, sums: np.ndarray, counts: np.ndarray, documents: np.ndarray | None) -> Value:
        """The mean of sums (N,) over counts (N,) per row, with a number per document.

        With D documents of sums s and counts t, and the mean m, that of a document is m + D (s - m t) / sum(t): the
        linear approximation of a ratio, whose mean is m. documents (N,): of each row; None: each row is one.
        """
        if documents is not None:
            _, index = np.unique(documents, return_inverse=True)
            sums, counts = np.bincount(index, weights=sums), np.bincount(index, weights=counts)
        mean = float(sums.sum() / counts.sum())
        return cls(mean, mean + len(sums) * (sums - mean * counts) / counts.sum())

    def __sub__(self, other: Value) -> Value:
        if self.texts is not None and other.texts is not None:
            return Value.of_texts(self.texts - other.texts)
        samples = self.sample, other.sample
        both = None if None in samples else Sample(sum(sample.variance for sample in samples), self.sample.rows)
        return Value(self.cell - other.cell, sample=both)


Measure = Callable[[StudyResults, CellResults], Value | None]


def difference(first: Measure, second: Measure) -> Measure:
    """The first measure minus the second."""
    def measure(results: StudyResults, cell: CellResults) -> Value | None:
        minuend, subtrahend = first(results, cell), second(results, cell)
        return None if minuend is None or subtrahend is None else minuend - subtrahend
    return measure


# ---- masked language modelling

def nll(masks: str) -> Measure:
    """NLL in nats on one of the fixed sets of masks. A diverged run scores no worse than unigram frequencies; one that
    overfits keeps its NLL."""
    def measure(results: StudyResults, cell: CellResults) -> Value | None:
        scores = cell.evaluation[masks]
        if scores is None:
            return None
        if learning.run_status(results, cell) == "diverged":
            return Value(min(scores["nll"] or math.inf, scores["unigram_nll"]))
        arrays, rows = cell.evaluation_arrays, "nsp/documents" if masks.endswith("_pairs") else "documents"
        value = Value.of_rows(arrays[f"{masks}/nll"], arrays[f"{masks}/tokens"], arrays.get(rows))
        return Value(scores["nll"], value.texts)
    return measure


def nll_at(corruption: str) -> Measure:
    """NLL in nats at one kind of corrupted token under 80/10/10."""
    def measure(_: StudyResults, cell: CellResults) -> Value | None:
        scores = (cell.evaluation["mixed"] or {"by_kind": {}})["by_kind"].get(corruption)
        return None if not scores or scores["nll"] is None else Value(scores["nll"])
    return measure


def escape_tokens(results: StudyResults, cell: CellResults) -> Value | None:
    """The training tokens, without padding, that the run has seen when it leaves the plateau, if all its steps have as
    many; None if it never does."""
    step = learning.learning_curve(results, cell).escape_step
    return None if step is None else Value(step * cell.training["tokens"] / cell.training["steps"])


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


def remasked_nll(step: int) -> Measure:
    """NLL in nats of the validation with new masks (`examples.remasked`) at a step."""
    def measure(_: StudyResults, cell: CellResults) -> Value | None:
        values = [record["remasked_nll"] for record in cell.records
                  if record["step"] == step and "remasked_nll" in record]
        return Value(values[-1]) if values else None
    return measure


def diverged(results: StudyResults, cell: CellResults) -> Value:
    """1 if the run diverged, else 0."""
    return Value(float(learning.run_status(results, cell) == "diverged"))


# ---- probes of the first task

def probe(encoder: str = "trained") -> Measure:
    """Accuracy of the linear probe, as a share: mean pooling at the layer that cross-validation chooses. The last layer
    where only that one was probed, or where no layer of a diverged run could be."""
    def measure(results: StudyResults, cell: CellResults) -> Value | None:
        task, pooling = headline_probe(results.study)
        chosen = chosen_layer(results, cell, encoder)
        return _probe_accuracy(cell, task, pooling if chosen is None else f"layer-{chosen[0]}", encoder)
    return measure


def last_layer(features: str | None = None, encoder: str = "trained") -> Measure:
    """Accuracy on the vectors of the last layer, as a share. features: cls, mean, or cosine-cls and cosine-mean for the
    nearest neighbour by cosine similarity; None: the headline pooling."""
    def measure(results: StudyResults, cell: CellResults) -> Value | None:
        task, headline = headline_probe(results.study)
        return _probe_accuracy(cell, task, features or headline, encoder)
    return measure


def _probe_accuracy(cell: CellResults, task: str, features: str, encoder: str = "trained") -> Value | None:
    arrays, key = cell.probe_arrays, f"{task}/{features}/{encoder}/predicted"
    if key not in arrays:
        return None
    right = (arrays[key] == arrays[f"{task}/label"]).astype(float)     # (N,) or (draws, N)
    return Value.of_texts(right.reshape(-1, right.shape[-1]).mean(0))


def chosen_layer(results: StudyResults, cell: CellResults, encoder: str = "trained") -> tuple[int, float] | None:
    """The layer (0: embeddings) that cross-validation on the training rows chooses, and the probe accuracy there.

    None if layers were not probed, or if no layer of a diverged run could be probed.
    """
    layers = cell.probe[headline_probe(results.study).task].get("more", {}).get(encoder, {}).get("layers", [])
    probed = [number for number, layer in enumerate(layers) if layer["cv_accuracy"] is not None]
    if not probed:
        return None
    chosen = max(probed, key=lambda number: layers[number]["cv_accuracy"])
    return chosen, layers[chosen]["accuracy"]


def penultimate_over_last(results: StudyResults, cell: CellResults) -> Value | None:
    """Probe accuracy at the last layer but one minus that at the last layer."""
    task = headline_probe(results.study).task
    keys = [key.split("/")[1] for key in cell.probe_arrays
            if key.startswith(f"{task}/layer-") and key.endswith("/trained/predicted")]
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
    task, pooling = headline_probe(results.study)           # the last layer, as the control
    shuffled = _control(cell, task, "trained", "shuffled")
    return None if shuffled is None else Value(cell.probe[task][pooling]["accuracy"] - shuffled["accuracy"])


def tutorial_probe(encoder: str) -> Measure:
    """Accuracy of the probe as the common tutorial builds it, as a share."""
    def measure(results: StudyResults, cell: CellResults) -> Value | None:
        scores = _control(cell, headline_probe(results.study).task, encoder, "tutorial")
        if scores is None:
            return None
        accuracy, (_, rows) = scores["accuracy"], scores["rows"]
        return Value(accuracy, sample=Sample(accuracy * (1 - accuracy) / rows, rows))
    return measure


def _control(cell: CellResults, task: str, encoder: str, name: str) -> dict | None:
    """The scores of a control of the probe; None if it was not probed."""
    return cell.probe[task].get("more", {}).get(encoder, {}).get(name)


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


# ---- words with two senses

def sense_gap(encoder: str) -> Measure:
    """Mean cosine distance between the senses of a word minus that within a sense (study/evaluation/senses.py). Its
    texts are the words. encoder: trained or untrained. None where it was not measured."""
    def measure(_: StudyResults, cell: CellResults) -> Value | None:
        gaps = cell.evaluation_arrays.get(f"senses/{encoder}")
        return None if gaps is None else Value.of_texts(gaps)
    return measure


# ---- sentence pairs

def sentence_accuracy(task: str, over_chance: bool = False) -> Measure:
    """Accuracy on sentence pairs (task nsp or sop), or that minus the share of the commoner class."""
    def measure(_: StudyResults, cell: CellResults) -> Value | None:
        scores = cell.evaluation[task]
        if scores is None:
            return None
        chance = scores["base_rate"] if over_chance else 0.0
        arrays = cell.evaluation_arrays
        right = (arrays[f"{task}/correct"] - chance).astype(float)
        return Value.of_rows(right, np.ones(len(right)), arrays.get(f"{task}/documents"))
    return measure


def below_ceiling(task: str) -> Measure:
    """Accuracy of the best possible classifier on sentence pairs (task nsp or sop) minus that of the model; None if it
    is unknown."""
    def measure(_: StudyResults, cell: CellResults) -> Value | None:
        if (cell.evaluation[task] or {}).get("ceiling") is None:
            return None
        arrays = cell.evaluation_arrays
        missed = arrays[f"{task}/best_correct"].astype(float) - arrays[f"{task}/correct"]
        return Value.of_rows(missed, np.ones(len(missed)), arrays.get(f"{task}/documents"))
    return measure
