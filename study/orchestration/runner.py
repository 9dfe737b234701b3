"""A study with its stale cells side by side: each a `dvc repro` of its own stages, recorded as one `dvc repro` would.

DVC runs stages one after the other, but lets other processes in while a stage's command runs. So the stages before the
cells are brought up to date first, then as many cells as there are jobs, then what follows them.
"""
from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from study import StudyError
from study.config.load import Study, read_yaml, resolve
from study.orchestration.preload import kept_warm
from study.orchestration.recovery import keep, mend
from study.training.trial_storage import open_storage

if TYPE_CHECKING:
    from study.orchestration.ray_cluster import Cluster

DVC = (sys.executable, "-m", "study.orchestration.dvc_lock", "--wait-for-lock")
STUDY = (sys.executable, "-m", "study")
STAGES = ("pretrain", "evaluate", "probe")


@dataclass
class State:
    """Where a cell stands: waiting, running, done or failed; its newest line; when it began and ended (s)."""
    name: str
    status: str = "waiting"
    line: str = ""
    began: float = 0.0
    ended: float | None = None
    log: Path = field(default_factory=Path)


def run_study(study: Study, jobs: int, watch: Callable[[list[State]], None] = lambda cells: None,
              cluster: Cluster | None = None) -> list[State]:
    """Brings a study up to date with `jobs` cells at a time, here or on a cluster. Returns the cells that were stale.

    watch is called with their states about twice a second. A cell that fails does not stop the others; StudyError then
    names it, and where its log is.
    """
    with one_at_a_time(study) as interrupted, kept_warm(threads_of(jobs)):
        mend(study, interrupted)
        return _run_study(study, jobs, watch, cluster)


@contextmanager
def one_at_a_time(study: Study) -> Iterator[bool]:
    """Holds a study for one `study run`; a second one waits and then finds what the first has done. Gives whether the
    one before was killed.

    The lock is the operating system's, so nothing is left behind by a process that is killed. DVC's processes inherit
    it: what they still do when the one that started them is gone is waited for, too.
    """
    place = study.root / ".state" / f"run-{study.settings.name}.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another `study run` of {study.settings.name} goes on here; waiting for it", file=sys.stderr,
                  flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        os.set_inheritable(file.fileno(), True)
        interrupted = bool(place.read_text())
        place.write_text("running\n")
        try:
            yield interrupted
        except StudyError:
            place.write_text("")
            raise
        place.write_text("")


def _run_study(study: Study, jobs: int, watch: Callable[[list[State]], None], cluster: Cluster | None) -> list[State]:
    _tune(study, jobs, watch, cluster)
    _dvc(study, "repro", f"{stages_file(study)}:search")
    cells = _states(study, stale_cells(study))
    _side_by_side(study, cells, cluster.run_cell if cluster else _run_cell, jobs, watch)
    if cluster:
        cluster.fetch()
    _complain(cells, "cells")
    _dvc(study, "repro", stages_file(study))
    keep(study)
    return cells


def _tune(study: Study, jobs: int, watch: Callable[[list[State]], None], cluster: Cluster | None) -> None:
    """The trials of several tuned arms side by side; the search stage then finds them made."""
    arms = study.settings.search.arms if study.settings.search.trials else []
    if len(arms) < 2 or jobs < 2 or cluster and not cluster.tunes:
        return
    _dvc(study, "repro", f"{stages_file(study)}:examples")
    if not _stale(study, f"{stages_file(study)}:search"):
        return
    open_storage(study)                     # its tables are made before several ask for them
    searches = _states(study, [f"search-{arm}" for arm in arms])
    _side_by_side(study, searches, cluster.run_trials if cluster else _run_trials, jobs, watch)
    _complain(searches, "searches")


def _states(study: Study, names: list[str]) -> list[State]:
    logs = study.root / ".state" / "logs"
    return [State(name, log=logs / f"{study.settings.name}-{name}.log") for name in names]


def _side_by_side(study: Study, states: list[State], work: Callable[[Study, State, int], None], jobs: int,
                  watch: Callable[[list[State]], None]) -> None:
    with ThreadPoolExecutor(jobs) as pool:
        waiting, ended = [pool.submit(work, study, state, jobs) for state in states], 0
        try:
            while ended < len(waiting):
                watch(states)
                time.sleep(0.5)
                if (now := sum(job.done() for job in waiting)) > ended:
                    keep(study)
                    ended = now
        except BaseException:               # Ctrl-C: those that have not begun are not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    watch(states)
    for job in waiting:
        job.result()


def _complain(states: list[State], what: str) -> None:
    if failed := [state for state in states if state.status == "failed"]:
        raise StudyError(f"{len(failed)} of {len(states)} {what} failed; the first is {failed[0].name}: see "
                         f"{failed[0].log}, then run again")


def make_examples(study: Study) -> None:
    """Text, tokenizer and examples of a study, made where they are not there or no longer what they were."""
    _dvc(study, "repro", "--quiet", f"{stages_file(study)}:examples")


def stale_cells(study: Study) -> list[str]:
    """Names of the cells of which DVC would run a stage, in the order of the study."""
    _dvc(study, "repro", "--quiet", "--single-item", f"{stages_file(study)}:code")
    stages = _stale(study, stages_file(study))
    stale = {cell for stage, _, cell in (name.partition("@") for name in stages) if stage in STAGES}
    everything = not {"corpus", "tokenizer", "examples"}.isdisjoint(stages)     # DVC names a stage, not what follows it
    return [name for arm, seed in study.cells if (name := f"{arm}-{seed}") in stale or everything
            or "search" in stages and not _trained_so(study, arm, seed)]


def _trained_so(study: Study, arm: str, seed: int) -> bool:
    """Whether a cell was trained with the settings that it has now, if the search finds what it found before."""
    best, path = study.runs / "search" / "best.yaml", study.cell(arm, seed) / "settings.yaml"
    tuned = read_yaml(best).get(arm) if best.exists() else None
    return path.exists() and read_yaml(path) == resolve(study, arm, tuned).model_dump(mode="json")


def _stale(study: Study, target: str) -> list[str]:
    """Names of the stages of the target that DVC would run."""
    command = [*DVC, "status", "--json", target]
    done = subprocess.run(command, cwd=study.root, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        raise StudyError(f"dvc status failed: {' '.join(done.stderr.split())[-300:]}")
    return [name.rpartition(":")[2] for name in json.loads(done.stdout or "{}")]


def stages_file(study: Study) -> str:
    """The study's dvc.yaml as seen from the root."""
    return str((study.folder.resolve() / "dvc.yaml").relative_to(study.root.resolve()))


def environment() -> dict[str, str]:
    """With the `study` command that stands beside this Python found first, for DVC's stages call it by name; what a
    process has compiled of its imports is kept for the next."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
                         "PYTHONDONTWRITEBYTECODE": ""}


def _dvc(study: Study, *arguments: str) -> None:
    """Runs DVC in the root of the project, its output where ours goes. Raises StudyError when it fails."""
    done = subprocess.run([*DVC, *arguments], cwd=study.root, check=False, env=environment(), close_fds=False)
    if done.returncode:
        plain = " ".join(argument for argument in arguments if argument != "--quiet")
        raise StudyError(f"`dvc {plain}` failed. Its reason stands above; if none does, another command is at work "
                         "on the same files: run this one to see")


def _run_cell(study: Study, cell: State, jobs: int) -> None:
    targets = [f"{stages_file(study)}:{stage}@{cell.name}" for stage in STAGES]
    _run_logged(study, cell, jobs, *DVC, "repro", "--single-item", *targets)


def _run_trials(study: Study, search: State, jobs: int) -> None:
    folder = str(study.folder.resolve().relative_to(study.root.resolve()))
    _run_logged(study, search, jobs, *STUDY, *trials_of(search.name), folder)


def trials_of(name: str) -> tuple[str, ...]:
    """The command, less the study's folder, that makes the trials of `search-<arm>`."""
    return "trials", "--arm", name.removeprefix("search-")


def _run_logged(study: Study, state: State, jobs: int, *command: str) -> None:
    """A command in the root of the project, its output into the state's log and, the newest line, into the state."""
    state.status, state.began = "running", time.monotonic()
    state.log.parent.mkdir(parents=True, exist_ok=True)
    with state.log.open("w") as log:
        process = subprocess.Popen(command, cwd=study.root, text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, close_fds=False,
                                   env=environment() | {"OMP_NUM_THREADS": str(threads_of(jobs))})
        for line in process.stdout:
            log.write(line)
            log.flush()
            state.line = line.strip() or state.line
    state.ended = time.monotonic()
    state.status = "failed" if process.wait() else "done"


def threads_of(jobs: int) -> int:
    """Processor threads of each of so many cells."""
    return max(1, (os.cpu_count() or 1) // jobs)


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def default_jobs() -> int:
    """One cell more than there are processors: between its stages a cell waits for DVC."""
    return 1 + processors()
