"""Linear probes of the frozen encoder: is the label of a text there for a straight line to read?

Features are standardised on the training rows; multinomial logistic regression; C chosen by cross-validation on the
training rows, in folds that all arms share; one look at the test rows. The same for the encoder as initialised at the
same seed. TF-IDF with the same classifier, and the majority class, stand beside it.
"""
from __future__ import annotations

import json

import numpy as np
from threadpoolctl import threadpool_limits

from study.config import Loaded
from study.data.heldout import save_arrays
from study.data.tokenizer import load
from study.evaluation.baselines import fit_classifier, logistic, read_task
from study.evaluation.embedding import embed, load_cell, tokenize
from study.model.heads import PretrainingModel, new_model
from study.schema import Cell, Probe, ProbeTask


def probe(study: Loaded, arm: str, seed: int) -> dict:
    """Probes one cell on every task. Writes probe.json and probe.npz (correctness a test row, vectors for figures)."""
    cell, model = load_cell(study, arm, seed)
    own = seed + cell.training.seed_offset
    untrained = new_model(cell, model.encoder.token.num_embeddings, own).to(model.words.bias.device).eval()
    with threadpool_limits(cell.training.threads):
        return _probe(study, arm, seed, cell, model, untrained)


def _probe(study: Loaded, arm: str, seed: int, cell: Cell, model: PretrainingModel,
           untrained: PretrainingModel) -> dict:
    settings, folder, backend = study.settings.probe, study.cell(arm, seed), load(study.runs / "tokenizer")
    result: dict = {}
    arrays: dict[str, np.ndarray] = {}
    for task in settings.tasks:
        train, test = read_task(study, task, "train"), read_task(study, task, "test")
        scores = {"rows": {"train": len(train), "test": len(test)}, "labels": task.labels}
        for name, encoder in (("trained", model), ("untrained", untrained)):
            vectors = {split: _vectors(encoder, backend, frame.text.tolist(), cell.examples.length, settings)
                       for split, frame in (("train", train), ("test", test))}
            for pooling in settings.poolings:
                score, predicted = linear_probe(getattr(vectors["train"], pooling), train.label.to_numpy(),
                                                getattr(vectors["test"], pooling), test.label.to_numpy(), settings)
                scores.setdefault(pooling, {})[name] = score
                arrays[f"{task.name}/{pooling}/{name}/predicted"] = predicted.astype(np.uint8)
            arrays[f"{task.name}/cls/{name}/plane"] = principal_plane(vectors["test"].cls[:POINTS])
        for pooling in settings.poolings:
            scores[pooling] = {**scores[pooling]["trained"],
                               "untrained_accuracy": scores[pooling]["untrained"]["accuracy"]}
        arrays[f"{task.name}/label"] = test.label.to_numpy().astype(np.uint8)
        result[task.name] = scores | baselines(study, task)
    save_arrays(arrays, folder / "probe.npz")
    (folder / "probe.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


POINTS = 400                                # test rows whose [CLS] vectors are drawn in the report


def _vectors(model: PretrainingModel, backend, texts: list[str], length: int, settings: Probe):
    return embed(model, tokenize(backend, texts, length), backend.token_to_id("[PAD]"), settings.batch_size)


def baselines(study: Loaded, task: ProbeTask) -> dict:
    """Accuracies that need no encoder, as the examples stage wrote them."""
    content = json.loads((study.runs / "examples" / "baselines.json").read_text())
    return content[task.name]


def linear_probe(train: np.ndarray, train_label: np.ndarray, test: np.ndarray, test_label: np.ndarray,
                 settings: Probe) -> tuple[dict, np.ndarray]:
    """Accuracy on the test rows with C chosen on the training rows, and the predictions (rows,).

    train, test (rows, features) float; labels (rows,) int.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not (np.isfinite(train).all() and np.isfinite(test).all()):      # of a diverged run: nothing can be read
        predicted = np.full(len(test), np.bincount(train_label).argmax())
        return {"accuracy": float((predicted == test_label).mean()), "c": None, "cv_accuracy": None}, predicted
    return fit_classifier(lambda c: make_pipeline(StandardScaler(), logistic(c)), train, train_label, test, test_label,
                          settings)


def principal_plane(vectors: np.ndarray) -> np.ndarray:
    """The first two principal components (rows, 2) float32, each turned so that its largest loading is positive; zeros
    where all vectors are alike, as those of a [CLS] that sees nothing but itself, or no numbers."""
    from sklearn.decomposition import PCA

    if not np.isfinite(vectors).all() or np.ptp(vectors, axis=0).max() < 1e-6:
        return np.zeros((len(vectors), 2), np.float32)
    return PCA(2, svd_solver="full").fit_transform(vectors.astype(np.float64)).astype(np.float32)
