"""Commands in a preloaded process do what they would do by themselves, and end with the process that sent them."""
from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.config.load import load_study
from study.orchestration import preload, runner
from study.orchestration.processes import CellProgress
from tests.support.studies import ROOT

COMMAND = [sys.executable, "-m", "study"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="preloading needs a safe fork, which only Linux has")

# A server that preloads nothing and whose commands sleep.
SLEEPER = """
import os, sys, time
from study.orchestration import preload
preload.PRELOADED = ()
preload.serve(sys.argv[1], int(sys.argv[2]), lambda: time.sleep(100))
"""
# Starts a server, prints its process id and sleeps.
PARENT = """
import os, subprocess, sys, time
command = [sys.executable, "-m", "study", "serve", sys.argv[1], str(os.getpid())]
print(subprocess.Popen(command).pid, flush=True)
time.sleep(100)
"""


@pytest.fixture(scope="module")
def address():
    with preload.preloaded(1):
        path = os.environ[preload.ADDRESS]
        wait_for(lambda: os.path.exists(path), 120)
        yield path


@pytest.fixture
def sleeper(tmp_path):
    """A server whose commands sleep, and the environment in which a command is sent to it."""
    path = str(tmp_path / "socket")
    process = subprocess.Popen([sys.executable, "-c", SLEEPER, path, str(os.getpid())], cwd=ROOT)
    wait_for(lambda: os.path.exists(path))
    yield process, os.environ | {preload.ADDRESS: path}
    process.kill()
    process.wait()


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, **options)


def children(parent: int) -> set[int]:
    """Child processes, without zombies."""
    output = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in output.splitlines()]
    return {int(row[0]) for row in rows if int(row[1]) == parent and not row[2].startswith("Z")}


def accepted_command(server, environment) -> subprocess.Popen:
    """A command that the server has accepted and runs."""
    client = subprocess.Popen([*COMMAND, "where"], cwd=ROOT, env=environment)
    wait_for(lambda: children(server.pid))
    time.sleep(0.5)
    return client


@pytest.mark.parametrize("arguments", [["mask", "--help"], ["where", "no-such-folder"], ["--help"], ["no-command"]])
def test_output_and_exit_status_are_those_of_the_command_by_itself(address, arguments):
    alone = run(*arguments, env={key: value for key, value in os.environ.items() if key != preload.ADDRESS})
    sent = run(*arguments)
    assert (sent.returncode, sent.stdout, sent.stderr) == (alone.returncode, alone.stdout, alone.stderr)


def test_a_command_runs_in_the_server_if_there_is_one(address):
    """A process that cannot import the commands can only have them run by the server."""
    code = "import sys; sys.modules['study.cli.app'] = None; from study.cli import main; main()"
    for path, works in ((address, True), (address + "-gone", False)):
        client = subprocess.run([sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True,
                                check=False, env=os.environ | {preload.ADDRESS: path})
        assert ("Stages of the pipeline" in client.stdout, "study.cli.app" in client.stderr) == (works, not works)


def test_a_server_that_is_running_is_used(sleeper, monkeypatch, tmp_path):
    server, environment = sleeper
    monkeypatch.setenv(preload.ADDRESS, environment[preload.ADDRESS])
    monkeypatch.setattr(preload.subprocess, "Popen", lambda *_, **__: pytest.fail("another server was started"))
    with preload.preloaded(1):
        pass
    assert os.environ[preload.ADDRESS] == environment[preload.ADDRESS]
    assert not preload.is_served(str(tmp_path / "none"))
    assert not preload.is_served(None)


def test_the_cells_of_a_run_are_sent_to_its_server(monkeypatch, tmp_path):
    """The workers exist before the server starts, so they must look up its address when a cell starts."""
    environments = []
    monkeypatch.delenv(preload.ADDRESS, raising=False)
    monkeypatch.setattr(runner, "run_logged", lambda *arguments: environments.append(arguments[-1]))
    study = load_study(ROOT / "experiments/tiny")
    workers = runner.LocalWorkers(study, jobs=1)
    monkeypatch.setenv(preload.ADDRESS, str(tmp_path / "socket"))
    workers.run_cell(CellProgress("dynamic-0"))
    workers.run_trials(CellProgress("search-dynamic"))
    assert [environment[preload.ADDRESS] for environment in environments] == [str(tmp_path / "socket")] * 2


def test_a_killed_command_leaves_no_process(sleeper):
    server, environment = sleeper
    client = subprocess.Popen([*COMMAND, "where"], cwd=ROOT, env=environment)
    wait_for(lambda: children(server.pid))
    client.kill()
    client.wait()
    wait_for(lambda: not children(server.pid))


def test_a_command_ends_if_its_client_is_killed_before_it_has_read_the_answer(sleeper):
    """The server's side of the connection is then reset, not closed."""
    server, environment = sleeper
    request = {"arguments": ["study", "where"], "folder": str(ROOT), "environment": environment}
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(environment[preload.ADDRESS])
        socket.send_fds(client, [b"."], [0, 1, 2])
        client.sendall(json.dumps(request).encode() + b"\n")
        assert client.recv(1, socket.MSG_PEEK) == preload.ACCEPTED
    wait_for(lambda: not children(server.pid))


def test_a_command_fails_if_the_process_that_runs_it_is_killed(sleeper):
    server, environment = sleeper
    client = accepted_command(server, environment)
    for child in children(server.pid):
        os.kill(child, signal.SIGKILL)
    assert client.wait(30) == 1


def test_a_command_runs_by_itself_when_the_server_has_ended(sleeper):
    """Even if a process that the server forked is still running."""
    server, environment = sleeper
    client = accepted_command(server, environment)
    server.kill()
    server.wait()
    alone = run("mask", "--help", env=environment, timeout=60)
    assert (alone.returncode, "Show how an arm masks a text" in alone.stdout) == (0, True)
    client.kill()
    client.wait()


def test_code_that_changed_after_it_was_loaded_is_not_run(tmp_path):
    root = tmp_path / "project"
    shutil.copytree(ROOT / "study", root / "study", ignore=shutil.ignore_patterns("__pycache__"))
    path = str(tmp_path / "socket")
    server = subprocess.Popen([sys.executable, "-c", SLEEPER, path, str(os.getpid())], cwd=root,
                              env=os.environ | {"PYTHONPATH": str(root)})
    wait_for(lambda: os.path.exists(path))
    source = root / "study/randomness.py"
    source.write_text(source.read_text() + "\n# edited\n")
    alone = run("--help", env=os.environ | {preload.ADDRESS: path}, timeout=60)
    server.kill()
    server.wait()
    assert (alone.returncode, "Stages of the pipeline" in alone.stdout) == (0, True)


def test_the_server_ends_with_the_process_that_started_it(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "socket")], cwd=ROOT,
                              stdout=subprocess.PIPE, text=True)
    server = int(parent.stdout.readline())
    parent.kill()                           # at once, while the server still imports
    parent.wait()
    wait_for(lambda: not os.path.exists(f"/proc/{server}") or "Z" in Path(f"/proc/{server}/stat").read_text(), 120)


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"the condition was still false after {seconds} s")
