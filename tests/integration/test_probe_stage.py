"""The evaluate stage on untrained cells of the tiny study: draws of training rows, layers, documents, and what analysis
reads of them."""
import shutil

import numpy as np
import pytest

from study.analysis.measures import chosen_layer
from study.analysis.metrics import cell_metric
from study.analysis.results import StudyResults
from study.config.arms import resolve
from study.config.fingerprint import settings_yaml
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo, load
from study.evaluation import probe as probe_module
from study.evaluation.baselines import read_task, write_baselines
from study.evaluation.embedding import embed_layers, load_cell, tokenize
from study.evaluation.evaluate import evaluate
from study.evaluation.probe import linear_probe, probe
from study.objectives.pretraining_model import new_model
from study.training.checkpoint import Progress
from study.training.pretrain import write_cell
from tests.support.studies import tiny_study

CELLS = [("dynamic", 0), ("all-mask", 0), ("dynamic", 1)]     # all with the weights of one encoder
DRAWN, TEST = 40, 80                        # rows of a draw, and of the test set


def untrained_cells(root, changes: dict[str, str]):
    """The tiny study with these lines of params.yaml replaced, and with CELLS whose weights were never trained."""
    def change(text: str) -> str:
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new, 1)     # the probe comes before fine-tuning
        return text

    study = tiny_study(root, change)
    write_baselines(study, study.runs / "examples")
    for arm, seed in CELLS:
        config = resolve(study, arm)
        model = new_model(config, TokenizerInfo.of(load(study.runs / "tokenizer")).vocabulary_size, seed=7)
        write_cell(study.cell(arm, seed), settings_yaml(config), model, Progress(), {"status": "finished"})
    return study


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A study with two draws of training rows, all cells probed; and the texts that each encoder embedded."""
    study = untrained_cells(tmp_path_factory.mktemp("drawn") / "study", {
        "\nseeds: [0]\n": "\nseeds: [0, 1]\n", "train_rows: null": f"train_rows: {DRAWN}\n      draws: 2",
        "train_sizes: [20, 60]": "train_sizes: []", "controls: true": "controls: false"})
    embedded = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_module, "embed_layers", lambda model, rows, *more: embedded.append(len(rows))
                      or embed_layers(model, rows, *more))
        for cell in CELLS:
            probe(study, *cell)
    return study, embedded


def cell_of(study, arm: str, seed: int):
    results = StudyResults(study)
    return results, results.cell(arm, seed)


def test_there_is_a_pool_for_the_draws_and_each_row_is_embedded_once(drawn):
    study, embedded = drawn
    pool = read_task(study, study.settings.probe.tasks[0], "train")
    assert len(pool) == 2 * DRAWN
    assert embedded == 2 * len(CELLS) * [2 * DRAWN, TEST]     # trained and untrained, training and test rows


def test_every_probe_has_a_row_of_predictions_per_draw(drawn):
    _, cell = cell_of(drawn[0], "dynamic", 0)
    scores, arrays = cell.probe["topic"], cell.probe_arrays
    assert (scores["rows"], scores["draws"]) == ({"train": DRAWN, "test": TEST}, 2)
    for encoder in ("trained", "untrained"):
        assert [f"topic/layer-{number}/{encoder}/predicted" in arrays for number in range(4)] == [True] * 3 + [False]
        for number, layer in enumerate(scores["more"][encoder]["layers"]):
            predicted = arrays[f"topic/layer-{number}/{encoder}/predicted"]
            right = (predicted == arrays["topic/label"]).mean(1)
            assert predicted.shape == (2, TEST)
            assert layer["accuracy"] == pytest.approx(right.mean())
            assert layer["spread"] == pytest.approx(right.std(ddof=1))
        for pooling in ("cls", "mean"):
            assert arrays[f"topic/cosine-{pooling}/{encoder}/predicted"].shape == (TEST,)


def test_arms_of_a_seed_share_their_draws_and_seeds_do_not(drawn):
    first, other_arm, other_seed = (cell_of(drawn[0], *cell)[1].probe_arrays for cell in CELLS)
    keys = [key for key in first if key.endswith("/trained/predicted")]
    assert all((first[key] == other_arm[key]).all() for key in keys)
    differing = {key.split("/")[1] for key in keys if (first[key] != other_seed[key]).any()}
    assert {"mean", "layer-1"} <= differing
    assert not {"cosine-cls", "cosine-mean"} & differing      # they need no training rows


def test_analysis_reads_the_chosen_layer_of_both_encoders_from_the_files(drawn):
    results, cell = cell_of(drawn[0], "dynamic", 1)
    values = {}
    for encoder in ("trained", "untrained"):
        layers = cell.probe["topic"]["more"][encoder]["layers"]
        number, values[encoder] = chosen_layer(results, cell, encoder)
        assert layers[number]["cv_accuracy"] == max(layer["cv_accuracy"] for layer in layers)
    for name, expected in (("probe_accuracy", values["trained"]),
                           ("probe_gain", values["trained"] - values["untrained"]),
                           ("probe_last_layer", cell.probe["topic"]["mean"]["accuracy"]),
                           ("over_tfidf", values["trained"] - cell.probe["topic"]["tfidf"]["accuracy"])):
        value = cell_metric(results, cell, name)
        assert value.cell == pytest.approx(expected)
        assert value.texts.shape == (TEST,)
        assert value.texts.mean() == pytest.approx(expected)
    assert cell_metric(results, cell, "cosine_mean_over_cls").texts.shape == (TEST,)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A study with one draw, as before draws could be repeated, and only the last layer; one cell is evaluated."""
    study = untrained_cells(tmp_path_factory.mktemp("single") / "study", {
        "layers: all": "layers: last", "train_sizes: [20, 60]": "train_sizes: []", "controls: true": "controls: false"})
    evaluate(study, "dynamic", 0)
    probe(study, "dynamic", 0)
    return study


def test_one_draw_probes_all_rows(single):
    _, cell = cell_of(single, "dynamic", 0)
    config, model = load_cell(single, "dynamic", 0)
    backend, task = load(single.runs / "tokenizer"), single.settings.probe.tasks[0]
    frames = [read_task(single, task, split) for split in ("train", "test")]
    train, test = (embed_layers(model, tokenize(backend, frame.text.tolist(), config.examples.max_seq_length),
                                backend.token_to_id("[PAD]"), 256)[-1].mean for frame in frames)
    labels = [frame.label.to_numpy() for frame in frames]
    scores, predicted = linear_probe(train, labels[0], test, labels[1], single.settings.probe)
    assert len(train) == 120
    assert (cell.probe_arrays["topic/mean/trained/predicted"] == predicted).all()
    assert cell.probe["topic"]["mean"] == scores | {
        "untrained_accuracy": cell.probe["topic"]["mean"]["untrained_accuracy"]}


def test_where_only_the_last_layer_is_probed_it_is_the_headline(single):
    results, cell = cell_of(single, "dynamic", 0)
    assert "layers" not in cell.probe["topic"]["more"]["trained"]
    assert chosen_layer(results, cell) is None
    accuracy = cell.probe["topic"]["mean"]
    assert cell_metric(results, cell, "probe_accuracy").cell == pytest.approx(accuracy["accuracy"])
    assert cell_metric(results, cell, "probe_gain").cell == pytest.approx(
        accuracy["accuracy"] - accuracy["untrained_accuracy"])


def test_the_test_set_alone_names_the_document_of_each_row(single):
    """So what pre-training reads is as it was."""
    folder = single.runs / "examples"
    names = {"documents", "nsp/documents", "sop/documents"}
    with np.load(folder / "test.npz") as test, np.load(folder / "validation.npz") as validation:
        assert test.keys() - validation.keys() == names
        documents, ids = test["documents"], test["ids"]
    store = TokenStore.open(folder / "test")
    assert len(np.unique(documents)) < len(documents)
    for row, document in zip(ids, documents, strict=True):
        text = store.ids[store.documents[document]:store.document_ends[document]]
        windows = np.lib.stride_tricks.sliding_window_view(text, len(row) - 2)
        assert (windows == row[1:-1]).all(1).any()


@pytest.mark.parametrize(("name", "masks", "key"), [
    ("nll", "mask_only", "documents"), ("nll_mixed", "mixed", "documents"),
    ("nll_pairs", "mask_only_pairs", "nsp/documents")])
def test_analysis_takes_documents_from_the_files_of_a_cell_alone(single, tmp_path, name, masks, key):
    with np.load(single.runs / "examples" / "test.npz") as file:
        documents = file[key]
    copied = single.model_copy(update={"folder": tmp_path})
    shutil.copytree(single.cell("dynamic", 0), copied.cell("dynamic", 0))
    results, cell = cell_of(copied, "dynamic", 0)
    value, names = cell_metric(results, cell, name), np.unique(documents)
    sums, tokens = (np.array([cell.evaluation_arrays[f"{masks}/{part}"][documents == document].sum()
                              for document in names]) for part in ("nll", "tokens"))
    mean = sums.sum() / tokens.sum()
    assert len(names) < len(documents)
    assert value.cell == pytest.approx(mean, abs=1e-6)
    assert value.texts == pytest.approx(mean + len(names) * (sums - mean * tokens) / tokens.sum())
