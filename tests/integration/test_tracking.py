"""MLflow as a view of the files: idempotent, never doubled, and never in the way of training."""
import shutil
import subprocess
import sys
import time

import pytest

from study import StudyError
from study.tracking.runs import FILES, LiveRun, track, tracking_uri, ui
from tests.support.fake_results import compare, fake_cell, fake_study
from tests.support.mlflow_server import records, runs
from tests.support.studies import ROOT

CELL = """
import sys
from study.tracking import runs as tracking
from study.config.load import load_study
tracking.PATIENCE = 60
with tracking.LiveRun(load_study(sys.argv[1]), grace=0) as live:
    live.start({"arm": "dynamic", "seed": int(sys.argv[2]), "fingerprint": sys.argv[2], "settings": {}})
    live.log({"step": 0, "tokens": 0, "loss": 1.0}, 0.0)
    live.finish({"status": "finished"})
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An empty MLflow database: making one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = fake_study(tmp_path)
    compare(study)
    page = "<!doctype html><title>report</title>"   # what the page says is tests/report's matter
    (study.reports / "index.html").write_text(page)
    (study.reports / "README.md").write_text("# report\n")
    return study


def live(study, lines):
    """The cell dynamic-0 as training reports it."""
    with LiveRun(study, grace=0) as run:
        run.start({"arm": "dynamic", "seed": 0, "fingerprint": "dynamic0", "settings": {"model": {"hidden_size": 8}}})
        for line in lines:
            run.log(line, 100.0)
        run.finish({"status": "finished"})


def test_a_cell_is_one_run_live_resumed_and_rebuilt(study, database):
    shutil.copy(database, study.root)
    lines = records(study)
    live(study, lines[:2])
    live(study, lines[1:])                  # gone on with from a checkpoint before the last record
    client, found = runs(study, fingerprint="dynamic0")
    assert len(found) == 1
    assert found[0].info.status == "FINISHED"
    points = client.get_metric_history(found[0].info.run_id, "loss")
    assert [(p.step, p.value) for p in points] == [(line["step"], line["loss"]) for line in lines]
    assert track(study) == 6                # four cells, two arms
    client, found = runs(study, kind="cell")
    assert sorted(run.info.run_name for run in found) == ["dynamic-0", "dynamic-1", "static-0", "static-1"]
    run = next(r for r in found if r.info.run_name == "dynamic-0")
    for curve in ("loss", "validation_perplexity"):
        assert len(client.get_metric_history(run.info.run_id, curve)) == len(lines)
    assert run.data.metrics["perplexity"] == pytest.approx(7.389, abs=0.01)
    assert run.data.params["model.hidden_size"] == "32"
    assert run.data.tags["status"] == "finished"
    assert {data.dataset.digest for data in run.inputs.dataset_inputs} == {"0123456789ab", "abcd"}
    assert {f.path for f in client.list_artifacts(run.info.run_id)} == set(FILES)
    base = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert base.data.tags["arm"] == "dynamic"
    metrics = base.data.metrics
    assert metrics["perplexity_low"] < metrics["perplexity_mean"] == metrics["perplexity"] < metrics["perplexity_high"]
    assert {f.path for f in client.list_artifacts(base.info.run_id, "report")} == {"report/index.html",
                                                                                   "report/README.md"}


def test_the_reports_cells_lead_to_their_runs(study, database):
    shutil.copy(database, study.root)
    track(study)
    _, found = runs(study, kind="cell")
    page = (study.reports / "mlflow.html").read_text()
    assert len(found) == 4
    for run in found:
        target = f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        assert f'<li id="{run.data.tags["fingerprint"]}"><a href="{target}">{run.info.run_name}</a></li>' in page


def test_only_what_changed_is_written_again(study, database):
    shutil.copy(database, study.root)
    assert track(study) == 6
    before = {run.info.run_name: run.info.run_id for run in runs(study, kind="cell")[1]}
    assert track(study) == 0
    fake_cell(study, "static", 1, 3.0)
    assert track(study) == 1
    after = {run.info.run_name: run.info.run_id for run in runs(study, kind="cell")[1]}
    assert len(runs(study, kind="cell")[1]) == 4
    assert {name for name in after if after[name] != before[name]} == {"static-1"}
    live(study, records(study))             # trained once more: nothing is added, the files decide again
    assert track(study) == 1
    assert len(runs(study, kind="cell")[1]) == 4


def test_cells_that_start_at_once_share_experiment_and_arm(study):
    cells = [subprocess.Popen([sys.executable, "-c", CELL, study.folder, str(seed)], cwd=ROOT, stderr=subprocess.PIPE)
             for seed in (0, 1)]
    said = [config.communicate(timeout=60)[1].decode() for config in cells]
    assert all("tracking stopped" not in text for text in said), said
    assert len(runs(study, kind="arm")[1]) == 1
    assert len(runs(study, kind="cell")[1]) == 2


def test_a_dead_tracker_does_not_stop_a_cell(study, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    began = time.monotonic()
    live(study, records(study))
    assert time.monotonic() - began < 8
    assert capsys.readouterr().err.count("`study track` will fill it in") == 1
    with pytest.raises(StudyError, match=r"MLflow at http://127\.0\.0\.1:9"):
        track(study)


def test_nothing_recorded_is_said(study):
    assert tracking_uri(study) == f"sqlite:///{study.root.resolve() / 'mlflow.db'}"
    with pytest.raises(StudyError, match="nothing recorded yet"):
        ui(study, 5000)


def test_a_short_cell_is_left_to_track(tmp_path, monkeypatch):
    study = fake_study(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with LiveRun(study) as run:
        run.start({"arm": "dynamic", "seed": 0, "fingerprint": "x", "settings": {}})
        run.log({"step": 1, "loss": 1.0}, 5.0)
    assert not (tmp_path / "mlflow.db").exists()
