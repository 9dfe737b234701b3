"""`study run`: a study with its stale cells in parallel, each a `dvc repro` of its own stages.

DVC runs stages one after the other but releases its lock while the command of a stage runs. So the stages before the
cells are brought up to date first, then the cells in parallel, then the stages that follow. dvc.lock ends up as after
one `dvc repro`.
"""
from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from study import StudyError
from study.config.study import Study
from study.orchestration.dvc_commands import (
    DVC,
    STUDY,
    cell_stages,
    environment,
    make_inputs,
    missing_hint,
    run_dvc,
    stale_cells,
    stale_stages,
    trials_command,
)
from study.orchestration.dvc_lock import repair_rwlock
from study.orchestration.preload import preloaded
from study.orchestration.processes import CellProgress, processors, run_logged, threads_per_job
from study.training.trial_storage import open_storage

Watch = Callable[[list[CellProgress]], None]
POLL_INTERVAL = 0.5                         # seconds between two calls of a Watch


class Workers(Protocol):
    """Where cells are trained: on this machine, or on a cluster."""
    can_search: bool                        # whether they can run the searches of several arms in parallel

    def run_cell(self, cell: CellProgress) -> None:
        """Trains, evaluates and probes one cell, and fine-tunes it if its arm is among finetune.arms."""

    def run_trials(self, search: CellProgress) -> None:
        """Runs the trials of one arm."""

    def finish(self) -> None:
        """Called when all cells have ended."""


class LocalWorkers:
    """Runs each cell in processes on this machine, which share its processors between `jobs` cells."""
    can_search = True

    def __init__(self, study: Study, jobs: int):
        self.study, self.threads = study, threads_per_job(jobs)

    def run_cell(self, cell: CellProgress) -> None:
        self._run(cell, (*DVC, "repro", "--single-item", *cell_stages(self.study, cell.name)))

    def run_trials(self, search: CellProgress) -> None:
        self._run(search, (*STUDY, *trials_command(search.name)))

    def finish(self) -> None:
        pass

    def _run(self, progress: CellProgress, command: tuple[str, ...]) -> None:
        run_logged(progress, command, self.study.folder, environment() | {"OMP_NUM_THREADS": str(self.threads)})


def run_study(study: Study, workers: Workers, jobs: int, watch: Watch = lambda cells: None,
              allow_missing: bool = False) -> list[CellProgress]:
    """Brings a study up to date with `jobs` cells in parallel. Returns the cells that were run.

    `watch` is called with their progress about twice per second. If a cell fails, the others continue, and a StudyError
    then names the first that failed and its log. allow_missing: leaves cells as they are whose results are here and
    whose weights are not.
    """
    with only_run(study), preloaded(threads_per_job(jobs)):
        repair_rwlock(study.folder)
        run_searches(study, workers, jobs, watch)
        make_inputs(study)
        stale = stale_cells(study)
        if stale.missing and not allow_missing:
            print(missing_hint(stale), file=sys.stderr, flush=True)
        cells = _progress(study, stale.to_run(allow_missing))
        _in_parallel(cells, workers.run_cell, jobs, watch)
        workers.finish()
        _raise_if_failed(cells, "cells")
        run_dvc(study, "repro", *(["--allow-missing"] if allow_missing else []))
        return cells


@contextmanager
def only_run(study: Study) -> Iterator[None]:
    """Holds the study's lock, so that a second `study run` waits and then finds the work done.

    The lock belongs to the operating system: a killed process leaves nothing behind. DVC's processes inherit it, so a
    new run also waits for those that outlive a killed one.
    """
    path = study.state / f"run-{study.settings.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another `study run` of {study.settings.name} to finish", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        os.set_inheritable(file.fileno(), True)
        yield


def run_searches(study: Study, workers: Workers, jobs: int, watch: Watch = lambda cells: None) -> None:
    """Runs the trials of several tuned arms in parallel, if any are left to run. The search stage then only collects
    them. Raises StudyError if a search fails."""
    arms = study.settings.search.arms if study.settings.search.trials else []
    if len(arms) < 2 or jobs < 2 or not workers.can_search:
        return
    run_dvc(study, "repro", "examples")
    if not stale_stages(study, "search"):
        return
    open_storage(study)                     # creates the tables before several processes need them
    searches = _progress(study, [f"search-{arm}" for arm in arms])
    _in_parallel(searches, workers.run_trials, jobs, watch)
    _raise_if_failed(searches, "searches")


def _progress(study: Study, names: list[str]) -> list[CellProgress]:
    logs = study.state / "logs"
    return [CellProgress(name, log=logs / f"{study.settings.name}-{name}.log") for name in names]


def _in_parallel(cells: list[CellProgress], work: Callable[[CellProgress], None], jobs: int, watch: Watch) -> None:
    with ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(work, cell) for cell in cells]
        try:
            while not all(task.done() for task in tasks):
                watch(cells)
                time.sleep(POLL_INTERVAL)
        except BaseException:               # Ctrl-C: start no further cell
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    watch(cells)
    for task in tasks:
        task.result()                       # raises what the task raised


def _raise_if_failed(cells: list[CellProgress], noun: str) -> None:
    if failed := [cell for cell in cells if cell.status == "failed"]:
        raise StudyError(f"{len(failed)} of {len(cells)} {noun} failed, first {failed[0].name}; see {failed[0].log}, "
                         f"fix the cause and run again")


def default_jobs() -> int:
    """Number of cells to run in parallel: one more than processors, since a cell waits for DVC between its stages."""
    return 1 + processors()
