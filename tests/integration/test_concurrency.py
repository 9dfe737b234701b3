"""Several commands at once in one workspace: `study run`, `dvc repro` and `study track` lose and corrupt nothing."""
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.project import (
    STUDY,
    copy_with_untrained_cells,
    dvc,
    environment_of,
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
    tiny = root / "experiments" / "tiny"
    with ThreadPoolExecutor(len(commands)) as pool:
        done = list(pool.map(lambda command: run(*command, cwd=tiny, check=False), commands))
    return [(process.returncode, process.stdout + process.stderr) for process in done]


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
    environment = environment_of(root)
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
    commands = ((*STUDY, "run", "--jobs", "2"), *[("dvc", "repro")] * 2, (*STUDY, "track"))
    for command, (status, output) in zip(commands, at_once(root, *commands), strict=True):
        assert status == 0 or any(reason in output for reason in REFUSALS), output
        assert "Traceback" not in output
        if status:
            run(*command, cwd=root / "experiments" / "tiny")
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
