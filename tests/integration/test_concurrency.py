"""Several commands at once in one workspace: `study run`, `dvc repro` and `study track` lose and corrupt nothing."""
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.project import BIN, copy_of_project, dvc, run, small_files

STUDY = (sys.executable, "-m", "study")
# DVC: another process runs the stage, or reads dvc.lock. `study track`: no cell is trained yet.
REFUSALS = ("is busy, it is being", "Unable to acquire lock", "no trained cell yet", "cells failed, first ")
ARMS, SEEDS = "[dynamic, mlm-nsp]", "[0]"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of one `dvc repro` with nothing else running."""
    root = copy_of_project(tmp_path_factory.mktemp("alone") / "project", arms=ARMS, seeds=SEEDS)
    dvc(root, "repro")
    return small_files(root)


def at_once(root, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """Starts all commands together. Returns the exit status and the output of each."""
    tiny = str(root / "experiments" / "tiny")
    processes = [subprocess.Popen([sys.executable, "-c", AS_RUN, tiny, *command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for command in commands]
    outputs = [process.communicate()[0] for process in processes]
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


AS_RUN = """
import sys
from pathlib import Path
from tests.support.project import run
process = run(*sys.argv[2:], cwd=Path(sys.argv[1]), check=False)
print(process.stdout, process.stderr)
sys.exit(process.returncode)
"""


def check_complete(root, expected: dict[str, bytes]) -> None:
    """Checks that DVC has nothing left to do and that every result has the expected bytes."""
    assert "up to date" in dvc(root, "repro").stdout
    results = small_files(root)
    assert results.keys() == expected.keys()
    assert [name for name in expected if results[name] != expected[name]] == []
    assert run(*STUDY, "track", "experiments/tiny", cwd=root).stdout.startswith("track: 0 runs")


def test_two_runs_of_a_study_take_turns(alone, tmp_path):
    root = copy_of_project(tmp_path / "project", arms=ARMS, seeds=SEEDS)
    results = at_once(root, *[(*STUDY, "run", "--jobs", "2")] * 2)
    assert [status for status, _ in results] == [0, 0], results
    assert sorted("waiting for another `study run`" in output for _, output in results) == [False, True]
    assert sorted(output.split("run: ")[-1].split()[0] for _, output in results) == ["0", "2"]
    check_complete(root, alone)


def test_dvc_and_tracking_during_a_run(alone, tmp_path):
    """DVC refuses a stage that another process runs. A refused command works when it is run again."""
    root = copy_of_project(tmp_path / "project", arms=ARMS, seeds=SEEDS)
    results = at_once(root, (*STUDY, "run", "--jobs", "2"), *[("dvc", "repro")] * 2,
                      *[(*STUDY, "track")] * 2)
    for status, output in results:
        assert status == 0 or any(reason in output for reason in REFUSALS), output
        assert "Traceback" not in output
    run(*STUDY, "run", "experiments/tiny", cwd=root)
    check_complete(root, alone)


def test_a_killed_run_is_resumed(alone, tmp_path):
    """kill -9 of `study run` alone, whose DVC processes survive, and of everything that it started."""
    root = copy_of_project(tmp_path / "project", arms=ARMS, seeds=SEEDS)
    command = [*STUDY, "run", "experiments/tiny", "--jobs", "2"]
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    for whole_group, seconds in ((False, 9), (True, 6), (False, 4)):
        process = subprocess.Popen(command, cwd=root, env=environment, start_new_session=True,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL) if whole_group else process.kill()
        process.wait()
    run(*command, cwd=root)
    check_complete(root, alone)
