"""Minimal pairs and token identity: metrics, tables, report and MLflow, in studies that measure them and in others."""
import json

import numpy as np
import pandas as pd
import pytest

from study.analysis import registration, statistics
from study.analysis.claims import load_claims
from study.analysis.comparisons import compare_arms
from study.analysis.further_tables import ALL, further_tables, one_cell_rows
from study.analysis.metrics import cell_metric
from study.analysis.results import StudyResults
from study.analysis.statistics import rate_interval
from study.config.load import load_study
from study.report.page import write_report
from study.tracking.runs import final_metrics
from tests.support.drawings import without_drawings
from tests.support.fake_arms import SEEDS, many_arms
from tests.support.fake_results import compare
from tests.support.further_results import (
    DOCUMENTS,
    LAYERS,
    LEVELS,
    PARADIGMS,
    PHENOMENA,
    add_further,
    read_by,
    right_by,
    with_further,
)

ARMS = ["dynamic", "all-mask", "absolute-positions", "left-to-right"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of four arms with both measures, compared and reported. The last arm is not a masked language model."""
    study = many_arms(tmp_path_factory.mktemp("further"), ARMS, with_further)
    add_further(study)
    verdicts = compare(study)
    with without_drawings("further_figures", "panels"):
        write_report(study)
    return study, verdicts


@pytest.fixture(scope="module")
def results(study):
    return StudyResults(study[0])


def numbers(results, arm: str, metric: str) -> list:
    return [cell_metric(results, cell, metric) for cell in results.of_arm(arm)]


def test_metrics_have_a_number_per_paradigm_and_per_document(results):
    for metric, texts in (("minimal_pairs_accuracy", len(PARADIGMS)), ("token_identity_last_layer", DOCUMENTS)):
        for value in numbers(results, "dynamic", metric):
            assert value.texts.shape == (texts,)
            assert value.texts.mean() == pytest.approx(value.cell)
    accuracy, over = (numbers(results, "dynamic", name) for name in ("minimal_pairs_accuracy",
                                                                     "minimal_pairs_over_bigram"))
    assert [a.cell - b.cell for a, b in zip(accuracy, over, strict=True)] == pytest.approx([LEVELS["bigram"]] * 5)
    gain = numbers(results, "all-mask", "token_identity_gain")
    assert [value.cell for value in gain] == pytest.approx([read_by("all-mask") - 1.0] * 5, abs=0.05)
    assert numbers(results, "left-to-right", "minimal_pairs_accuracy") == [None] * 5


def test_arms_are_compared_over_seeds_and_paradigms(results):
    comparison = compare_arms(results, "absolute-positions", "dynamic", "minimal_pairs_accuracy")
    assert comparison.estimate.mean == pytest.approx(right_by("absolute-positions") - right_by("dynamic"), abs=0.1)
    assert comparison.estimate.components.texts == len(PARADIGMS)
    assert comparison.estimate.components.seeds == len(SEEDS)
    assert compare_arms(results, "left-to-right", "dynamic", "minimal_pairs_accuracy") is None


def test_the_table_of_pairs_has_every_phenomenon_with_both_baselines(study, results):
    table = pd.read_csv(study[0].reports / "tables" / "minimal_pairs.csv")
    assert table.arm.unique().tolist() == ARMS[:3]
    for arm, part in table.groupby("arm"):
        part = part.set_index("phenomenon")
        assert part.index.tolist() == [ALL, *PHENOMENA]
        assert part.pairs.tolist() == [120, 60, 60]
        assert part.accuracy[ALL] == pytest.approx(np.mean([
            value.cell for value in numbers(results, arm, "minimal_pairs_accuracy")]), abs=1e-5)
        assert part.accuracy[ALL] == pytest.approx(part.accuracy[list(PHENOMENA)].mean(), abs=1e-5)
        assert ((part.low < part.accuracy) & (part.accuracy < part.high)).all()
        assert part["word-frequency"].tolist() == [LEVELS["word-frequency"]] * 3
        assert part.bigram.tolist() == [LEVELS["bigram"]] * 3


def test_the_interval_of_a_phenomenon_is_over_seeds_and_pairs(results):
    table = further_tables(results)["minimal_pairs"].set_index(["arm", "phenomenon"])
    correct = np.stack([cell.evaluation_arrays["pairs/order/correct"][:60] for cell in results.of_arm("all-mask")])
    expected = statistics.two_way_estimate(correct.astype(float)).interval()
    assert tuple(table.loc[("all-mask", PHENOMENA[0]), ["low", "high"]]) == pytest.approx(expected)


@pytest.mark.parametrize(("paradigms", "right"), [
    (["1"] * 10, 8), (["1"] * 10, 10), (list("abcdefghij"), 10), (list("abcdefghij"), 8)])
def test_the_interval_over_all_pairs_of_one_template_or_of_one_each_is_that_of_a_share(paradigms, right):
    frame = pd.DataFrame({"phenomenon": ["order"] * 10, "paradigm": paradigms})
    correct = np.repeat([1.0, 0.0], [right, 10 - right])
    row = one_cell_rows(frame, {"encoder": correct, "word-frequency": correct, "bigram": correct})[0]
    assert (row["phenomenon"], row["accuracy"]) == (ALL, right / 10)
    assert (row["low"], row["high"]) == rate_interval(right, 10)
    assert row["low"] < row["high"]


def test_the_table_of_token_identity_has_every_layer_of_both_encoders(study):
    table = pd.read_csv(study[0].reports / "tables" / "token_identity.csv")
    assert len(table) == len(ARMS) * 2 * LAYERS
    last = table[table.layer == LAYERS - 1].set_index(["arm", "encoder"])
    for arm in ARMS:
        assert last.accuracy[arm, "trained"] == pytest.approx(read_by(arm), abs=0.03)
        assert last.accuracy[arm, "untrained"] == 1.0
        assert last.low[arm, "trained"] < last.accuracy[arm, "trained"] < last.high[arm, "trained"]


def test_claims_about_visible_tokens_and_positions_are_decided_by_these_measures(study):
    claims = load_claims(study[0])
    assert {claims["S0.16"].metric, claims["P5"].metric} == {"token_identity_last_layer", "minimal_pairs_accuracy"}
    assert study[1]["S0.16"].outcome == "holds"             # the made-up all-mask loses 20 points
    assert study[1]["S0.16"].effect == pytest.approx(-0.2, abs=0.03)
    assert study[1]["P5"].effect == pytest.approx(-0.15, abs=0.1)


def test_the_report_shows_both_measures(study):
    folder = study[0].reports
    text = (folder / "README.md").read_text()
    assert "### Minimal pairs: order" in text
    assert "### Token identity" in text
    assert "Word frequencies are right in 50.0 %, bigrams in 60.0 %." in text
    assert "[minimal pairs](tables/minimal_pairs.csv), [token identity](tables/token_identity.csv)" in text
    drawn = {name: (folder / "figures" / f"{name}.svg").read_text() for name in ("minimal-pairs", "token-identity")}
    assert all(f">{name}<" in drawn["minimal-pairs"] for name in (ALL, *PHENOMENA, "word frequency", "bigram"))
    assert "visible tokens read, %" in drawn["token-identity"]
    assert "all-mask" in drawn["token-identity"]
    rows = [line for line in text.split("### Minimal pairs: order")[1].splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[1:4]] == ARMS[:3]


def test_the_report_can_be_made_from_committed_files_alone(study, tmp_path):
    level = json.loads((study[0].reports / "data.json").read_text())["minimal_pairs"]["order"]
    assert level["bigram"]["accuracy"] == LEVELS["bigram"]
    path = study[0].runs / "examples" / "minimal_pairs.json"
    content = path.read_bytes()
    path.unlink()
    try:
        assert StudyResults(study[0]).pair_baselines["order"] == level
    finally:
        path.write_bytes(content)


def test_mlflow_gets_both_measures(study):
    cell = StudyResults(study[0]).cell("all-mask", SEEDS[0])
    files = {f"{name}.json": json.loads((cell.folder / f"{name}.json").read_text())
             for name in ("training", "evaluation", "probe")}
    values = final_metrics(study[0], "all-mask", SEEDS[0], files)
    assert values["minimal_pairs_order"] == cell.evaluation["minimal_pairs"]["order"]["accuracy"]
    for encoder, shares in cell.evaluation["token_identity"]["layers"].items():
        assert [values[f"token_identity_{encoder}_layer_{layer}"] for layer in range(LAYERS)] == shares
    del files["evaluation.json"]["minimal_pairs"], files["evaluation.json"]["token_identity"]
    others = final_metrics(study[0], "all-mask", SEEDS[0], files)
    assert others == {name: value for name, value in values.items()
                      if not name.startswith(("minimal_pairs_", "token_identity_", "test_token_identity",
                                              "test_minimal_pairs"))}


def test_results_from_before_the_setting_are_left_out(tmp_path):
    study = many_arms(tmp_path, ["dynamic", "all-mask"])
    assert study.settings.evaluation.token_identity
    assert compare(study)["S0.16"].outcome == "not testable here"
    with without_drawings():
        write_report(study)
    assert len(pd.read_csv(study.reports / "tables" / "token_identity.csv")) == 0
    assert "### Token identity" not in (study.reports / "README.md").read_text()


def test_a_study_without_them_has_no_such_tables_and_sections(tmp_path):
    study = many_arms(tmp_path, ["dynamic", "all-mask"], lambda text: text.replace(", token_identity: 400", ""))
    assert study.settings.evaluation.token_identity is None
    verdicts = compare(study)
    with without_drawings():
        write_report(load_study(tmp_path))
    written = {path.stem for path in (study.reports / "tables").iterdir()}
    assert not {"minimal_pairs", "token_identity"} & written
    text = (study.reports / "README.md").read_text()
    assert "Minimal pairs" not in text
    assert "token_identity" not in text
    assert "minimal_pairs" not in json.loads((study.reports / "data.json").read_text())
    assert verdicts["S0.16"].outcome == "not testable here"
    assert verdicts["S0.16"].reason == "this study does not measure it: evaluation.token_identity is not set"
    assert "S0.16" not in registration.testable(study, load_claims(study))
