"""Trackers that die, hang, refuse or are locked: training continues, and nothing is lost or duplicated.

The server is a real one, which is stopped with SIGKILL and restarted on the same database.
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
from contextlib import contextmanager

import pytest

from study import StudyError
from study.tracking import live
from study.tracking import runs as tracking
from study.tracking.client import ENVIRONMENT
from study.tracking.live import LiveRun
from study.tracking.runs import rename_experiment, track
from tests.support.fake_results import compare, fake_study
from tests.support.mlflow_server import Server, records, runs
from tests.support.studies import ROOT

RECORDS = 60                                # of the live run


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


def train(study, on_step=lambda step: None) -> None:
    """Logs a cell as training does, one record per 20 ms."""
    with LiveRun(study, delay=0) as run:
        run.start({"arm": "dynamic", "seed": 0, "fingerprint": "dynamic0", "settings": {"model": {"hidden_size": 8}}})
        for step in range(RECORDS):
            on_step(step)
            run.log({"step": step, "tokens": 10 * step, "loss": 1.0}, 100.0)
            time.sleep(0.02)
        run.finish({"status": "finished"})


def check_complete(study) -> None:
    """Checks that MLflow has every cell once, with every point of its curve once."""
    client, cells = runs(study, kind="cell")
    assert sorted(run.info.run_name for run in cells) == sorted(f"{arm}-{seed}" for arm, seed in study.cells)
    run = next(run for run in cells if run.info.run_name == "dynamic-0")
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "loss")]
    assert steps == [record["step"] for record in records(study)]
    assert run.info.status == "FINISHED"
    assert len(runs(study, kind="arm")[1]) == len(study.settings.arms)


def test_a_server_that_is_stopped_and_restarted(server, study, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    server.start()
    train(study, lambda step: server.stop() if step == RECORDS // 2 else None)
    assert capsys.readouterr().err.count("`study track` will add what is missing") == 1
    with pytest.raises(StudyError, match="run `study track` again"):
        track(study)
    server.start()
    assert track(study) == len(study.cells) + len(study.settings.arms)
    assert capsys.readouterr().out == ""    # MLflow would print the address of every run, with the password
    check_complete(study)
    assert track(study) == 0
    check_complete(study)


def test_a_server_that_dies_during_track(server, study, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    server.start()
    calls, log_data = [], tracking._log_data

    def stop_server(*arguments) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            server.stop()
        log_data(*arguments)

    monkeypatch.setattr(tracking, "_log_data", stop_server)
    (study.cell("static", 1) / "predictions.json").write_text("[]")     # differs from what the previous test recorded
    (study.cell("dynamic", 1) / "predictions.json").write_text("[]")
    with pytest.raises(StudyError, match="run `study track` again"):
        track(study)
    monkeypatch.setattr(tracking, "_log_data", log_data)
    server.start()
    track(study)
    check_complete(study)
    assert track(study) == 0


@contextmanager
def serving(handler):
    """The address of a server whose requests this class handles."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def hanging():
    """An address that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(params=[403, 500, 503])
def refusing(request):
    """A server that answers every request with an error."""
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(request.param)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with serving(Refusing) as address:
        yield address


@pytest.fixture
def slow(server):
    """The real server behind a proxy that delays every answer by half a second."""
    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(0.5)
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request(self.command, self.path, body, {name: text for name, text in self.headers.items()
                                                         if name.lower() not in ("host", "accept-encoding")})
            response = connection.getresponse()
            content = response.read()
            self.send_response(response.status)
            self.send_header("Content-Type", response.getheader("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def log_message(self, *_):
            pass

    server.start()
    with serving(Proxy) as address:
        yield address


def test_a_cell_ends_while_the_tracker_is_blocked(study, monkeypatch, capsys):
    """Training logs all its records, waits at its end for PATIENCE and ends, with the tracker in its first call."""
    assert live.PATIENCE <= 10
    called, released = threading.Event(), threading.Event()

    def block(*_) -> None:
        called.set()
        released.wait()

    monkeypatch.setattr(live, "locked_experiment", block)
    monkeypatch.setattr(live, "PATIENCE", 0.1)
    with ThreadPoolExecutor(1) as pool:
        try:
            training = pool.submit(train, study)
            assert called.wait(60)
            training.result(timeout=60)
            assert "not finished after" in capsys.readouterr().err
        finally:
            released.set()


def test_a_tracker_that_is_slow(study, slow, server, monkeypatch):
    """`study track` adds what is missing when the cell has ended."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", slow)
    train(study)
    (study.cell("dynamic", 1) / "predictions.json").write_text('["slow"]')     # differs from earlier tests
    track(study)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    check_complete(study)
    assert track(study) == 0


def test_a_tracker_that_never_answers(study, hanging, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", hanging)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    train(study)
    assert "logging stopped" in capsys.readouterr().err


def test_a_tracker_that_refuses(study, refusing, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", refusing)
    train(study)
    assert capsys.readouterr().err.count("logging stopped") == 1
    with pytest.raises(StudyError, match="run `study track` again") as error:
        track(study)
    assert "\n" not in str(error.value)


def test_a_rename_asks_a_server_that_fails_once(study, monkeypatch):
    """MLflow itself would try for minutes."""
    requests = []

    class Failing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_error(503)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    with serving(Failing) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(StudyError, match=f"MLflow at {address}"):
            rename_experiment(study, "old")
    assert len(requests) == 1


@pytest.mark.parametrize("command", [track, lambda study: rename_experiment(study, "old")])
def test_a_damaged_database_is_one_line(study, monkeypatch, command):
    (study.root / "mlflow.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StudyError, match="MLflow at sqlite:.*file is not a database") as error:
        command(study)
    assert "\n" not in str(error.value)


def test_a_rename_without_a_server_is_one_line(study, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(StudyError, match="MLflow at http://127.0.0.1:1: .*again"):
        rename_experiment(study, "old")


def test_a_database_that_another_process_has_locked(study, capsys, monkeypatch):
    monkeypatch.setattr(live, "PATIENCE", 2.0)
    train(study)                            # creates the database
    path = study.root / "mlflow.db"
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        train(study)
        assert "logging stopped" in capsys.readouterr().err
        connection.execute("ROLLBACK")
    track(study)
    check_complete(study)


def test_two_track_commands_at_once(study):
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(subprocess.run, [sys.executable, "-m", "study", "track", str(study.folder)], cwd=ROOT,
                               capture_output=True, text=True, check=False) for _ in range(2)]
        commands = [job.result() for job in jobs]
    assert [command.returncode for command in commands] == [0, 0], [command.stderr for command in commands]
    check_complete(study)
    written = sorted(int(command.stdout.split()[1]) for command in commands)
    assert written == [0, len(study.cells) + len(study.settings.arms)]
