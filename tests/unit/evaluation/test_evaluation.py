"""Evaluation: per token whatever the batch; probes that find what is there and nothing else."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from study import StudyError
from study.config.schema import Text
from study.data.batches import Rows
from study.data.evaluation_sets import (
    SETS,
    MaskSet,
    build_evaluation_set,
    content_hash,
    document_windows,
    load_evaluation_set,
    masking_of,
    save_arrays,
)
from study.data.examples import TokenStore
from study.data.masking import CORRUPTIONS
from study.data.synthetic import Language
from study.data.tokenizer import load
from study.data.tokenizer_info import TokenizerInfo
from study.evaluation.embedding import embed_layers, tokenize
from study.evaluation.perplexity import mean_nll, pair_correct, row_sums, summarize, token_nll
from study.evaluation.probe import learning_curve, linear_probe, planes, principal_plane, tutorial_probe
from study.model.heads import new_model
from tests.support.studies import tiny_study


@pytest.fixture
def model(config, tokenizer):
    return new_model(config, tokenizer.vocabulary_size, seed=0).eval()


def test_perplexity_does_not_depend_on_the_batch_size(model, heldout):
    found = [token_nll(model, heldout.ids, heldout.sets["mixed"], size) for size in (1, 5, 12)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)


def test_sums_and_kinds_add_up(model, heldout, tokenizer):
    nll = token_nll(model, heldout.ids, heldout.sets["mixed"], 4)
    assert row_sums(nll, heldout.sets["mixed"]).sum() == pytest.approx(nll.sum())
    found = summarize(nll, heldout, "mixed", tokenizer.is_continuation)
    assert set(found["by_kind"]) <= set(CORRUPTIONS[1:])
    parts = found["by_kind"].values()
    assert sum(p["nll"] * p["tokens"] for p in parts) / found["tokens"] == pytest.approx(found["nll"])
    assert found["perplexity"] == pytest.approx(np.exp(nll.mean()))
    assert found["floor_perplexity"] is None
    for groups in (found["by_decile"], found["by_piece"].values(), found["by_place"]):
        assert sum(group["tokens"] for group in groups) == found["tokens"]
        assert sum(group["nll"] * group["tokens"] for group in groups if group["tokens"]) == pytest.approx(nll.sum())
    frequency = [group["unigram_nll"] for group in found["by_decile"]]
    assert frequency == sorted(frequency)
    assert found["by_piece"]["continuation"]["tokens"] > 0


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
    found = load_evaluation_set(tmp_path / "a.npz")
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
    whole, single = (embed_layers(model, rows, 0, size)[-1] for size in (4, 1))
    np.testing.assert_allclose(whole.cls, single.cls, atol=1e-5)
    np.testing.assert_allclose(whole.mean, single.mean, atol=1e-5)
    backwards = embed_layers(model, rows[::-1], 0, 2)[-1]
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


@pytest.mark.parametrize("name", ["mask_only", "mixed"])
def test_mean_nll_is_that_of_every_selected_token_by_itself(model, heldout, name):
    masks = heldout.sets[name]
    nll = token_nll(model, heldout.ids, masks, 7)
    assert len(nll) == (masks.corruption > 0).sum()
    assert mean_nll(model, heldout, name, 5) == pytest.approx(nll.mean(), abs=1e-6)
    with torch.inference_mode():
        shown = torch.from_numpy(masks.shown)
        logits = model.words(model.encoder(shown, torch.zeros_like(shown)), model.encoder.token).log_softmax(-1)
    rows, places = np.nonzero(masks.corruption)
    np.testing.assert_allclose(nll, -logits[rows, places, heldout.ids[rows, places]].numpy(), atol=1e-5)


def test_row_sums_belong_to_their_rows(model, heldout):
    masks = heldout.sets["mixed"]
    sums = row_sums(token_nll(model, heldout.ids, masks, 4), masks)
    for row in range(len(heldout.ids)):
        one = MaskSet(masks.shown[row:row + 1], masks.corruption[row:row + 1], None)
        assert sums[row] == pytest.approx(token_nll(model, heldout.ids[row:row + 1], one, 4).sum(), abs=1e-4)


def test_references_stand_on_the_same_tokens(heldout, tokenizer):
    masks = heldout.sets["mixed"]
    unigram = heldout.unigram[heldout.ids[masks.corruption > 0]]
    found = summarize(unigram, heldout, "mixed", tokenizer.is_continuation)
    assert found["nll"] == pytest.approx(found["unigram_nll"])
    assert found["bits"] == pytest.approx(found["nll"] / np.log(2))
    exact = MaskSet(masks.shown, masks.corruption, 0.5 * unigram)
    floored = replace(heldout, sets={"mixed": exact})
    for nll, closed, excess in ((exact.floor, 1.0, 0.0), (unigram, 0.0, exact.floor.mean())):
        scores = summarize(nll, floored, "mixed", tokenizer.is_continuation)
        assert scores["share_closed"] == pytest.approx(closed, abs=1e-9)
        assert scores["excess_nll"] == pytest.approx(excess)


@pytest.fixture(scope="module")
def arrays(study, store, tokenizer):
    """Evaluation sets of the made-up text, as the examples stage builds them for any text."""
    corpus = Text(kind="text", path="made/up", name=None, revision=None, local=None, column="text", language="en",
                  splits={"train": "train", "validation": "validation", "test": "test"}, layout="documents",
                  max_documents=None, quote=True)
    text = study.model_copy(update={"settings": study.settings.model_copy(update={"corpus": corpus})})
    return build_evaluation_set(text, store, store, tokenizer, rows=20)


def test_built_sets_share_their_rows_and_hide_ordinary_tokens_alone(arrays, tokenizer):
    ids = arrays["ids"]
    for name, (_, mix, _) in SETS.items():
        shown, selected = arrays[f"{name}/shown"], arrays[f"{name}/kind"] > 0
        assert selected.any()
        assert tokenizer.is_ordinary[ids[selected]].all()
        assert (shown[~selected] == ids[~selected]).all()
        assert mix["mask"] < 1 or (shown[selected] == tokenizer.mask_id).all()
    assert ((arrays["mask_only/kind"] > 0) == (arrays["mixed/kind"] > 0)).all()
    assert ((arrays["mask_only/kind"] > 0) <= (arrays["mask_only_40/kind"] > 0)).all()


def test_unigram_reference_is_a_law_over_ordinary_tokens(arrays, store, tokenizer):
    share = np.exp(-arrays["unigram"])
    assert share.sum() == pytest.approx(1)
    assert (share > 0).tolist() == tokenizer.is_ordinary.tolist()
    counts = np.bincount(store.ids, minlength=len(share))
    order = np.argsort(counts[tokenizer.ordinary], kind="stable")
    assert (np.diff(share[tokenizer.ordinary][order]) >= 0).all()


def test_the_last_bit_of_an_optimum_does_not_rename_the_evaluation_set(tmp_path, monkeypatch):
    study = tiny_study(tmp_path)
    tokenizer = TokenizerInfo.of(load(study.runs / "tokenizer"))
    test, train = (TokenStore.open(study.runs / "examples" / split) for split in ("test", "train"))
    exact, seen = Language.floor, []
    made = build_evaluation_set(study, test, train, tokenizer, rows=20)

    def elsewhere(*given):
        nll, entropy = exact(*given)
        seen.append(nll[0])
        nll[0] = np.nextafter(nll[0], np.inf)
        return nll, entropy

    monkeypatch.setattr(Language, "floor", elsewhere)
    assert content_hash(build_evaluation_set(study, test, train, tokenizer, rows=20)) == content_hash(made)
    assert len(seen) == len(SETS)
    first = made | {"mask_only/floor": made["mask_only/floor"] + 1e-12}
    assert content_hash(first) != content_hash(made)


def test_built_sets_come_back_and_a_damaged_file_is_named(arrays, tmp_path):
    save_arrays(arrays, tmp_path / "test.npz")
    found = load_evaluation_set(tmp_path / "test.npz")
    assert found.hash == content_hash(arrays) == content_hash(dict(reversed(arrays.items())))
    assert all(content_hash(arrays | {name: array + 1}) != found.hash for name, array in arrays.items()
               if array.dtype == np.int32)
    (tmp_path / "test.npz").write_bytes((tmp_path / "test.npz").read_bytes()[:300])
    with pytest.raises(StudyError, match="study examples"):
        load_evaluation_set(tmp_path / "test.npz")


def test_accuracy_on_pairs_does_not_depend_on_the_batch_size(model, arrays):
    pairs = Rows(arrays["nsp/ids"].astype(np.int64), arrays["nsp/types"].astype(np.int64), arrays["nsp/attention"],
                 arrays["nsp/label"].astype(np.int64))
    found = [pair_correct(model, pairs, size) for size in (1, 3, 100)]
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()
    assert (pair_correct(model, replace(pairs, label=1 - pairs.label), 4) == ~found[0]).all()


def test_pooled_vectors_are_means_over_real_tokens(model, backend):
    rows = tokenize(backend, ["ba de fi", "lu ma ne pi ro su tan vek ba de go"], 32)
    found = embed_layers(model, rows, 0, 2)[-1]
    for index, row in enumerate(rows):
        ids = torch.tensor([row])
        with torch.inference_mode():
            states = model.encoder(ids, torch.zeros_like(ids))[0].numpy()
        np.testing.assert_allclose(found.cls[index], states[0], atol=1e-5)
        np.testing.assert_allclose(found.mean[index], states[1:-1].mean(0), atol=1e-5)


def labelled(rows=240, width=16, classes=4, gap=1.5, seed=0):
    """Vectors (rows, width) float32 whose classes stand `gap` apart, with their labels (rows,)."""
    rng = np.random.default_rng(seed)
    label = np.arange(rows) % classes
    return (rng.normal(size=(rows, width)) + gap * np.eye(width)[label]).astype(np.float32), label


def test_more_rows_read_better(study):
    x, y = labelled(1200)
    few, many = (learning_curve(x[:800], y[:800], x[800:], y[800:], size, 1.0) for size in (16, 400))
    assert few["accuracy"] + 2 * few["spread"] < many["accuracy"]
    assert learning_curve(x[:80], y[:80], x[800:], y[800:], 80, 1.0) is None
    assert learning_curve(x[:80], y[:80], x[800:], y[800:], 40, None) is None


def test_the_tutorials_probe_reads_the_scale_of_the_features():
    x, y = labelled(2600)
    large, again, small = (tutorial_probe(scale * x[:2000], y[:2000], scale * x[2000:], y[2000:])
                           for scale in (1.0, 1.0, 0.001))
    assert large == again
    assert large["rows"] == [2000, 500]
    assert large["accuracy"] > 0.6
    assert small["accuracy"] < large["accuracy"] - 0.1


def test_shuffled_labels_cannot_be_read(study):
    x, y = labelled(1600)
    rng = np.random.default_rng(1)
    score, _ = linear_probe(x[:800], rng.permutation(y[:800]), x[800:], rng.permutation(y[800:]), study.settings.probe)
    assert 0.18 < score["accuracy"] < 0.32


def test_points_for_figures():
    x, _ = labelled(120)
    found = planes(x)
    assert found.keys() == {"plane", "tsne"}
    assert found["tsne"].shape == (120, 2)
    np.testing.assert_array_equal(found["tsne"], planes(x)["tsne"])
    assert planes(np.zeros((50, 4), np.float32)).keys() == {"plane"}
    assert not planes(np.full((50, 4), np.nan, np.float32))["plane"].any()
