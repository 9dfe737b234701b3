"""Commands that a waiting process runs: they do what they would do by themselves, and end with who asked for them."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.orchestration import preload as warm
from tests.support.studies import ROOT

COMMAND = [sys.executable, "-m", "study"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone forks with torch loaded")


@pytest.fixture(scope="module")
def waiting():
    with warm.kept_warm(1):
        place = os.environ[warm.NAME]
        wait_for(lambda: os.path.exists(place), 120)
        yield place


SLEEPER = """
import sys, time
from study.orchestration import preload as warm
warm.LOADED = ()
warm.run_command = lambda: time.sleep(100) or 0
warm.serve(sys.argv[1], int(sys.argv[2]))
"""


@pytest.fixture
def sleeper(tmp_path):
    """A process that waits, each of whose commands sleeps; the environment in which it is asked."""
    place = str(tmp_path / "socket")
    process = subprocess.Popen([sys.executable, "-c", SLEEPER, place, str(os.getpid())], cwd=ROOT)
    wait_for(lambda: os.path.exists(place))
    yield process, os.environ | {warm.NAME: place}
    process.kill()
    process.wait()


def run(*arguments: str, **keywords) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, **keywords)


def children(parent: int) -> set[int]:
    """Processes of a process, those that are gone and not yet buried left out."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in found.splitlines()]
    return {int(row[0]) for row in rows if int(row[1]) == parent and not row[2].startswith("Z")}


@pytest.mark.parametrize("arguments", [["where"], ["where", "no-such-folder"], ["--help"], ["no-such-command"]])
def test_output_and_exit_status_are_the_command_s_own(waiting, arguments):
    cold = run(*arguments, env={k: v for k, v in os.environ.items() if k != warm.NAME})
    hot = run(*arguments)
    assert (hot.returncode, hot.stdout, hot.stderr) == (cold.returncode, cold.stdout, cold.stderr)


def test_a_waiting_process_is_asked(waiting):
    done = run("pretrain", "--arm", "dynamic", "--seed", "99")
    assert (done.returncode, "no cell dynamic-99" in done.stderr) == (2, True)
    assert run("where", env=os.environ | {warm.NAME: waiting + "-gone"}).returncode == 0      # nobody there: by itself


def test_a_killed_command_leaves_no_process(sleeper):
    server, environment = sleeper
    asking = subprocess.Popen([*COMMAND, "where"], cwd=ROOT, env=environment)
    wait_for(lambda: children(server.pid))
    asking.kill()
    asking.wait()
    wait_for(lambda: not children(server.pid))


def test_a_killed_worker_is_a_failure(sleeper):
    server, environment = sleeper
    asking = subprocess.Popen([*COMMAND, "where"], cwd=ROOT, env=environment)
    wait_for(lambda: children(server.pid))
    time.sleep(0.5)                         # until the command is taken
    for child in children(server.pid):
        os.kill(child, signal.SIGKILL)
    assert asking.wait(30) == 1


def test_when_the_one_that_waits_is_gone_a_command_runs_by_itself(sleeper):
    """Even while a command that it forked lives on."""
    server, environment = sleeper
    asking = subprocess.Popen([*COMMAND, "where"], cwd=ROOT, env=environment)
    wait_for(lambda: children(server.pid))
    time.sleep(0.5)
    server.kill()
    server.wait()
    done = run("where", env=environment, timeout=60)
    assert (done.returncode, "report:" in done.stdout) == (0, True)
    asking.kill()
    asking.wait()


def test_code_that_changed_since_it_was_loaded_is_not_run(tmp_path):
    root = tmp_path / "project"
    shutil.copytree(ROOT / "study", root / "study", ignore=shutil.ignore_patterns("__pycache__"))
    place = str(tmp_path / "socket")
    server = subprocess.Popen([sys.executable, "-c", SLEEPER, place, str(os.getpid())], cwd=root,
                              env=os.environ | {"PYTHONPATH": str(root)})
    wait_for(lambda: os.path.exists(place))
    (root / "study/cli.py").write_text((root / "study/cli.py").read_text() + "\n# edited\n")
    done = run("--help", env=os.environ | {warm.NAME: place}, timeout=60)
    server.kill()
    server.wait()
    assert (done.returncode, "Stages of the pipeline" in done.stdout) == (0, True)


def test_it_ends_with_the_process_that_started_it(tmp_path):
    place = str(tmp_path / "socket")
    starts = subprocess.Popen([sys.executable, "-c", STARTS, place], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    server = int(starts.stdout.readline())
    starts.kill()                           # at once, while the server still loads
    starts.wait()
    wait_for(lambda: not os.path.exists(f"/proc/{server}") or "Z" in Path(f"/proc/{server}/stat").read_text(), 120)


STARTS = """
import os, subprocess, sys, time
print(subprocess.Popen([sys.executable, "-m", "study.orchestration.preload", sys.argv[1], str(os.getpid())]).pid, flush=True)
time.sleep(100)
"""


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"did not come about in {seconds} s")
