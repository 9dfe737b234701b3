"""MLflow as a view of the files: repeated calls change nothing, nothing is duplicated, and training never waits."""
import shutil
import subprocess
import sys
import time

import pytest

from study import StudyError
from study.data.summary_tables import STAGES
from study.tracking.client import serve_ui, tracking_uri
from study.tracking.live import LiveRun
from study.tracking.runs import FILES, track
from tests.support.fake_results import compare, fake_cell, fake_study
from tests.support.mlflow_server import records, runs
from tests.support.studies import ROOT
from tests.support.summaries import write_summaries

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


def log_live(study, lines):
    """Logs the cell dynamic-0 as training does."""
    with LiveRun(study, delay=0) as run:
        run.start({"arm": "dynamic", "seed": 0, "fingerprint": "dynamic0", "settings": {"model": {"hidden_size": 8}}})
        for line in lines:
            run.log(line, 100.0)
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


def test_a_cell_is_one_run_whether_live_resumed_or_rebuilt(study, database):
    shutil.copy(database, study.root)
    lines = records(study)
    log_live(study, lines[:2])
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


def test_cells_that_start_together_share_experiment_and_arm(study):
    cells = [subprocess.Popen([sys.executable, "-c", CELL, study.folder, str(seed)], cwd=ROOT, stderr=subprocess.PIPE)
             for seed in (0, 1)]
    messages = [cell.communicate(timeout=60)[1].decode() for cell in cells]
    assert all("logging stopped" not in message for message in messages), messages
    assert len(runs(study, kind="arm")[1]) == 1
    assert len(runs(study, kind="cell")[1]) == 2


def test_a_dead_tracker_does_not_stop_a_cell(study, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    began = time.monotonic()
    log_live(study, records(study))
    assert time.monotonic() - began < 8
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
