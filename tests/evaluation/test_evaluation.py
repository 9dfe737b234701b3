"""Evaluation: per token whatever the batch; probes that find what is there and nothing else."""
import numpy as np
import pytest

from study.data.heldout import SETS, content_hash, document_windows, load_heldout, masking_of, save_arrays
from study.data.masking import KINDS
from study.evaluation.embedding import embed, tokenize
from study.evaluation.perplexity import row_sums, summarize, token_nll
from study.evaluation.probe import linear_probe, principal_plane
from study.model.heads import new_model


@pytest.fixture
def model(cell, lexicon):
    return new_model(cell, lexicon.vocabulary.size, seed=0).eval()


def test_perplexity_does_not_depend_on_the_batch_size(model, heldout):
    found = [token_nll(model, heldout.ids, heldout.sets["mixed"], size) for size in (1, 5, 12)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)


def test_sums_and_kinds_add_up(model, heldout):
    nll = token_nll(model, heldout.ids, heldout.sets["mixed"], 4)
    assert row_sums(nll, heldout.sets["mixed"]).sum() == pytest.approx(nll.sum())
    found = summarize(nll, heldout, "mixed")
    assert set(found["by_kind"]) <= set(KINDS[1:])
    parts = found["by_kind"].values()
    assert sum(p["nll"] * p["tokens"] for p in parts) / found["tokens"] == pytest.approx(found["nll"])
    assert found["perplexity"] == pytest.approx(np.exp(nll.mean()))
    assert found["floor_perplexity"] is None


def test_evaluation_sets_survive_the_file_and_hash_their_content(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"ids": rng.integers(0, 9, (3, 8)).astype(np.int32), "unigram": rng.random(9)}
    for name in SETS:
        arrays |= {f"{name}/shown": arrays["ids"], f"{name}/kind": np.ones((3, 8), np.uint8)}
    for task in ("nsp", "sop"):
        arrays |= {f"{task}/ids": arrays["ids"], f"{task}/types": np.zeros((3, 8), np.uint8),
                   f"{task}/attention": np.ones((3, 8), bool), f"{task}/label": np.ones(3, np.uint8)}
    save_arrays(arrays, tmp_path / "a.npz")
    save_arrays(arrays, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = load_heldout(tmp_path / "a.npz")
    assert found.hash == content_hash(arrays)
    assert (found.ids == arrays["ids"]).all()
    other = arrays | {"ids": arrays["ids"] + 1}
    assert content_hash(other) != found.hash
    assert masking_of("mixed").keep == 0.1


def test_windows_lie_inside_single_documents(store):
    starts, offsets = document_windows(store, 22, 100, None, seed=0)
    document = store.document_of(starts)
    assert (starts + 20 <= store.document_ends[document]).all()
    assert (starts - store.documents[document] == offsets).all()
    assert len(np.unique(starts)) == len(starts)


def test_embedding_does_not_depend_on_batches(model, backend):
    rows = tokenize(backend, ["ba de fi", "go", "lu ma ne pi ro su tan vek ba de go", "fi fi"], 32)
    whole, single = embed(model, rows, 0, 4), embed(model, rows, 0, 1)
    np.testing.assert_allclose(whole.cls, single.cls, atol=1e-5)
    np.testing.assert_allclose(whole.mean, single.mean, atol=1e-5)
    backwards = embed(model, rows[::-1], 0, 2)
    np.testing.assert_allclose(backwards.mean[::-1], whole.mean, atol=1e-5)


def test_probe_reads_a_straight_line_and_not_noise(study):
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


def test_principal_plane_holds_the_largest_variance():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(100, 5)) * np.array([9, 4, 1, 1, 1])
    plane = principal_plane(points)
    assert plane.shape == (100, 2)
    assert plane.var(0).sum() / points.var(0).sum() > 0.9
