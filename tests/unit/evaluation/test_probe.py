"""Pooled vectors, and probes that read what is in them and nothing else."""
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from study import StudyError
from study.config.arms import resolve
from study.evaluation import probe as probe_module
from study.evaluation.baselines import training_rows
from study.evaluation.embedding import PooledStates, embed_layers, tokenize
from study.evaluation.probe import (
    learning_curve,
    linear_probe,
    nearest_labels,
    principal_plane,
    probe_draws,
    project,
    tutorial_probe,
)
from study.objectives.pretraining_model import new_model
from tests.support.studies import changed


@pytest.fixture
def model(config, tokenizer):
    return new_model(config, tokenizer.vocabulary_size, seed=0).eval()


def labelled(rows=240, width=16, classes=4, distance=1.5, seed=0):
    """Vectors (rows, width) float32 whose class means are `distance` from the origin, and their labels (rows,)."""
    rng = np.random.default_rng(seed)
    label = np.arange(rows) % classes
    return (rng.normal(size=(rows, width)) + distance * np.eye(width)[label]).astype(np.float32), label


def test_vectors_do_not_depend_on_batches(model, backend):
    rows = tokenize(backend, ["ba de fi", "go", "lu ma ne pi ro su tan vek ba de go", "fi fi"], 32)
    at_once, one_by_one = (embed_layers(model, rows, 0, size)[-1] for size in (4, 1))
    np.testing.assert_allclose(at_once.cls, one_by_one.cls, atol=1e-5)
    np.testing.assert_allclose(at_once.mean, one_by_one.mean, atol=1e-5)
    backwards = embed_layers(model, rows[::-1], 0, 2)[-1]
    np.testing.assert_allclose(backwards.mean[::-1], at_once.mean, atol=1e-5)


def test_pooled_vectors_are_means_over_the_tokens_of_the_text(model, backend):
    rows = tokenize(backend, ["ba de fi", "lu ma ne pi ro su tan vek ba de go"], 32)
    pooled = embed_layers(model, rows, 0, 2)[-1]
    for index, row in enumerate(rows):
        ids = torch.tensor([row])
        with torch.inference_mode():
            states = model.encoder(ids, torch.zeros_like(ids))[0].numpy()
        np.testing.assert_allclose(pooled.cls[index], states[0], atol=1e-5)
        np.testing.assert_allclose(pooled.mean[index], states[1:-1].mean(0), atol=1e-5)


def test_a_long_text_is_truncated_before_its_last_special_token(backend):
    (row,) = tokenize(backend, ["ba de fi go " * 20], 16)
    whole = backend.encode("ba de fi go " * 20).ids
    assert row == [*whole[:15], backend.token_to_id("[SEP]")]


def test_a_probe_reads_a_linear_signal_and_no_noise(study):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    features = rng.normal(size=(300, 8))
    noise, _ = linear_probe(features[:200], labels[:200], features[200:], labels[200:], study.settings.probe)
    assert noise["accuracy"] < 0.55
    features[np.arange(300), labels] += 20
    score, predicted = linear_probe(features[:200], labels[:200], features[200:], labels[200:], study.settings.probe)
    assert score["accuracy"] == 1.0
    assert (predicted == labels[200:]).all()
    assert score["c"] in study.settings.probe.regularization


def test_shuffled_labels_cannot_be_read(study):
    x, y = labelled(1600)
    rng = np.random.default_rng(1)
    score, _ = linear_probe(x[:800], rng.permutation(y[:800]), x[800:], rng.permutation(y[800:]), study.settings.probe)
    assert 0.18 < score["accuracy"] < 0.32


def test_vectors_of_a_diverged_run_give_the_majority_class(study):
    x, y = labelled(80)
    x[3] = np.nan
    score, predicted = linear_probe(x[:40], np.minimum(y[:40], 1), x[40:], y[40:], study.settings.probe)
    assert (predicted == 1).all()
    assert score["c"] is None
    assert score["accuracy"] == pytest.approx(0.25)


def test_more_training_rows_give_a_higher_accuracy():
    x, y = labelled(1200)
    few, many = (learning_curve(x[:800], y[:800], x[800:], y[800:], size, 1.0) for size in (16, 400))
    assert few["accuracy"] + 2 * few["spread"] < many["accuracy"]
    assert learning_curve(x[:80], y[:80], x[800:], y[800:], 80, 1.0) is None
    assert learning_curve(x[:80], y[:80], x[800:], y[800:], 40, None) is None
    rare = np.repeat([0, 1], [990, 10])     # a draw of 16 rows has none of the second class
    assert learning_curve(x[:1000], rare, x[1000:], y[1000:], 16, 1.0) is None
    assert learning_curve(x[:1000], rare, x[1000:], y[1000:], 500, 1.0) is not None


def test_the_tutorials_probe_depends_on_the_scale_of_the_features():
    x, y = labelled(2600)
    large, repeated, small = (tutorial_probe(scale * x[:2000], y[:2000], scale * x[2000:], y[2000:])
                              for scale in (1.0, 1.0, 0.001))
    assert large == repeated
    assert large["rows"] == [2000, 500]
    assert large["accuracy"] > 0.6
    assert small["accuracy"] < large["accuracy"] - 0.1


def test_the_principal_plane_has_the_largest_variance():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(100, 5)) * np.array([9, 4, 1, 1, 1])
    plane = principal_plane(points)
    assert plane.shape == (100, 2)
    assert plane.var(0).sum() / points.var(0).sum() > 0.9


def test_tsne_keeps_clusters_apart_and_is_the_same_every_time():
    points, label = labelled(distance=12.0)
    plane = project(points, "tsne")
    assert (plane.shape, plane.dtype) == ((240, 2), np.float32)
    assert (nearest_labels(plane - plane.mean(0), label) == label).mean() > 0.95
    np.testing.assert_array_equal(plane, project(points, "tsne"))
    assert not project(np.full((50, 4), np.nan, np.float32), "tsne").any()
    assert project(points[:5], "tsne").shape == (5, 2)
    assert project(points[:1], "tsne").tolist() == [[0, 0]]


def test_umap_is_used_where_its_package_is_installed(monkeypatch):
    class UMAP:
        def __init__(self, random_state):
            assert random_state == 0

        def fit_transform(self, vectors):
            return vectors[:, :2].astype(float)

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    assert project(labelled()[0], "umap").shape == (240, 2)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(StudyError, match="pip install umap-learn"):
        project(labelled()[0], "umap")


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_vectors_that_are_alike_or_not_finite_have_no_plane(value):
    assert not principal_plane(np.full((50, 4), value, np.float32)).any()
    assert not project(np.full((50, 4), value, np.float32), "tsne").any()


@pytest.mark.parametrize(("classes", "dtype"), [(256, np.uint8), (257, np.uint16)])
def test_the_file_of_a_cell_holds_every_class(study, tmp_path, monkeypatch, classes, dtype):
    labels = np.arange(classes)
    states = PooledStates(cls=np.zeros((classes, 4), np.float32), mean=np.zeros((classes, 4), np.float32))
    accuracies = {pooling: {"accuracy": 1.0} for pooling in study.settings.probe.poolings}
    for name, value in {"load": None, "read_task": pd.DataFrame({"text": "a", "label": labels}),
                        "training_rows": [labels], "_vectors": [states], "baselines": {}, "write_made_with": None,
                        "_scores": (accuracies, dict.fromkeys(accuracies, labels))}.items():
        monkeypatch.setattr(probe_module, name, lambda *_, value=value: value)
    task = task_of(study, path="nobody/words", labels=[str(label) for label in labels])
    settings = changed(study.settings, probe={"tasks": [task], "train_sizes": []})
    other = study.model_copy(update={"folder": tmp_path, "settings": settings})
    other.cell("dynamic", 0).mkdir(parents=True)
    probe_module._probe(other, "dynamic", 0, resolve(study, "dynamic"), None, None)
    arrays = np.load(other.cell("dynamic", 0) / "probe.npz")
    for name in ("label", "mean/trained/predicted"):
        assert arrays[f"{task.name}/{name}"].dtype == dtype
        assert (arrays[f"{task.name}/{name}"] == labels).all()


# ---- several draws of training rows, and the nearest neighbour

def task_of(study, **changes):
    return study.settings.probe.tasks[0].model_copy(update=changes)


def test_one_draw_has_all_rows(study):
    labels = np.arange(40) % 4
    assert [rows.tolist() for rows in training_rows(task_of(study, draws=1), labels, 3)] == [list(range(40))]


def test_draws_differ_between_seeds_and_agree_between_arms(study):
    labels, task = np.arange(60) % 4, task_of(study, draws=3, train_rows=20)
    draws = {seed: training_rows(task, labels, seed) for seed in (0, 1)}
    for rows in (*draws[0], *draws[1]):
        assert len(np.unique(rows)) == 20
        assert np.bincount(labels[rows]).tolist() == [5, 5, 5, 5]
    chosen = {tuple(rows) for seed in draws for rows in draws[seed]}
    assert len(chosen) == 6
    assert all((a == b).all() for a, b in zip(draws[1], training_rows(task, labels, 1), strict=True))


def test_a_draw_leaves_out_one_row_per_class(study):
    """With fewer rows in the pool, the corpus stage refuses the setting."""
    labels = np.arange(44) % 4
    draws = training_rows(task_of(study, draws=5, train_rows=40), labels, 0)
    left_out = [np.setdiff1d(np.arange(44), rows) for rows in draws]
    assert all(sorted(labels[rows].tolist()) == [0, 1, 2, 3] for rows in left_out)
    assert len({tuple(rows) for rows in left_out}) == 5


def test_scores_are_means_over_the_draws(study):
    settings = study.settings.probe
    train, train_label = labelled(rows=200, seed=1)
    test, test_label = labelled(rows=100, seed=2)
    task = task_of(study, draws=3, train_rows=60)
    draws = training_rows(task, train_label, 0)
    scores, predicted = probe_draws(train, train_label, test, test_label, draws, settings)
    alone, first = linear_probe(train[draws[0]], train_label[draws[0]], test, test_label, settings)
    assert predicted.shape == (3, 100)
    assert (predicted[0] == first).all()
    assert (scores["c"], scores["cv_accuracy"]) == (alone["c"], alone["cv_accuracy"])
    accuracies = (predicted == test_label).mean(1)
    assert scores["accuracy"] == pytest.approx(accuracies.mean())
    assert scores["spread"] == pytest.approx(accuracies.std(ddof=1))
    single, rows = probe_draws(train, train_label, test, test_label, [np.arange(200)], settings)
    assert rows.shape == (100,)
    assert single == linear_probe(train, train_label, test, test_label, settings)[0]


def test_draws_of_a_diverged_run_give_the_majority_class(study):
    train, label = labelled(rows=80)
    draws = training_rows(task_of(study, draws=2, train_rows=40), label, 0)
    scores, predicted = probe_draws(np.full_like(train, np.nan), label, train, label, draws, study.settings.probe)
    assert scores["c"] is None
    assert len(np.unique(predicted)) == 1


def test_the_nearest_neighbour_is_scikit_learns():
    from sklearn.neighbors import NearestNeighbors

    vectors, labels = labelled(rows=2500, distance=0.5)
    found = NearestNeighbors(n_neighbors=2, metric="cosine", algorithm="brute").fit(vectors).kneighbors(
        vectors, return_distance=False)[:, 1]
    assert (nearest_labels(vectors.astype(np.float32), labels) == labels[found]).mean() > 0.999
    assert set(nearest_labels(np.full((4, 2), np.inf), np.array([1, 2, 2, 0]))) == {2}


# ---- the tutorial's probe, against a plain implementation of what it describes

def plain_probe(train, labels, rows=2000, epochs=20, batch_size=64, optimizer=torch.optim.AdamW, rate=1e-3,
                standardised=False):
    """A linear layer as PyTorch initialises it, trained on the first rows in a new order in each epoch."""
    x, y = torch.tensor(train[:rows]), torch.tensor(labels[:rows])
    if standardised:
        x = (x - x.mean(0)) / x.std(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = torch.nn.Linear(x.shape[1], 4)
        update, loss_of = optimizer(layer.parameters(), lr=rate), torch.nn.CrossEntropyLoss()
        for _ in range(epochs):
            order = torch.randperm(len(x))
            for begin in range(0, len(x), batch_size):
                batch = order[begin:begin + batch_size]
                update.zero_grad()
                loss_of(layer(x[batch]), y[batch]).backward()
                update.step()
    return layer.requires_grad_(False)


def close_calls(layer, vectors, margin=1e-4):
    """The vectors, moved to where the two likeliest classes of the layer differ by `margin` in their logits. So the
    predictions for them change if the weights do."""
    x = torch.tensor(vectors)
    top = layer(x).topk(2)
    between = layer.weight[top.indices[:, 0]] - layer.weight[top.indices[:, 1]]
    gap = top.values[:, 0] - top.values[:, 1]
    return (x - ((gap - margin) / between.square().sum(1))[:, None] * between).numpy()


@pytest.fixture(scope="module")
def plainly_probed():
    """Training vectors and labels of 2,100 rows, 520 close calls of the plain probe, and its predictions for them."""
    x, y = labelled(2100, distance=0.7)
    layer = plain_probe(x, y)
    test = close_calls(layer, labelled(520, distance=0.7, seed=1)[0])
    return x, y, test, layer(torch.tensor(test)).argmax(1).numpy()


def test_the_tutorials_probe_predicts_what_a_plain_loop_does(plainly_probed):
    """The initial weights and the order of rows are alike, since both come from seed 0."""
    assert tutorial_probe(*plainly_probed) == {"accuracy": 1.0, "rows": [2000, 500]}


@pytest.mark.parametrize("other", [
    {"rows": 2100}, {"epochs": 19}, {"batch_size": 32}, {"optimizer": torch.optim.Adam}, {"rate": 1.05e-3},
    {"standardised": True}])
def test_the_predictions_show_any_difference_between_the_two(plainly_probed, other):
    x, y, test, predicted = plainly_probed
    assert (plain_probe(x, y, **other)(torch.tensor(test)).argmax(1).numpy() != predicted)[:500].any()


def test_the_tutorials_probe_reads_cls_in_the_last_layer_in_the_order_of_the_first_draw(study, plainly_probed):
    x, y, test, predicted = plainly_probed
    order = np.random.default_rng(2).permutation(len(x))
    vectors = {split: [PooledStates(cls=-rows, mean=-rows), PooledStates(cls=rows, mean=-rows)]
               for split, rows in (("train", x[order]), ("test", test))}
    settings = changed(study.settings, probe={"controls": True, "layers": "last", "train_sizes": [],
                                              "poolings": ["cls"], "regularization": [1.0]}).probe
    draws = [np.argsort(order), np.arange(len(x))]
    scores, _ = probe_module._scores(vectors, {"train": y[order], "test": predicted}, draws, settings)
    assert scores["tutorial"] == {"accuracy": 1.0, "rows": [2000, 500]}
