"""Metrics of a cell, and the tables made from them."""
import json
import math

import numpy as np
import pytest

from study import StudyError
from study.analysis.current import check_comparable
from study.analysis.learning import run_status
from study.analysis.measures import Sample, Value, between_share, chosen_layer
from study.analysis.metrics import METRICS, cell_metric, display_unit, table_unit
from study.analysis.results import StudyResults
from study.analysis.tables import arm_table, cell_table
from study.files import save_arrays
from tests.support.fake_results import fake_cell, fake_study


@pytest.fixture
def fake(tmp_path):
    return fake_study(tmp_path)


def metric(study, name, arm="dynamic", seed=0):
    results = StudyResults(study)
    return cell_metric(results, results.cell(arm, seed), name)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_every_metric_can_be_measured(fake):
    values = {name: metric(fake, name) for name in METRICS}
    assert values["nll"].cell == 2.0
    assert values["initial_excess"].cell == pytest.approx(4.2 - 5.0)
    assert values["nsp_accuracy"] is None
    assert values["escape_step"].cell == 4
    assert values["diverged"].cell == 0
    for value in values.values():
        if value is not None and value.texts is not None:
            assert value.texts.ndim == 1


def test_a_metric_has_its_name_as_key_and_a_label_of_its_own():
    assert [metric.name for metric in METRICS.values()] == list(METRICS)
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)


def test_units():
    assert display_unit("probe_accuracy") == (100.0, "points")
    assert table_unit("probe_accuracy") == "share"
    assert display_unit("nll") == (1.0, "nats")
    assert table_unit("nll") == "nats"
    assert display_unit(None) == (1.0, "")


@pytest.mark.parametrize("name", ["probe_accuracy", "probe_cls", "mean_over_cls", "over_tfidf", "probe_last_layer"])
def test_numbers_of_texts_average_to_the_number_of_the_cell(fake, name):
    value = metric(fake, name)
    assert value.texts.shape == (40,)
    assert value.texts.mean() == pytest.approx(value.cell)


def test_a_difference_is_that_of_its_parts(fake):
    assert metric(fake, "mean_over_cls").cell == pytest.approx(
        metric(fake, "probe_last_layer").cell - metric(fake, "probe_cls").cell)
    assert metric(fake, "penultimate_over_last").cell == pytest.approx(
        metric(fake, "probe_accuracy").cell - accuracy(fake, "layer-1"))
    assert metric(fake, "probe_gain") is None       # no untrained encoder was probed
    assert metric(fake, "cosine_mean_over_cls") is None


@pytest.mark.parametrize(("variances", "together"), [
    ((0.0, 0.0), Sample(0.0, 500)), ((0.25, 0.0), Sample(0.25, 500)), ((0.25, None), None)])
def test_a_difference_has_the_sample_of_both_parts(variances, together):
    """Even if all rows are right in both, so that their variance is 0."""
    parts = [Value(1.0, sample=None if variance is None else Sample(variance, 500)) for variance in variances]
    assert (parts[0] - parts[1]).sample == together


def test_the_number_of_a_document_is_that_of_a_linearised_ratio():
    """Leaving a document out changes the mean as its number says, up to terms of second order."""
    rng = np.random.default_rng(3)
    documents = rng.integers(0, 300, 2000)
    counts = rng.integers(1, 12, 2000)
    sums = counts * (2 + 0.5 * rng.normal(size=300)[documents] + 0.5 * rng.normal(size=2000))
    value = Value.of_rows(sums, counts, documents)
    names = np.unique(documents)
    assert value.texts.shape == names.shape
    assert value.cell == pytest.approx(sums.sum() / counts.sum())
    assert value.texts.mean() == pytest.approx(value.cell)
    left_out = np.array([sums[documents != name].sum() / counts[documents != name].sum() for name in names])
    jackknife = value.cell - (len(names) - 1) * (left_out - value.cell)
    assert value.texts == pytest.approx(jackknife, abs=0.02)
    assert np.std(value.texts) == pytest.approx(np.std(jackknife), rel=0.01)


def test_rows_without_documents_are_documents():
    value = Value.of_rows(np.array([2.0, 4.0, 9.0]), np.array([1, 2, 2]), None)
    assert value.cell == 3.0
    assert value.texts == pytest.approx(3.0 + 3 * np.array([-1.0, -2.0, 3.0]) / 5)


def test_several_draws_of_training_rows_are_averaged(fake):
    path = fake.cell("dynamic", 0) / "probe.npz"
    with np.load(path) as file:
        arrays = dict(file)
    right, wrong = arrays["topic/label"], (arrays["topic/label"] + 1) % 4
    save_arrays(arrays | {"topic/layer-0/trained/predicted": np.stack([right, right, wrong, right])}, path)
    value = metric(fake, "probe_accuracy")
    assert value.cell == 0.75
    assert value.texts.tolist() == [0.75] * 40


def accuracy(study, features):
    arrays = StudyResults(study).cell("dynamic", 0).probe_arrays
    return (arrays[f"topic/{features}/trained/predicted"] == arrays["topic/label"]).mean()


def test_cross_validation_chooses_the_layer(fake):
    results = StudyResults(fake)
    assert chosen_layer(results, results.cell("dynamic", 0)) == (0, 0.6)
    assert metric(fake, "probe_accuracy").cell == accuracy(fake, "layer-0")


def test_a_layer_that_could_not_be_probed_is_not_chosen(fake):
    path = fake.cell("dynamic", 0) / "probe.json"

    def chosen():
        results = StudyResults(fake)
        return chosen_layer(results, results.cell("dynamic", 0))

    for number, expected in ((0, (1, 0.7)), (1, None)):
        edit(path, lambda content, number=number: content["topic"]["more"]["trained"]["layers"][number].update(
            cv_accuracy=None))
        assert chosen() == expected
    assert metric(fake, "probe_accuracy").cell == metric(fake, "probe_last_layer").cell


def test_controls_of_the_probe(fake):
    edit(fake.cell("dynamic", 0) / "probe.json", lambda content: content["topic"]["more"].update(
        trained={"shuffled": {"accuracy": 0.3}, "tutorial": {"accuracy": 0.6, "rows": [2000, 500]}}, untrained={}))
    assert metric(fake, "selectivity").cell == pytest.approx(0.7 - 0.3)
    assert metric(fake, "tutorial_probe").cell == 0.6
    assert metric(fake, "tutorial_probe").sample == Sample(pytest.approx(0.6 * 0.4 / 500), 500)
    assert metric(fake, "tutorial_untrained") is None
    assert metric(fake, "selectivity", seed=1) is None


def test_sentence_pairs_over_chance(fake):
    folder = fake.cell("dynamic", 0)
    edit(folder / "evaluation.json", lambda content: content.update(nsp={"accuracy": 0.75, "base_rate": 0.5}))
    with np.load(folder / "evaluation.npz") as arrays:
        np.savez(folder / "evaluation.npz", **arrays, **{"nsp/correct": np.array([1, 1, 1, 0], bool)})
    assert metric(fake, "nsp_accuracy").cell == 0.75
    assert metric(fake, "nsp_over_chance").cell == 0.25
    assert metric(fake, "nsp_below_ceiling") is None            # it is unknown


def test_sentence_pairs_below_their_ceiling(fake):
    folder = fake.cell("dynamic", 0)
    edit(folder / "evaluation.json",
         lambda content: content.update(sop={"accuracy": 0.5, "base_rate": 0.5, "ceiling": 0.75}))
    pairs = {"sop/correct": np.array([1, 1, 0, 0], bool), "sop/best_correct": np.array([1, 0, 1, 1], bool)}
    with np.load(folder / "evaluation.npz") as arrays:
        np.savez(folder / "evaluation.npz", **arrays, **pairs)
    value = metric(fake, "sop_below_ceiling")
    assert value.cell == 0.75 - 0.5
    assert value.texts.tolist() == [0, -1, 1, 1]
    assert cell_table(StudyResults(fake)).sop_ceiling.tolist()[0] == 0.75


def test_sentence_pairs_of_one_document_are_one_text(fake):
    folder = fake.cell("dynamic", 0)
    edit(folder / "evaluation.json",
         lambda content: content.update(sop={"accuracy": 0.75, "base_rate": 0.5, "ceiling": 1.0}))
    pairs = {"sop/correct": np.array([1, 1, 0, 1], bool), "sop/best_correct": np.ones(4, bool),
             "sop/documents": np.array([7, 7, 7, 2])}
    with np.load(folder / "evaluation.npz") as arrays:
        np.savez(folder / "evaluation.npz", **arrays, **pairs)
    accuracy, missed = metric(fake, "sop_accuracy"), metric(fake, "sop_below_ceiling")
    assert (accuracy.cell, missed.cell) == (0.75, 0.25)
    assert accuracy.texts == pytest.approx(0.75 + 2 * np.array([1 - 0.75, 2 - 3 * 0.75]) / 4)
    assert missed.texts == pytest.approx(1 - accuracy.texts)


def test_nll_in_pairs_has_numbers_of_texts(fake):
    value = metric(fake, "nll_pairs")
    assert (value.cell, value.texts.shape) == (2.0, (20,))
    assert cell_table(StudyResults(fake)).nll_pairs.tolist()[0] == 2.0


def test_between_share():
    labels = np.array([0, 0, 1, 1])
    assert between_share(np.array([[0, 0], [0, 0], [1, 1], [1, 1.0]]), labels) == 1
    assert between_share(np.array([[0, 0], [1, 1], [0, 0], [1, 1.0]]), labels) == 0
    assert between_share(np.zeros((4, 2)), labels) == 0


def test_the_table_of_arms_has_both_tasks_on_pairs(fake):
    for seed in fake.settings.seeds:
        edit(fake.cell("dynamic", seed) / "evaluation.json",
             lambda content: content.update(nsp={"accuracy": 0.52}, sop={"accuracy": 0.75}))
    results = StudyResults(fake)
    table = arm_table(results, cell_table(results)).set_index("arm")
    assert (table.nsp_accuracy_mean["dynamic"], table.sop_accuracy_mean["dynamic"]) == (0.52, 0.75)
    assert table.drop("dynamic").sop_accuracy_mean.isna().all()


def test_files_are_read_once(fake):
    results = StudyResults(fake)
    cell_table(results)
    for cell in results.cells:
        for path in cell.folder.iterdir():
            path.unlink()
    assert len(cell_table(results)) == 4


def test_cells_on_different_evaluation_sets_are_not_compared(fake):
    check_comparable(StudyResults(fake))
    fake_cell(fake, "static", 1, 2.3, evaluation_hash="other")
    with pytest.raises(StudyError, match="dynamic-0 and static-1 were scored on different evaluation sets"):
        check_comparable(StudyResults(fake))


def test_cells_with_other_settings_than_the_study_has_now_are_not_compared(fake):
    path = fake.cell("static", 1) / "settings.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.004", "learning_rate: 0.005"))
    with pytest.raises(StudyError, match=r"static-1 was trained with training.learning_rate 0.005, but .* give 0.004"):
        check_comparable(StudyResults(fake))


# ---- the course of training

@pytest.mark.parametrize(("status", "loss", "expected"), [
    ("diverged", 0.1, "overfitted"), ("diverged", 3.9, "diverged"), ("diverged", None, "diverged"),
    ("finished", 0.1, "finished")])
def test_a_run_that_memorised_its_text_has_not_diverged(fake, status, loss, expected):
    cell = fake.cell("dynamic", 1)
    records = [{"step": 0, "validation_nll": 4.2}, {"step": 12, "loss": loss, "validation_nll": 9.0}]
    (cell / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    edit(cell / "training.json", lambda content: content.update(status=status))
    results = StudyResults(fake)
    assert run_status(results, results.cell("dynamic", 1)) == expected
    table = cell_table(results).set_index(["arm", "seed"])
    assert table.status["dynamic", 1] == expected
    assert metric(fake, "diverged", seed=1).cell == (expected == "diverged")


def test_a_run_that_overfits_keeps_its_nll(fake):
    """At the unigram level, every such run would have the same number."""
    cell, rows = fake.cell("dynamic", 1), metric(fake, "nll", seed=1).texts
    records = [{"step": 0, "validation_nll": 4.2}, {"step": 12, "loss": 0.1, "validation_nll": 9.0}]
    (cell / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    edit(cell / "training.json", lambda content: content.update(status="diverged"))
    edit(cell / "evaluation.json", lambda content: content["mask_only"].update(nll=9.0, perplexity=math.exp(9.0)))
    value = metric(fake, "nll", seed=1)
    assert value.cell == 9.0
    assert value.texts.tolist() == rows.tolist()
    row = cell_table(StudyResults(fake)).set_index(["arm", "seed"]).loc[("dynamic", 1)]
    assert (row.status, row.nll, row.perplexity) == ("overfitted", 9.0, math.exp(9.0))


def test_a_diverged_run_scores_no_worse_than_unigram_frequencies(fake):
    cell = fake.cell("dynamic", 1)
    edit(cell / "training.json", lambda content: content.update(status="diverged"))
    for nll, expected in ((9.0, 4.0), (None, 4.0), (3.0, 3.0)):
        edit(cell / "evaluation.json", lambda content, nll=nll: content["mask_only"].update(nll=nll))
        value = metric(fake, "nll", seed=1)
        assert (value.cell, value.texts) == (expected, None)
        row = cell_table(StudyResults(fake)).set_index(["arm", "seed"]).loc[("dynamic", 1)]
        assert row.perplexity == pytest.approx(math.exp(expected))


@pytest.mark.parametrize(("nll", "capped"), [(9.0, 4.0), (None, 4.0), (3.0, 3.0)])
def test_all_numbers_of_a_diverged_run_follow_from_its_capped_nll(fake, nll, capped):
    """The unigram level is 4 nats and the floor 1.5."""
    raw = {"nll": nll, "perplexity": nll and math.exp(nll), "excess_nll": nll and nll - 1.5,
           "share_closed": nll and (4 - nll) / 2.5}
    cell = fake.cell("dynamic", 1)
    edit(cell / "training.json", lambda content: content.update(status="diverged"))
    edit(cell / "evaluation.json", lambda content: [content[masks].update(raw) for masks in ("mask_only", "mixed")])
    row = cell_table(StudyResults(fake)).set_index(["arm", "seed"]).loc[("dynamic", 1)]
    assert (row.nll, row.excess_nll) == (capped, capped - 1.5)
    assert row.share_closed == pytest.approx((4 - capped) / 2.5)
    assert (row.perplexity, row.mixed_perplexity) == pytest.approx((math.exp(capped), math.exp(capped)))


def test_a_diverged_run_without_a_floor_has_no_distance_from_it(fake):
    cell, unknown = fake.cell("dynamic", 1), dict.fromkeys(("floor_nll", "floor_perplexity"))
    edit(cell / "training.json", lambda content: content.update(status="diverged"))
    edit(cell / "evaluation.json", lambda content: content.update(mixed=None, mask_only={
        key: value for key, value in content["mask_only"].items()
        if key not in ("excess_nll", "share_closed")} | unknown))
    row = cell_table(StudyResults(fake)).set_index(["arm", "seed"]).loc[("dynamic", 1)]
    assert row.nll < 4
    assert [math.isnan(row[key]) for key in ("excess_nll", "share_closed", "mixed_perplexity")] == [True] * 3
