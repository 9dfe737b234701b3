"""Commands that a waiting process runs: they do what they would do by themselves, and end with who asked for them."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from study import warm
from tests.conftest import ROOT

COMMAND = [sys.executable, "-m", "study"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone forks with torch loaded")


@pytest.fixture(scope="module")
def waiting():
    with warm.kept_warm():
        place = os.environ[warm.NAME]
        for _ in range(600):
            if os.path.exists(place):
                break
            time.sleep(0.1)
        yield place


def run(*arguments: str, **keywords) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, **keywords)


def children() -> set[int]:
    """Processes whose parent waits for commands."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in found.splitlines()]
    servers = {row[0] for row in rows if "-m study.warm" in row[2] and row[1] == str(os.getpid())}
    return {int(row[0]) for row in rows if row[1] in servers}


@pytest.mark.parametrize("arguments", [["where"], ["where", "no-such-folder"], ["--help"], ["no-such-command"]])
def test_output_and_exit_status_are_the_command_s_own(waiting, arguments):
    cold = run(*arguments, env={k: v for k, v in os.environ.items() if k != warm.NAME})
    hot = run(*arguments)
    assert (hot.returncode, hot.stdout, hot.stderr) == (cold.returncode, cold.stdout, cold.stderr)


def test_a_waiting_process_is_asked(waiting):
    done = run("pretrain", "--arm", "dynamic", "--seed", "99")
    assert (done.returncode, "no cell dynamic-99" in done.stderr) == (2, True)
    assert run("where", env=os.environ | {warm.NAME: waiting + "-gone"}).returncode == 0      # nobody there: by itself


def test_a_killed_command_leaves_no_process(waiting):
    asking = subprocess.Popen([*COMMAND, "ui", "--port", "59871"], cwd=ROOT, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    wait_for(lambda: children())
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    wait_for(lambda: not children())


def test_a_killed_worker_is_a_failure(waiting):
    asking = subprocess.Popen([*COMMAND, "ui", "--port", "59872"], cwd=ROOT, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    wait_for(lambda: children())
    for child in children():
        os.kill(child, signal.SIGKILL)
    assert asking.wait(30) == 1


def wait_for(condition) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("did not come about in 30 s")
