"""Trackers that die, hang, refuse or are locked: training goes on, nothing is lost and nothing stands twice.

The server is a real one, stopped with SIGKILL and started again over the same database.
"""
import http.client
import http.server
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from study import StudyError
from study.tracking import runs as tracking
from study.tracking.runs import LiveRun, track
from tests.support.fake_results import compare, fake_study
from tests.support.mlflow_server import Server, records, runs
from tests.support.studies import ROOT

MANY = 60                                   # records of the live run


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = fake_study(tmp_path)
    compare(study)
    return study


def train(study, meanwhile=lambda step: None, grace: float = 0.0) -> float:
    """A cell as training reports it, a record each 20 ms. Returns the longest that it waited for its tracker (s)."""
    longest = 0.0
    with LiveRun(study, grace=grace) as live:
        live.start({"arm": "dynamic", "seed": 0, "fingerprint": "dynamic0", "settings": {"model": {"hidden_size": 8}}})
        for step in range(MANY):
            meanwhile(step)
            began = time.perf_counter()
            live.log({"step": step, "tokens": 10 * step, "loss": 1.0}, 100.0)
            longest = max(longest, time.perf_counter() - began)
            time.sleep(0.02)
        live.finish({"status": "finished"})
    return longest


def whole(study) -> None:
    """Every cell stands once in MLflow, with every point of its curve once."""
    client, found = runs(study, kind="cell")
    assert sorted(run.info.run_name for run in found) == sorted(f"{arm}-{seed}" for arm, seed in study.cells)
    run = next(run for run in found if run.info.run_name == "dynamic-0")
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "loss")]
    assert steps == [record["step"] for record in records(study)]
    assert run.info.status == "FINISHED"
    assert len(runs(study, kind="arm")[1]) == len(study.settings.arms)


def test_a_server_that_is_stopped_and_started(server, study, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    server.start()
    began = time.monotonic()
    assert train(study, lambda step: server.stop() if step == MANY // 2 else None) < 0.25
    assert time.monotonic() - began < MANY * 0.02 + tracking.PATIENCE + 5
    assert capsys.readouterr().err.count("`study track` will fill it in") == 1
    with pytest.raises(StudyError, match="run `study track` again"):
        track(study)
    server.start()
    assert track(study) == len(study.cells) + len(study.settings.arms)
    whole(study)
    assert track(study) == 0
    whole(study)


def test_a_server_that_dies_while_it_is_filled(server, study, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    server.stop()
    server.start()
    done, log_data = [], tracking._log_data

    def dies(*arguments) -> None:
        done.append(arguments)
        if len(done) == 2:
            server.stop()
        log_data(*arguments)

    monkeypatch.setattr(tracking, "_log_data", dies)
    (study.cell("static", 1) / "predictions.json").write_text("[]")     # not what the test before has left there
    (study.cell("dynamic", 1) / "predictions.json").write_text("[]")
    with pytest.raises(StudyError, match="run `study track` again"):
        track(study)
    monkeypatch.setattr(tracking, "_log_data", log_data)
    server.start()
    track(study)
    whole(study)
    assert track(study) == 0


@pytest.fixture
def hangs():
    """An address that takes connections and never says a word."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        line.listen(50)
        yield f"http://127.0.0.1:{line.getsockname()[1]}"


@pytest.fixture(params=[403, 500, 503])
def refuses(request):
    """A server that answers everything with an error."""
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(request.param)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def slow(server):
    """The real server behind a line on which every answer takes half a second."""
    class Passing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(0.5)
            line = http.client.HTTPConnection("127.0.0.1", server.port)
            line.request(self.command, self.path, body, {name: text for name, text in self.headers.items()
                                                         if name.lower() not in ("host", "accept-encoding")})
            answer = line.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.getheader("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def log_message(self, *_):
            pass

    server.stop()
    server.start()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Passing) as line:
        threading.Thread(target=line.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{line.server_address[1]}"
        line.shutdown()


def test_a_tracker_that_is_slow(study, slow, server, monkeypatch):
    """The cell does not wait for it but at its end, and not long; what is lacking then, `track` fills in."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", slow)
    began = time.monotonic()
    assert train(study) < 0.25
    assert time.monotonic() - began < MANY * 0.02 + tracking.PATIENCE + 5
    (study.cell("dynamic", 1) / "predictions.json").write_text('["slow"]')     # not as a test before has left it
    track(study)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    whole(study)
    assert track(study) == 0


def test_a_tracker_that_never_answers(study, hangs, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", hangs)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    began = time.monotonic()
    assert train(study) < 0.25
    assert time.monotonic() - began < MANY * 0.02 + tracking.PATIENCE + 5
    assert "tracking stopped" in capsys.readouterr().err


def test_a_tracker_that_refuses(study, refuses, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", refuses)
    assert train(study) < 0.25
    assert capsys.readouterr().err.count("tracking stopped") == 1
    with pytest.raises(StudyError, match="run `study track` again") as error:
        track(study)
    assert "\n" not in str(error.value)


def test_a_database_that_another_process_has_locked(study, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "PATIENCE", 2.0)
    train(study)                            # makes the database
    path = study.root / "mlflow.db"
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert train(study) < 0.25
        assert "tracking stopped" in capsys.readouterr().err
        other.execute("ROLLBACK")
    track(study)
    whole(study)


def test_two_that_fill_it_at_once(study):
    with ThreadPoolExecutor(2) as pool:
        tracked = [pool.submit(subprocess.run, [sys.executable, "-m", "study", "track", str(study.folder)], cwd=ROOT,
                               capture_output=True, text=True, check=False) for _ in range(2)]
        done = [job.result() for job in tracked]
    assert [one.returncode for one in done] == [0, 0], [one.stderr for one in done]
    whole(study)
    assert sorted(int(one.stdout.split()[1]) for one in done) == [0, len(study.cells) + len(study.settings.arms)]
