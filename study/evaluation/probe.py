"""The probe stage: can a linear classifier read the label of a text from the vectors of the frozen encoder?

Features are standardised on the training rows. The classifier is multinomial logistic regression; C is chosen by
cross-validation on the training rows, with the same folds for every arm; the test rows are used once. If the training
rows are drawn several times, C is chosen on the first draw and scores are means over the draws. The encoder as
initialised with the same seed, TF-IDF with the same classifier, and the majority class are scored as references.

Shapes: N rows, D draws, H features.
"""
from __future__ import annotations

import json

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from study import StudyError
from study.config.made_with import EVALUATED_WITH, write_made_with
from study.config.schema import Probe, ProbeTask, RunConfig
from study.config.study import Study
from study.data.batches import blocks
from study.data.tokenizer import load
from study.evaluation.baselines import fit_classifier, logistic, read_task, training_rows
from study.evaluation.embedding import PooledStates, embed_layers, load_cell, tokenize, untrained_model
from study.files import save_arrays, write_json
from study.objectives.pretraining_model import PretrainingModel


def probe(study: Study, arm: str, seed: int) -> dict:
    """Probes one cell on every task. Returns the content of probe.json.

    Writes probe.json; probe.npz, with predictions for each test row and points for figures; and evaluated_with.yaml,
    the settings of all scores of the cell.
    """
    import sklearn.decomposition  # noqa: F401  loaded now: the limit on threads holds for libraries that are loaded
    import sklearn.linear_model  # noqa: F401

    config, model = load_cell(study, arm, seed)
    with threadpool_limits(config.training.threads):
        return _probe(study, arm, seed, config, model, untrained_model(config, model, seed))


def _probe(study: Study, arm: str, seed: int, config: RunConfig, model: PretrainingModel,
           untrained: PretrainingModel) -> dict:
    settings, folder, backend = study.settings.probe, study.cell(arm, seed), load(study.runs / "tokenizer")
    result: dict = {}
    arrays: dict[str, np.ndarray] = {}
    for task in settings.tasks:
        frames = {split: read_task(study, task, split) for split in ("train", "test")}
        labels = {split: frame.label.to_numpy() for split, frame in frames.items()}
        draws = training_rows(task, labels["train"], seed)
        dtype = np.min_scalar_type(len(task.labels) - 1)
        scores = {"rows": {"train": len(draws[0]), "test": len(frames["test"])}, "draws": len(draws),
                  "labels": task.labels}
        for name, encoder in (("trained", model), ("untrained", untrained)):
            vectors = {split: _vectors(encoder, backend, frame.text.tolist(), config.examples.max_seq_length, settings)
                       for split, frame in frames.items()}
            of_encoder, predicted = _scores(vectors, labels, draws, settings)
            predicted |= {f"cosine-{pooling}": nearest_labels(getattr(vectors["test"][-1], pooling), labels["test"])
                          for pooling in settings.poolings}
            if name == "trained":
                scores |= {pooling: of_encoder[pooling] for pooling in settings.poolings}
                scores["confusion"] = _confusion(labels["test"], predicted[_main_pooling(settings)].reshape(
                    len(draws), -1)[0], len(task.labels))
            else:
                for pooling in settings.poolings:
                    scores[pooling]["untrained_accuracy"] = of_encoder[pooling]["accuracy"]
            others = {key: value for key, value in of_encoder.items() if key not in settings.poolings}
            scores.setdefault("more", {})[name] = others
            arrays |= {f"{task.name}/{key}/{name}/predicted": row.astype(dtype) for key, row in predicted.items()}
            cls = vectors["test"][-1].cls[:settings.plane_rows]
            arrays[f"{task.name}/cls/{name}/plane"] = principal_plane(cls)
            arrays |= {f"{task.name}/cls/{name}/{kind}": project(cls, kind) for kind in settings.projections}
        arrays[f"{task.name}/label"] = labels["test"].astype(dtype)
        result[task.name] = scores | baselines(study, task)
    save_arrays(arrays, folder / "probe.npz")
    write_json(folder / "probe.json", result)
    write_made_with(study, "evaluate", folder / EVALUATED_WITH)
    return result


def _main_pooling(settings: Probe) -> str:
    return "mean" if "mean" in settings.poolings else settings.poolings[0]


def _scores(vectors: dict[str, list[PooledStates]], labels: dict[str, np.ndarray], draws: list[np.ndarray],
            settings: Probe) -> tuple[dict, dict[str, np.ndarray]]:
    """Scores and test predictions, (N,) or (D, N), of all probes of one encoder.

    These are the poolings of the last layer and, if the settings ask for them, every layer, fewer training rows and
    the controls.
    """
    def fit(layer: int, pooling: str, targets: dict = labels) -> tuple[dict, np.ndarray]:
        return probe_draws(getattr(vectors["train"][layer], pooling), targets["train"],
                           getattr(vectors["test"][layer], pooling), targets["test"], draws, settings)

    scores: dict = {}
    predicted: dict[str, np.ndarray] = {}
    for pooling in settings.poolings:
        scores[pooling], predicted[pooling] = fit(-1, pooling)
    main = _main_pooling(settings)
    if settings.layers == "all":
        scores["layers"] = []
        last = len(vectors["train"]) - 1
        for layer in range(last + 1):
            known = layer == last and "mean" in scores
            score, row = (dict(scores["mean"]), predicted["mean"]) if known else fit(layer, "mean")
            scores["layers"].append(score)
            predicted[f"layer-{layer}"] = row
    first = draws[0]
    train, test = getattr(vectors["train"][-1], main)[first], getattr(vectors["test"][-1], main)
    train_labels = labels["train"][first]
    if settings.train_sizes:
        scores["sizes"] = {str(size): learning_curve(train, train_labels, test, labels["test"], size,
                                                     scores[main]["c"]) for size in settings.train_sizes}
    if settings.controls:
        shuffled = {split: np.random.default_rng([0, number]).permutation(labels[split])
                    for number, split in enumerate(("train", "test"))}
        scores["shuffled"] = fit(-1, main, shuffled)[0]
        scores["tutorial"] = tutorial_probe(vectors["train"][-1].cls[first], train_labels, vectors["test"][-1].cls,
                                            labels["test"])
    return scores, predicted


def probe_draws(train: np.ndarray, train_label: np.ndarray, test: np.ndarray, test_label: np.ndarray,
                draws: list[np.ndarray], settings: Probe) -> tuple[dict, np.ndarray]:
    """Returns the accuracy on the test rows and the predictions: (N,) for one draw, else (D, N).

    The scores are those of `linear_probe` on the first draw. With several draws, the accuracy is their mean, and
    `spread` its standard deviation over the draws.
    """
    first = draws[0]
    scores, predicted = linear_probe(train[first], train_label[first], test, test_label, settings)
    if len(draws) == 1:
        return scores, predicted
    fixed = settings.model_copy(update={"regularization": [scores["c"]]}) if scores["c"] else settings
    rows = [predicted, *(linear_probe(train[draw], train_label[draw], test, test_label, fixed, choose=False)[1]
                         for draw in draws[1:])]
    accuracies = [float((row == test_label).mean()) for row in rows]
    scores |= {"accuracy": float(np.mean(accuracies)), "spread": float(np.std(accuracies, ddof=1))}
    return scores, np.stack(rows)


def nearest_labels(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the label of the nearest other text by cosine similarity, (N,), as a measure without training.

    vectors (N, H); labels (N,) int. The most frequent label if a vector is not finite, as in a diverged run.
    """
    if not np.isfinite(vectors).all():
        return np.full(len(labels), np.bincount(labels).argmax())
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    nearest = np.empty(len(unit), int)
    for block in blocks(len(unit), 1024):
        similarity = unit[block] @ unit.T                                       # (block, N)
        rows = np.arange(len(unit))[block]
        similarity[np.arange(len(rows)), rows] = -np.inf
        nearest[block] = similarity.argmax(1)
    return labels[nearest]


def linear_probe(train: np.ndarray, train_label: np.ndarray, test: np.ndarray, test_label: np.ndarray,
                 settings: Probe, choose: bool = True) -> tuple[dict, np.ndarray]:
    """Returns the accuracy on the test rows, with C chosen on the training rows, and the predictions (N,).

    train, test (N, H) float; labels (N,) int. choose: whether to cross-validate; else the first C is used. If a vector
    is not finite, as in a diverged run, the majority class is predicted.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        predicted = np.full(len(test), np.bincount(train_label).argmax())
        return {"accuracy": float((predicted == test_label).mean()), "c": None, "cv_accuracy": None}, predicted
    return fit_classifier(lambda c: make_pipeline(StandardScaler(), logistic(c)), train, train_label, test, test_label,
                          settings, choose)


def learning_curve(train: np.ndarray, train_label: np.ndarray, test: np.ndarray, test_label: np.ndarray, size: int,
                   c: float | None) -> dict | None:
    """Returns mean and standard deviation of the accuracy over five stratified draws of `size` training rows.

    C is the one chosen on all training rows. None if `c` is None, if a draw would lack a class, or if so many rows
    leave less than one row per class.
    """
    from sklearn.model_selection import StratifiedShuffleSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if c is None or size > len(train) - len(np.unique(train_label)):
        return None
    draws = list(StratifiedShuffleSplit(5, train_size=size, random_state=0).split(train, train_label))
    if any(len(np.unique(train_label[rows])) < len(np.unique(train_label)) for rows, _ in draws):
        return None
    scores = [float(make_pipeline(StandardScaler(), logistic(c)).fit(train[rows], train_label[rows])
                    .score(test, test_label)) for rows, _ in draws]
    return {"accuracy": float(np.mean(scores)), "spread": float(np.std(scores, ddof=1))}


def tutorial_probe(train: np.ndarray, train_label: np.ndarray, test: np.ndarray, test_label: np.ndarray) -> dict:
    """Returns the accuracy of the common tutorial's probe.

    It is a linear layer on the [CLS] vectors, which are not standardised, of the first 2,000 training rows, trained
    with AdamW at 1e-3 for 20 epochs in batches of 64, and scored on the first 500 test rows. Its accuracy depends on
    the scale of the vectors.
    """
    generator = torch.Generator().manual_seed(0)
    x, y = torch.from_numpy(train[:2000]), torch.from_numpy(train_label[:2000].astype(np.int64))
    layer = torch.nn.Linear(x.shape[1], int(train_label.max()) + 1)
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


def principal_plane(vectors: np.ndarray) -> np.ndarray:
    """Returns the first two principal components of vectors (N, H): (N, 2) float32.

    The sign of each is such that its largest loading is positive. All zeros if the vectors are alike, as they are when
    [CLS] sees only itself, or not finite.
    """
    from sklearn.decomposition import PCA

    if not _spread_out(vectors):
        return np.zeros((len(vectors), 2), np.float32)
    return PCA(2, svd_solver="full").fit_transform(vectors.astype(np.float64)).astype(np.float32)


def _spread_out(vectors: np.ndarray) -> bool:
    return bool(np.isfinite(vectors).all()) and np.ptp(vectors, axis=0).max() >= 1e-6


def project(vectors: np.ndarray, kind: str) -> np.ndarray:
    """Returns vectors (N, H) in two dimensions by `tsne` or `umap`, (N, 2) float32; all zeros if they are alike or not
    finite.

    Raises StudyError if UMAP is asked for and its package is missing.
    """
    if not _spread_out(vectors):
        return np.zeros((len(vectors), 2), np.float32)
    if kind == "tsne":
        from sklearn.manifold import TSNE

        return TSNE(perplexity=min(30, (len(vectors) - 1) / 3), random_state=0).fit_transform(vectors)
    try:
        from umap import UMAP
    except ImportError:
        raise StudyError("probe.projections: umap needs the package umap-learn; run `pip install umap-learn`, or leave "
                         "umap out") from None
    return UMAP(random_state=0).fit_transform(vectors).astype(np.float32)


def _vectors(model: PretrainingModel, backend, texts: list[str], length: int, settings: Probe) -> list[PooledStates]:
    return embed_layers(model, tokenize(backend, texts, length), backend.token_to_id("[PAD]"), settings.batch_size)


def baselines(study: Study, task: ProbeTask) -> dict:
    """Returns the scores on a task that need no encoder, which the examples stage wrote. Raises StudyError if they are
    missing or damaged."""
    path = study.runs / "examples" / "baselines.json"
    try:
        return json.loads(path.read_text())[task.name]
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(f"{path}: no usable baselines of {task.name} ({error!r:.80}); run `study examples`") from None
