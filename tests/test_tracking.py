"""MLflow as a view of the files: idempotent, never doubled, and never in the way of training."""
import json
import time

import pytest

from study.analysis.results import compare
from study.report.page import write_report
from study.tracking import LiveRun, _client, _experiment, _find, track
from tests.report.fake import fake_cell, fake_study


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = fake_study(tmp_path)
    compare(study)
    write_report(study)
    return study


def runs(study, **tags):
    client = _client(study)
    return client, _find(client, _experiment(client, study), **tags)


def live(study):
    settings = {"model": {"hidden_size": 8}}
    with LiveRun(study) as run:
        run.start({"arm": "dynamic", "seed": 0, "fingerprint": "dynamic0", "settings": settings})
        for line in (study.cell("dynamic", 0) / "metrics.jsonl").read_text().splitlines():
            run.log(json.loads(line), 100.0)
        run.finish({"status": "finished"})


def test_live_run_then_track_leave_one_whole_run(study):
    live(study)
    live(study)
    client, found = runs(study, fingerprint="dynamic0")
    assert len(found) == 1
    assert len(client.get_metric_history(found[0].info.run_id, "loss")) == 4
    assert track(study) == 6
    client, found = runs(study, kind="cell")
    assert len(found) == 4
    run = next(r for r in found if r.info.run_name == "dynamic-0")
    assert len(client.get_metric_history(run.info.run_id, "validation_perplexity")) == 4
    assert run.data.metrics["perplexity"] == pytest.approx(7.389, abs=0.01)
    assert run.data.params["model.hidden_size"] == "32"
    assert run.data.tags["arm"] == "dynamic"
    assert run.inputs.dataset_inputs
    assert {f.path for f in client.list_artifacts(run.info.run_id)} >= {"metrics.jsonl", "settings.yaml"}
    parents = runs(study, kind="arm")[1]
    assert {p.info.run_id for p in parents} >= {run.data.tags["mlflow.parentRunId"]}
    base = next(p for p in parents if p.data.tags["arm"] == "dynamic")
    assert {f.path for f in client.list_artifacts(base.info.run_id, "report")} == {"report/index.html",
                                                                                    "report/README.md"}
    assert track(study) == 0
    fake_cell(study, "static", 1, 3.0)
    assert track(study) == 1
    assert len(runs(study, kind="cell")[1]) == 4


def test_a_dead_tracker_does_not_stop_a_cell(study, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    began = time.monotonic()
    live(study)
    assert time.monotonic() - began < 15
