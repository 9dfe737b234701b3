"""Many at once in one workspace: `study run`, `dvc repro` and `study track` lose nothing and corrupt nothing."""
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.project import BIN, copy_of_project, run, small_files

FILE = "experiments/tiny/dvc.yaml"
STUDY = (sys.executable, "-m", "study")
# DVC: another process works on a stage; another process reads dvc.lock; `track`: nothing is trained yet.
REFUSALS = ("is busy, it is being", "Unable to acquire lock", "no trained cell yet", "cells failed; the first is")
ARMS, SEEDS = "[dynamic, mlm-nsp]", "[0]"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What comes out when nothing runs beside it."""
    root = copy_of_project(tmp_path_factory.mktemp("alone") / "project", arms=ARMS, seeds=SEEDS)
    run("dvc", "repro", FILE, cwd=root)
    return small_files(root)


def at_once(root, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """Starts all of them together; (exit status, what was said) of each."""
    going = [subprocess.Popen([sys.executable, "-c", AS_RUN, str(root), *command], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT) for command in commands]
    said = [process.communicate()[0] for process in going]
    return [(process.returncode, text) for process, text in zip(going, said, strict=True)]


AS_RUN = """
import sys
from pathlib import Path
from tests.support.project import run
done = run(*sys.argv[2:], cwd=Path(sys.argv[1]), check=False)
print(done.stdout, done.stderr)
sys.exit(done.returncode)
"""


def whole(root, expected: dict[str, bytes]) -> None:
    """Nothing is left to do, and every result is what it is when nothing runs beside it."""
    assert "up to date" in run("dvc", "repro", FILE, cwd=root).stdout
    found = small_files(root)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert run(*STUDY, "track", "experiments/tiny", cwd=root).stdout.startswith("track: 0 runs")


def test_two_runs_of_a_study_take_turns(alone, tmp_path):
    root = copy_of_project(tmp_path / "project", arms=ARMS, seeds=SEEDS)
    done = at_once(root, *[(*STUDY, "run", "experiments/tiny", "--jobs", "2")] * 2)
    assert [status for status, _ in done] == [0, 0], done
    assert sorted("goes on here; waiting for it" in text for _, text in done) == [False, True]
    assert sorted(text.split("run: ")[-1].split()[0] for _, text in done) == ["0", "2"]
    whole(root, alone)


def test_dvc_and_tracking_beside_a_run(alone, tmp_path):
    """DVC refuses a stage that another process works on; whoever was refused starts again and finds all in order."""
    root = copy_of_project(tmp_path / "project", arms=ARMS, seeds=SEEDS)
    done = at_once(root, (*STUDY, "run", "experiments/tiny", "--jobs", "2"), *[("dvc", "repro", FILE)] * 2,
                   *[(*STUDY, "track", "experiments/tiny")] * 2)
    for status, text in done:
        assert status == 0 or any(reason in text for reason in REFUSALS), text
        assert "Traceback" not in text
    run(*STUDY, "run", "experiments/tiny", cwd=root)
    whole(root, alone)


def test_a_killed_run_is_gone_on_with(alone, tmp_path):
    """kill -9 of `study run` alone, whose DVC processes live on, and of all that it started."""
    root = copy_of_project(tmp_path / "project", arms=ARMS, seeds=SEEDS)
    command = [*STUDY, "run", "experiments/tiny", "--jobs", "2"]
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    for all_of_it, seconds in ((False, 9), (True, 6), (False, 4)):
        going = subprocess.Popen(command, cwd=root, env=environment, start_new_session=True,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        os.killpg(going.pid, signal.SIGKILL) if all_of_it else going.kill()
        going.wait()
    run(*command, cwd=root)
    whole(root, alone)
