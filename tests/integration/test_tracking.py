"""MLflow as a view of the files: repeated calls change nothing, nothing is duplicated, and training never waits."""
import json
import math
import shutil
import subprocess
import sys
from contextlib import suppress

import pandas as pd
import pytest

from study import StudyError
from study.config.load import load_study
from study.data.summary_tables import STAGES
from study.report.claims import claim_rows, with_runs
from study.tracking.client import serve_ui, tracking_uri
from study.tracking.live import LiveRun
from study.tracking.runs import FILES, track
from tests.support.fake_results import compare, fake_cell, fake_study, write_params
from tests.support.mlflow_server import records, runs
from tests.support.studies import ROOT
from tests.support.summaries import write_summaries, write_task_summary

CELL = """
import sys
from study.config.load import load_study
from study.tracking import live
live.PATIENCE = 60
with live.LiveRun(load_study(sys.argv[1]), delay=0) as run:
    run.start({"arm": "dynamic", "seed": int(sys.argv[2]), "fingerprint": sys.argv[2], "settings": {}})
    run.log({"step": 0, "tokens": 0, "loss": 1.0}, 0.0)
    run.finish({"status": "finished"})
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An empty MLflow database, since creating one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = fake_study(tmp_path)
    compare(study)
    (study.reports / "index.html").write_text("<!doctype html><title>report</title>")
    (study.reports / "README.md").write_text("# report\n")
    return study


def log_live(study, lines, end=None):
    """Logs the cell dynamic-0 as training does. end: an exception that stops it after these lines."""
    with suppress(KeyboardInterrupt), LiveRun(study, delay=0) as run:
        run.start({"arm": "dynamic", "seed": 0, "fingerprint": "dynamic0", "settings": {"model": {"hidden_size": 8}}})
        for line in lines:
            run.log(line, 100.0)
        if end:
            raise end
        run.finish({"status": "finished"})


def test_the_baseline_has_the_summaries_of_the_data(study, database):
    shutil.copy(database, study.root)
    assert track(study) == 6
    write_summaries(study)
    assert track(study) == 1                # only the baseline's run
    assert track(study) == 0
    client, (run,) = runs(study, kind="arm", arm="dynamic")
    found = {stage: [file.path for file in client.list_artifacts(run.info.run_id, f"data/{stage}")] for stage in STAGES}
    assert found == {stage: [f"data/{stage}/summary.json"] for stage in STAGES}
    write_task_summary(study)
    assert track(study) == 1
    assert [file.path for file in client.list_artifacts(run.info.run_id, "data/tasks/topic")] == [
        "data/tasks/topic/summary.json"]


def test_a_cell_is_one_run_whether_live_resumed_or_rebuilt(study, database):
    shutil.copy(database, study.root)
    lines = records(study)
    log_live(study, lines[:2], KeyboardInterrupt())
    log_live(study, lines[1:])              # resumed from a checkpoint before the last record
    client, cells = runs(study, fingerprint="dynamic0")
    assert len(cells) == 1
    assert cells[0].info.status == "FINISHED"
    points = client.get_metric_history(cells[0].info.run_id, "loss")
    assert [(point.step, point.value) for point in points] == [(line["step"], line["loss"]) for line in lines]
    assert track(study) == 6                # four cells, two arms
    client, cells = runs(study, kind="cell")
    assert sorted(run.info.run_name for run in cells) == ["dynamic-0", "dynamic-1", "static-0", "static-1"]
    run = next(run for run in cells if run.info.run_name == "dynamic-0")
    for curve in ("loss", "validation_perplexity"):
        assert len(client.get_metric_history(run.info.run_id, curve)) == len(lines)
    assert run.data.metrics["perplexity"] == pytest.approx(7.389, abs=0.01)
    assert run.data.params["model.hidden_size"] == "32"
    assert run.data.tags["status"] == "finished"
    assert {data.dataset.digest for data in run.inputs.dataset_inputs} == {"0123456789ab", "abcd"}
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == set(FILES) - {"finetune.json"}
    arm = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert arm.data.tags["arm"] == "dynamic"
    metrics = arm.data.metrics
    assert metrics["perplexity_low"] < metrics["perplexity_mean"] == metrics["perplexity"] < metrics["perplexity_high"]
    assert {file.path for file in client.list_artifacts(arm.info.run_id, "report")} == {"report/index.html",
                                                                                      "report/README.md"}


def test_the_report_links_to_the_runs_of_its_cells(study, database):
    shutil.copy(database, study.root)
    track(study)
    _, cells = runs(study, kind="cell")
    page = (study.reports / "mlflow.html").read_text()
    assert len(cells) == 4
    for run in cells:
        target = f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        assert f'<li id="{run.data.tags["fingerprint"]}"><a href="{target}">{run.info.run_name}</a></li>' in page


def test_only_changed_cells_are_written_again(study, database):
    shutil.copy(database, study.root)
    assert track(study) == 6
    before = {run.info.run_name: run.info.run_id for run in runs(study, kind="cell")[1]}
    assert track(study) == 0
    fake_cell(study, "static", 1, 3.0)
    assert track(study) == 1
    after = {run.info.run_name: run.info.run_id for run in runs(study, kind="cell")[1]}
    assert len(runs(study, kind="cell")[1]) == 4
    assert {name for name in after if after[name] != before[name]} == {"static-1"}
    log_live(study, records(study))         # trained again: no run is added, and the files are authoritative again
    assert track(study) == 1
    assert len(runs(study, kind="cell")[1]) == 4


@pytest.mark.parametrize("end", [None, KeyboardInterrupt()])
def test_a_cell_that_is_trained_again_shows_its_new_curve_only(study, database, end):
    """As after a change of the code, which is not in the fingerprint."""
    shutil.copy(database, study.root)
    lines = records(study)
    log_live(study, lines, end)
    log_live(study, [line | {"loss": 9.0} for line in lines[:2]], KeyboardInterrupt())
    client, (run,) = runs(study, fingerprint="dynamic0")
    points = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in points] == [(line["step"], 9.0) for line in lines[:2]]


def test_training_that_goes_on_after_a_finished_run_is_a_new_run(study, database):
    """As when `study track` runs on the old result while the cell is trained again, and then training is resumed."""
    shutil.copy(database, study.root)
    lines = records(study)
    log_live(study, lines)
    log_live(study, lines[1:])
    client, (run,) = runs(study, fingerprint="dynamic0")
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [line["step"]
                                                                                             for line in lines[1:]]


def test_runs_of_removed_cells_and_arms_are_deleted_but_not_registered_models(study, database):
    shutil.copy(database, study.root)
    track(study)
    client, (arm,) = runs(study, kind="arm", arm="static")
    client.create_registered_model("tiny-encoder")
    client.create_model_version("tiny-encoder", f"runs:/{arm.info.run_id}/encoder", arm.info.run_id)
    smaller = write_params(study.folder, "tiny", ["dynamic"], [0])
    track(smaller)
    names = sorted(run.info.run_name for kind in ("arm", "cell") for run in runs(study, kind=kind)[1])
    assert names == ["dynamic", "dynamic-0", "static"]
    assert "dynamic-1" not in (study.reports / "mlflow.html").read_text()
    client.delete_registered_model("tiny-encoder")
    track(smaller)
    assert [run.info.run_name for run in runs(study, kind="arm")[1]] == ["dynamic"]


def test_a_new_description_of_an_arm_reaches_its_runs(study, database):
    shutil.copy(database, study.root)
    track(study)
    path = study.root / "experiments/arms.yaml"
    path.write_text(path.read_text().replace("Masks are redrawn in every epoch.", "Masks are drawn again."))
    assert track(load_study(study.folder)) == 3         # the arm and its two cells
    _, described = runs(study, arm="dynamic")
    assert [run.data.tags["mlflow.note.content"] for run in described] == 3 * ["Masks are drawn again."]


def test_the_run_of_an_arm_has_the_outcomes_of_its_claims(study, database):
    shutil.copy(database, study.root)
    path = study.reports / "claims.json"
    claims = json.loads(path.read_text())
    claims["A/A"] = claims["L10"] | {"treatment": "static", "baseline": "dynamic"}
    path.write_text(json.dumps(claims))
    tested = {row["id"]: row for row in with_runs(claim_rows(study))}
    path.unlink()
    assert track(study) == 6                # before the compare stage
    assert outcomes(study) == {"dynamic": {}, "static": {}}
    path.write_text(json.dumps(claims))
    assert track(study) == 2                # the two arms
    assert track(study) == 0
    expected = {arm: {f"claim/{name}": f"{row['shown']}; {row['fidelity']}" for name, row in tested.items()
                      if (row.get("treatment") or row["arm"]) == arm} for arm in ("dynamic", "static")}
    assert all(expected.values())
    assert outcomes(study) == expected
    claims["S0.10"]["result"]["outcome"] = "holds"
    del claims["A/A"]
    path.write_text(json.dumps(claims))
    assert track(study) == 2
    assert outcomes(study)["dynamic"]["claim/S0.10"].startswith("holds")
    assert outcomes(study)["static"] == {}
    client, (run,) = runs(study, kind="arm", arm="dynamic")
    found = client.search_runs([run.info.experiment_id], """tags."claim/S0.10" LIKE 'holds%'""")    # as in docs
    assert [other.info.run_name for other in found] == ["dynamic"]


def outcomes(study) -> dict[str, dict[str, str]]:
    """Arm -> the tags about claims of its run. No run of a cell has any."""
    tags = {run.info.run_name: {key: text for key, text in run.data.tags.items() if key.startswith("claim/")}
            for kind in ("arm", "cell") for run in runs(study, kind=kind)[1]}
    cells = [name for name in tags if name.rpartition("-")[0]]
    assert len(cells) == 4
    assert not any(tags.pop(name) for name in cells)
    return tags


def test_a_metric_that_an_arm_no_longer_has_is_nan(study, database):
    shutil.copy(database, study.root)
    track(study)
    path = study.reports / "tables" / "arms.csv"
    table = pd.read_csv(path, index_col="arm")
    table.loc["static", "perplexity_mean"] = None
    table.drop(columns="probe_accuracy_mean").to_csv(path)
    assert track(study) == 2
    for arm, missing in (("static", {"perplexity", "perplexity_mean", "probe_accuracy", "probe_accuracy_mean"}),
                         ("dynamic", {"probe_accuracy", "probe_accuracy_mean"})):
        _, (run,) = runs(study, kind="arm", arm=arm)
        assert {key for key, value in run.data.metrics.items() if math.isnan(value)} == missing
    assert track(study) == 0


def test_cells_that_start_together_share_experiment_and_arm(study):
    cells = [subprocess.Popen([sys.executable, "-c", CELL, study.folder, str(seed)], cwd=ROOT, stderr=subprocess.PIPE)
             for seed in (0, 1)]
    messages = [cell.communicate(timeout=60)[1].decode() for cell in cells]
    assert all("logging stopped" not in message for message in messages), messages
    assert len(runs(study, kind="arm")[1]) == 1
    assert len(runs(study, kind="cell")[1]) == 2


def test_a_dead_tracker_does_not_stop_a_cell(study, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    log_live(study, records(study))
    assert capsys.readouterr().err.count("`study track` will add what is missing") == 1
    with pytest.raises(StudyError, match=r"MLflow at http://127\.0\.0\.1:9"):
        track(study)


def test_a_password_in_the_address_is_not_shown(study, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(StudyError, match=r"MLflow at http://127\.0\.0\.1:9") as error:
        track(study)
    assert "secret" not in str(error.value)


def test_the_ui_needs_a_database(study):
    assert tracking_uri(study) == f"sqlite:///{study.root.resolve() / 'mlflow.db'}"
    with pytest.raises(StudyError, match="no runs recorded yet"):
        serve_ui(study, 5000)


def test_the_ui_listens_on_this_machine_only_and_sends_no_telemetry(study, monkeypatch):
    calls = []
    (study.root / "mlflow.db").touch()
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.execve", lambda path, arguments, environment: calls.append((arguments, environment)))
    serve_ui(study, 5001)
    ((arguments, environment),) = calls
    options = dict(zip(arguments[4::2], arguments[5::2], strict=True))
    assert (options["--host"], options["--port"]) == ("127.0.0.1", "5001")
    assert (environment["MLFLOW_DISABLE_TELEMETRY"], environment["DO_NOT_TRACK"]) == ("true", "true")


def test_a_short_cell_is_not_logged_live(tmp_path, monkeypatch):
    study = fake_study(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with LiveRun(study) as run:
        run.start({"arm": "dynamic", "seed": 0, "fingerprint": "x", "settings": {}})
        run.log({"step": 1, "loss": 1.0}, 5.0)
    assert not (tmp_path / "mlflow.db").exists()
