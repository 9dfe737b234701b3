"""Several commands at once in one workspace: `study run`, `dvc repro` and `study track` lose and corrupt nothing."""
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.support.project import (
    BIN,
    STUDY,
    copy_with_untrained_cells,
    dvc,
    finished_project,
    run,
    small_files,
)

# DVC: another process runs the stage, or reads dvc.lock. `study track`: no cell is trained yet.
REFUSALS = ("is busy, it is being", "Unable to acquire lock", "no trained cell yet", "cells failed, first ")


@pytest.fixture(scope="module")
def alone():
    """The results for seed 0 of one `study run` with nothing else running."""
    return {name: content for name, content in results_of(finished_project()).items()
            if not name.split("/")[0].endswith("-1")}


def results_of(root) -> dict[str, bytes]:
    """The results by relative path, without the registration: it has its time, and other seeds are registered again."""
    return {name: content for name, content in small_files(root).items() if name != "claims.json"}


def at_once(root, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """Starts all commands together. Returns the exit status and the output of each."""
    tiny = str(root / "experiments" / "tiny")
    processes = [subprocess.Popen([sys.executable, "-c", AS_RUN, tiny, *command], text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT) for command in commands]
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
    results = results_of(root)
    assert results.keys() == expected.keys()
    assert [name for name in expected if results[name] != expected[name]] == []
    assert run(*STUDY, "track", "experiments/tiny", cwd=root).stdout.startswith("track: 0 runs")


def test_killed_runs_are_resumed_and_two_runs_take_turns(alone, tmp_path):
    """kill -9 of everything that `study run` started, then of the command alone, whose DVC processes survive."""
    root = copy_with_untrained_cells(tmp_path / "project")
    command, logs = (*STUDY, "run", "--jobs", "2"), root / "experiments/tiny/.state/logs"
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    for whole_group in (True, False):
        shutil.rmtree(logs)
        process = subprocess.Popen(command, cwd=root / "experiments/tiny", env=environment, start_new_session=True,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: any("> study pretrain" in path.read_text() for path in logs.glob("*.log")))
        os.killpg(process.pid, signal.SIGKILL) if whole_group else process.kill()
        process.wait()
        if whole_group:                     # to DVC, a process is alive until its new parent has collected it
            wait_until(lambda group=process.pid: not exists(group))
    results = at_once(root, command, command)
    assert [status for status, _ in results] == [0, 0], results
    assert any("waiting for another `study run`" in output for _, output in results)
    assert any("run: 0 cells were stale" in output for _, output in results)
    check_complete(root, alone)


def test_dvc_and_tracking_during_a_run(alone, tmp_path):
    """DVC refuses a stage that another process runs. A refused command works when it is run again."""
    root = copy_with_untrained_cells(tmp_path / "project")
    results = at_once(root, (*STUDY, "run", "--jobs", "2"), *[("dvc", "repro")] * 2, (*STUDY, "track"))
    for status, output in results:
        assert status == 0 or any(reason in output for reason in REFUSALS), output
        assert "Traceback" not in output
    run(*STUDY, "run", "experiments/tiny", cwd=root)
    check_complete(root, alone)


def exists(group: int) -> bool:
    """Whether a process of this group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"the condition was still false after {seconds} s"
        time.sleep(0.1)
