"""Measures of stability: in the tables of runs and arms, and beside every rate of divergence."""
import json
import math

import pandas as pd
import pytest

from study.analysis.results import StudyResults
from study.analysis.tables import STABILITY
from study.report.claims import claim_rows
from study.report.facts import gather
from study.report.formatting import render
from study.report.page import write_report
from study.report.stability import stability_of
from tests.support.drawings import without_drawings
from tests.support.fake_arms import SEEDS, many_arms
from tests.support.fake_results import compare, fake_study

RATE = "L12"                                # lr-3x diverges, and dynamic does not
TOLD = ("0 of 5 runs diverged; of the baseline, 0 of 5; on average a largest gradient norm of 12.00 (baseline 2.00), "
        "50.0 % (0.0 %) of the steps clipped, 1.0 (0.0) loss spikes, 1.0 % (0.0 %) of the logging intervals with a "
        "loss above the first one")


def record_stability(study) -> None:
    """Every run of lr-3x has gradient norms of 10 to 14, clips every other step and has one spike above its first loss;
    the runs of the other arms are smooth."""
    for arm, seed in study.cells:
        rough, path = arm == "lr-3x", study.cell(arm, seed) / "metrics.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for number, record in enumerate(records[1:], 1):
            record |= {"clipped": 2 if rough else 0, "largest_gradient_norm": float(seed) if rough else 2.0,
                       "largest_loss": 9.0 if rough and number == 50 else record["loss"]}
        path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = many_arms(tmp_path_factory.mktemp("many"), ["dynamic", "lr-3x"])
    record_stability(study)
    compare(study)
    return study


def test_the_tables_of_runs_and_arms_have_them(study):
    cells, arms = (pd.read_csv(study.reports / f"tables/{name}.csv").set_index("arm") for name in ("cells", "arms"))
    assert cells.loc["lr-3x", "largest_gradient_norm"].tolist() == SEEDS
    assert cells.loc["lr-3x", "loss_spikes"].tolist() == [1] * 5
    row = arms.loc["lr-3x"]
    assert [row[f"{metric}_mean"] for metric in STABILITY] == pytest.approx([12.0, 0.5, 1.0, 0.01], rel=0.02)
    assert row.largest_gradient_norm_low < 12 < row.largest_gradient_norm_high
    assert (arms.loc["dynamic", ["clipped_share_low", "clipped_share_high"]] == 0).all()


def test_a_rate_is_never_shown_alone(study):
    row = next(row for row in claim_rows(study) if row["id"] == RATE)
    assert row["measured"] == TOLD
    with without_drawings():
        write_report(study)
    facts = gather(StudyResults(study))
    for text in ((study.reports / "README.md").read_text(), render("verdicts.md", facts | {"linked": False})):
        assert f"| {TOLD} |" in text


def test_runs_that_were_recorded_without_them_have_none(tmp_path):
    study = fake_study(tmp_path)
    compare(study)
    for name, suffix in (("cells", ""), ("arms", "_mean")):
        table = pd.read_csv(study.reports / f"tables/{name}.csv")
        assert table[[f"{metric}{suffix}" for metric in STABILITY]].isna().all(axis=None)


def test_an_unknown_measure_is_left_out():
    claim = {"claim_type": "rate", "treatment": "a", "baseline": "b", "result": {"measured": "0 of 5 runs diverged"}}
    arms = {arm: {"loss_spikes_mean": 0.25, "clipped_share_mean": math.nan} for arm in "ab"}
    assert stability_of(claim, arms) == "on average 0.2 (0.2) loss spikes"
    assert stability_of(claim, {"a": {}, "b": {}}) == "their stability was not recorded"
    assert stability_of(claim | {"claim_type": "range"}, arms) == ""
    assert stability_of(claim | {"result": {"measured": ""}}, arms) == ""       # an arm is not trained
