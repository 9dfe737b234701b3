"""Fine-tuned accuracy in metrics, tables, the report and MLflow, and the claims that need it."""
import json
import re

import numpy as np
import pandas as pd
import pytest

from study.analysis import registration
from study.analysis.claims import load_claims
from study.analysis.metrics import cell_metric
from study.analysis.results import StudyResults
from study.analysis.tables import arm_table, cell_table, finetune_table
from study.analysis.verdict import why_untested
from study.config.load import load_study
from study.report.page import write_report
from study.tracking.runs import final_metrics
from tests.support.drawings import without_drawings
from tests.support.fake_arms import many_arms
from tests.support.fake_results import compare
from tests.support.studies import ROOT

ARMS = ["dynamic", "all-mask", "dynamic-reseeded"]
FINE_TUNED = ["dynamic", "all-mask"]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A study of three arms, two of which are fine-tuned."""
    return many_arms(tmp_path_factory.mktemp("many"), ARMS, lambda text: text.replace(
        "  arms: [dynamic]\n  tasks", f"  arms: [{', '.join(FINE_TUNED)}]\n  tasks"))


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """The same without fine-tuning."""
    return many_arms(tmp_path_factory.mktemp("without"), ARMS, lambda text: re.sub(
        r"\nfinetune:\n.*", "\nfinetune: {arms: [], tasks: []}\n", text, flags=re.S))


def right(cell, key: str) -> np.ndarray:
    """(runs, N): whether the prediction is right."""
    return cell.finetune_arrays[f"topic/{key}/predicted"] == cell.finetune_arrays["topic/label"]


def test_a_metric_is_the_mean_over_runs_with_a_number_per_text(many):
    results = StudyResults(many)
    cell = results.cell("all-mask", 11)
    trained, small, untrained, epochs = (right(cell, key).mean(0) for key in (
        "80/trained", "24/trained", "80/untrained", "24/more-epochs"))
    for name, expected in (("finetuned_accuracy", trained), ("finetuned_small", small),
                           ("finetuned_gain", trained - untrained), ("finetuned_more_epochs", epochs - small)):
        value = cell_metric(results, cell, name)
        assert value.texts == pytest.approx(expected)
        assert value.cell == pytest.approx(expected.mean())
    spreads = {size: right(cell, f"{size}/trained").mean(1).std(ddof=1) for size in (24, 80)}
    assert cell_metric(results, cell, "finetuned_spread_small").cell == pytest.approx(spreads[24] - spreads[80])
    assert cell_metric(results, cell, "finetuned_rate").cell == pytest.approx(np.log10(0.003))
    assert cell_metric(results, cell, "finetuned_rate_small").cell == pytest.approx(-1)
    assert cell_metric(results, cell, "finetuned_no_warmup") is None       # the study has no such variant
    assert cell_metric(results, results.cell("dynamic-reseeded", 11), "finetuned_accuracy") is None


def test_tables_and_dvc_metrics_have_means_and_both_spreads(many):
    results, verdicts = StudyResults(many), compare(many)
    table = finetune_table(results).set_index(["arm", "rows", "recipe"])
    assert set(table.index) == {(arm, size, name) for arm in FINE_TUNED for size in (24, 80)
                                for name in ("trained", "untrained", "more-epochs")}
    runs = np.array([right(cell, "24/trained").mean(1) for cell in results.of_arm("dynamic")])         # (cells, runs)
    row = table.loc["dynamic", 24, "trained"]
    assert row.accuracy == pytest.approx(runs.mean())
    assert row.spread_runs == pytest.approx(np.sqrt(runs.var(1, ddof=1).mean()))
    assert row.spread_cells == pytest.approx(runs.mean(1).std(ddof=1))
    assert (row.rate, row.diverged, row.n) == (pytest.approx(3e-4), 0, 5)
    arms = arm_table(results, cell_table(results)).set_index("arm")
    expected = np.mean([right(cell, "80/trained").mean() for cell in results.of_arm("all-mask")])
    assert arms.finetuned_accuracy_mean["all-mask"] == pytest.approx(expected)
    assert np.isnan(arms.finetuned_accuracy_mean["dynamic-reseeded"])
    metrics = json.loads((many.reports / "metrics.json").read_text())
    assert metrics["all-mask"]["finetuned_accuracy"] == pytest.approx(expected, rel=1e-5)
    assert verdicts["L2-ft"].n == 5
    assert verdicts["L2-ft"].effect == pytest.approx(
        arms.finetuned_accuracy_mean["all-mask"] - arms.finetuned_accuracy_mean["dynamic"])
    assert verdicts["L26b"].outcome == "holds"


def test_the_report_has_a_figure_and_a_row_per_arm_and_number_of_rows(many):
    compare(many)
    with without_drawings("finetuned"):
        text = write_report(many).with_name("README.md").read_text()
    section = text[text.index("## Fine-tuning\n"):text.index("## Arms")]
    assert (many.reports / "figures" / "finetuned.svg").exists()
    assert len(re.findall(r"^\| (?:dynamic|all\\?-mask) \|", section, re.M)) == 2 * len(FINE_TUNED)
    accuracy = pd.read_csv(many.reports / "tables" / "finetuned.csv").query(
        "arm == 'dynamic' and rows == 80 and recipe == 'trained'").accuracy.item()
    assert f"| dynamic | 80 | 5 | {100 * accuracy:.1f} |" in section
    assert "more-epochs" in section


def test_a_study_without_fine_tuning_has_no_trace_of_it(without):
    verdicts, results = compare(without), StudyResults(without)
    with without_drawings():
        report = write_report(without).with_name("README.md").read_text()
    assert "## Fine-tuning" not in report
    assert not (without.reports / "tables" / "finetuned.csv").exists()
    assert not [name for table in (cell_table(results), arm_table(results, cell_table(results)))
                for name in table.columns if "finetuned" in name]
    assert "finetuned" not in (without.reports / "metrics.json").read_text()
    for name in ("L2-ft", "L26", "F1", "F5"):
        assert verdicts[name].outcome == "not testable here"
        assert "does not fine-tune" in verdicts[name].reason


def test_a_claim_needs_every_one_of_its_arms_fine_tuned(many):
    claims = load_claims(many)
    assert why_untested(many, claims["S0.15-ft"]) is None
    settings = many.settings.model_copy(update={"finetune": many.settings.finetune.model_copy(
        update={"arms": ["dynamic"]})})
    fewer = many.model_copy(update={"settings": settings})
    assert "does not fine-tune all-mask" in why_untested(fewer, claims["S0.15-ft"]).reason


@pytest.mark.parametrize("folder", [".", "experiments/plateau"])
def test_published_studies_test_none_of_the_claims_about_fine_tuning(folder):
    study = load_study(ROOT / folder)
    tested = registration.testable(study, load_claims(study))
    assert tested
    assert not [name for name, claim in tested.items() if getattr(claim, "family", None) == "fine-tuning"]


def test_mlflow_gets_every_accuracy(many):
    folder = many.cell("dynamic", 10)
    files = {name: json.loads((folder / name).read_text()) for name in ("training.json", "finetune.json")}
    values = final_metrics(many, "dynamic", 10, files)
    for size in (24, 80):
        for name in ("trained", "untrained", "more-epochs"):
            scores = files["finetune.json"]["topic"][name][str(size)]
            assert values[f"finetune_topic_{size}_{name}"] == scores["accuracy"]
