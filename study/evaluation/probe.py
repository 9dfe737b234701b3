"""Linear probes of the frozen encoder: is the label of a text there for a straight line to read?

Features are standardised on the training rows; multinomial logistic regression; C chosen by cross-validation on the
training rows, in folds that all arms share; one look at the test rows. The same for the encoder as initialised at the
same seed. TF-IDF with the same classifier, and the majority class, stand beside it.
"""
from __future__ import annotations

import json

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from study import StudyError
from study.config.load import Study
from study.config.schema import Probe, ProbeTask, RunConfig
from study.data.evaluation_sets import save_arrays
from study.data.tokenizer import load
from study.evaluation.baselines import fit_classifier, logistic, read_task
from study.evaluation.embedding import embed_layers, load_cell, tokenize
from study.files import write_json
from study.model.heads import PretrainingModel, new_model


def probe(study: Study, arm: str, seed: int) -> dict:
    """Probes one cell on every task. Writes probe.json and probe.npz (correctness a test row, vectors for figures)."""
    config, model = load_cell(study, arm, seed)
    own = seed + config.training.seed_offset
    untrained = new_model(config, model.encoder.token.num_embeddings, own).to(model.words.bias.device).eval()
    with threadpool_limits(config.training.threads):
        return _probe(study, arm, seed, config, model, untrained)


def _probe(study: Study, arm: str, seed: int, config: RunConfig, model: PretrainingModel,
           untrained: PretrainingModel) -> dict:
    settings, folder, backend = study.settings.probe, study.cell(arm, seed), load(study.runs / "tokenizer")
    result: dict = {}
    arrays: dict[str, np.ndarray] = {}
    for task in settings.tasks:
        frames = {split: read_task(study, task, split) for split in ("train", "test")}
        labels = {split: frame.label.to_numpy() for split, frame in frames.items()}
        scores = {"rows": {split: len(frame) for split, frame in frames.items()}, "labels": task.labels}
        for name, encoder in (("trained", model), ("untrained", untrained)):
            vectors = {split: _vectors(encoder, backend, frame.text.tolist(), config.examples.max_seq_length, settings)
                       for split, frame in frames.items()}
            found, predicted = _read(vectors, labels, settings, name)
            if name == "trained":
                scores |= {pooling: found[pooling] for pooling in settings.poolings}
                scores["confusion"] = _confusion(labels["test"], predicted[_main(settings)], len(task.labels))
            else:
                for pooling in settings.poolings:
                    scores[pooling]["untrained_accuracy"] = found[pooling]["accuracy"]
            scores.setdefault("more", {})[name] = {k: v for k, v in found.items() if k not in settings.poolings}
            arrays |= {f"{task.name}/{key}/{name}/predicted": row.astype(np.uint8) for key, row in predicted.items()}
            drawn = planes(vectors["test"][-1].cls)
            arrays |= {f"{task.name}/cls/{name}/{key}": points for key, points in drawn.items()}
        arrays[f"{task.name}/label"] = labels["test"].astype(np.uint8)
        result[task.name] = scores | baselines(study, task)
    save_arrays(arrays, folder / "probe.npz")
    write_json(folder / "probe.json", result)
    return result


def _main(settings: Probe) -> str:
    return "mean" if "mean" in settings.poolings else settings.poolings[0]


def _read(vectors: dict, labels: dict, settings: Probe, name: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Scores and predictions of everything that is read from one encoder: poolings of the last layer and, as the
    settings ask, every layer, fewer training rows and the controls."""
    def fit(layer: int, pooling: str, of: dict = labels) -> tuple[dict, np.ndarray]:
        return linear_probe(getattr(vectors["train"][layer], pooling), of["train"],
                            getattr(vectors["test"][layer], pooling), of["test"], settings)

    found: dict = {}
    predicted: dict[str, np.ndarray] = {}
    for pooling in settings.poolings:
        found[pooling], predicted[pooling] = fit(-1, pooling)
    if settings.layers == "all" and name == "trained":
        found["layers"] = []
        for layer in range(len(vectors["train"])):
            score, predicted[f"layer-{layer}"] = fit(layer, "mean")
            found["layers"].append(score)
    train, test = (getattr(vectors[split][-1], _main(settings)) for split in ("train", "test"))
    if settings.train_sizes:
        found["sizes"] = {str(size): learning_curve(train, labels["train"], test, labels["test"], size,
                                                    found[_main(settings)]["c"]) for size in settings.train_sizes}
    if settings.controls:
        shuffled = {split: np.random.default_rng([0, number]).permutation(labels[split])
                    for number, split in enumerate(("train", "test"))}
        found["shuffled"] = fit(-1, _main(settings), shuffled)[0]
        found["tutorial"] = tutorial_probe(vectors["train"][-1].cls, labels["train"], vectors["test"][-1].cls,
                                           labels["test"])
    return found, predicted


def learning_curve(train: np.ndarray, train_label: np.ndarray, test: np.ndarray, test_label: np.ndarray, size: int,
                   c: float | None) -> dict | None:
    """Accuracy with `size` training rows at the C that was chosen on all: mean and spread over five stratified draws;
    None where so many rows do not leave one of each class, or none can be read."""
    from sklearn.model_selection import StratifiedShuffleSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if c is None or size > len(train) - len(np.unique(train_label)):
        return None
    draws = StratifiedShuffleSplit(5, train_size=size, random_state=0).split(train, train_label)
    scores = [float(make_pipeline(StandardScaler(), logistic(c)).fit(train[rows], train_label[rows])
                    .score(test, test_label)) for rows, _ in draws]
    return {"accuracy": float(np.mean(scores)), "spread": float(np.std(scores, ddof=1))}


def tutorial_probe(train: np.ndarray, train_label: np.ndarray, test: np.ndarray, test_label: np.ndarray) -> dict:
    """The common tutorial's probe as it stands: a linear layer on raw [CLS] vectors of the first 2,000 training rows,
    AdamW at 1e-3, 20 passes in batches of 64, accuracy on the first 500 test rows. What it reads depends on the scale
    of the vectors."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.from_numpy(train[:2000]), torch.from_numpy(train_label[:2000].astype(np.int64))
    classes = int(train_label.max()) + 1
    layer = torch.nn.Linear(x.shape[1], classes)
    with torch.no_grad():
        bound = x.shape[1] ** -0.5
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    for _ in range(20):
        for rows in torch.randperm(len(x), generator=generator).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(x[rows]), y[rows]).backward()
            optimizer.step()
    with torch.inference_mode():
        predicted = layer(torch.from_numpy(test[:500])).argmax(-1).numpy()
    return {"accuracy": float((predicted == test_label[:500]).mean()), "rows": [len(x), len(predicted)]}


def _confusion(label: np.ndarray, predicted: np.ndarray, classes: int) -> list[list[int]]:
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(label, predicted, labels=range(classes)).tolist()


def planes(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Points (rows, 2) of the first vectors on their principal plane and by t-SNE (of fewer: it is slow), which keeps
    neighbours together and nothing else; no t-SNE where the vectors are alike."""
    found = {"plane": principal_plane(vectors[:POINTS])}
    if found["plane"].any():
        from sklearn.manifold import TSNE

        few = vectors[:NEIGHBOURS].astype(np.float64)
        drawn = TSNE(2, perplexity=min(30.0, (len(few) - 1) / 3), max_iter=500, init="pca", random_state=0)
        found["tsne"] = drawn.fit_transform(few).astype(np.float32)
    return found


POINTS, NEIGHBOURS = 400, 200               # test rows whose [CLS] vectors are drawn in the report


def _vectors(model: PretrainingModel, backend, texts: list[str], length: int, settings: Probe):
    return embed_layers(model, tokenize(backend, texts, length), backend.token_to_id("[PAD]"), settings.batch_size)


def baselines(study: Study, task: ProbeTask) -> dict:
    """Accuracies that need no encoder, as the examples stage wrote them."""
    path = study.runs / "examples" / "baselines.json"
    try:
        return json.loads(path.read_text())[task.name]
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(f"{path}: no usable baselines of {task.name} ({error!r:.80}); run `study examples`") from None


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
