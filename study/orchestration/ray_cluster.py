"""`study run --ray`: the stale cells of a study on a Ray cluster.

Workers get the commit as a git bundle and the data through the DVC remote. The weights that they train return through
the remote too, small results and entries of dvc.lock with the result of the task. `dvc repro` on the head then has
nothing to train. (DVC's run cache cannot do this: it leaves out stages with outputs in git, as ours have.)

A worker keeps one clone per commit in its temporary folder. All machines need the same environment and the same remote.
"""
from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from study import StudyError
from study.analysis.registration import register_claims
from study.config.study import STORAGE, Study
from study.files import write_atomically
from study.orchestration.dvc_commands import (
    DVC,
    STUDY,
    TASK_ROWS,
    cell_stages,
    environment,
    trials_command,
)
from study.orchestration.dvc_lock import parse_lock, write_lock
from study.orchestration.processes import CellProgress

RETRIES = 3                                 # further attempts at a cell whose worker died
# Paths that must be committed. A dvc.lock may differ: it is sent along.
COMMITTED = (":(top)study", ":(top)experiments", ":(top)params.yaml", ":(top)dvc.yaml",
             *(f":(top,exclude)experiments/*/{name}" for name in ("dvc.lock", "runs", "reports")))
DATA_STAGES = ("code", "corpus", "tokenizer", "examples")   # workers pull their outputs, and those of TASK_ROWS


@dataclass(frozen=True)
class WorkerTask:
    """What a worker needs: the commit as a git bundle, and the files that are not in it.

    folder and name are those of the study; the folder is relative to the root. data_stages: the stages whose outputs
    cells read.
    """
    bundle: bytes
    commit: str
    files: dict[str, bytes]
    folder: str
    name: str
    data_stages: tuple[str, ...]


@dataclass(frozen=True)
class WorkerResult:
    """What a worker returns: whether every command succeeded, their output, the cell's part of dvc.lock, its files."""
    succeeded: bool
    output: str
    lock: dict[str, dict]
    files: dict[str, bytes]


class Cluster:
    """Runs cells as Ray tasks that take one processor and a share of a GPU each.

    Raises StudyError if Ray, the DVC remote or the cluster is missing, or if the code is not committed.
    """

    def __init__(self, study: Study, address: str, gpus: float):
        try:
            import ray
        except ImportError:
            raise StudyError("Ray is not installed; run `make tools`") from None
        self.study, self.gpus, self.ray = study, gpus, ray
        self.lock, self.task, self.done = threading.Lock(), None, []
        if not _output(study, *DVC, "config", "core.remote"):
            raise StudyError("no DVC remote, which workers need to get the data; run "
                             "`dvc remote add --default NAME /shared/folder-or-url`")
        if changes := _output(study, "git", "status", "--porcelain", "--", *COMMITTED):
            raise StudyError(f"{changes.splitlines()[0].split()[-1]} is not committed, and workers train what is "
                             f"committed; commit or stash it")
        if not _output(study, "git", "rev-parse", "--verify", "--quiet", "HEAD"):
            raise StudyError(f"{study.root.resolve()}: not a Git repository, and workers train what is committed; run "
                             f"`git init` there and commit the project, or leave out --ray")
        if not ray.is_initialized():
            self._connect(address)

    def _connect(self, address: str) -> None:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            if host:                        # without this check Ray retries for minutes
                socket.create_connection((host, int(port)), timeout=5).close()
            self.ray.init(address=address, log_to_driver=False, logging_level="error")
        except (OSError, ValueError) as error:
            raise StudyError(f"no Ray cluster at {address} ({error}); `ray start --head` starts one") from None

    @property
    def can_search(self) -> bool:
        """Whether workers can reach the database of the trials. If not, the head runs the search."""
        return bool(os.environ.get(STORAGE))

    def run_cell(self, cell: CellProgress) -> None:
        """Trains, evaluates and probes a cell on a worker. If the worker dies, another one gets the cell."""
        result = self._run(cell, train, cell_stages(self.study, cell.name))
        if result.succeeded:
            with self.lock:
                self._save(cell.name, result)

    def run_trials(self, search: CellProgress) -> None:
        """Runs the trials of one arm on a worker, in the database that all machines share."""
        self._run(search, tune, os.environ[STORAGE])
        self.task = None                    # the next task has to include the results of the search

    def finish(self) -> None:
        """Pulls the weights that the workers pushed."""
        if self.done:
            _dvc(self.study, "pull", *(f"pretrain@{cell}" for cell in self.done))

    def _run(self, progress: CellProgress, function: Callable[..., WorkerResult], *arguments) -> WorkerResult:
        """The result of function(task, name, *arguments) on a worker. Its output goes to the log of `progress`."""
        progress.start()
        remote = self.ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=RETRIES)(function)
        try:
            result = self.ray.get(remote.remote(self._task(), progress.name, *arguments))
        except (self.ray.exceptions.RayError, StudyError) as error:
            result = WorkerResult(False, str(error), {}, {})
        progress.log.parent.mkdir(parents=True, exist_ok=True)
        progress.log.write_text(result.output)
        progress.line = result.output.strip().rpartition("\n")[2]
        progress.finish(result.succeeded)
        return result

    def _task(self):
        """The WorkerTask in Ray's store. The first call makes it and pushes the data."""
        with self.lock:
            if self.task is None:
                self.task = self.ray.put(self._make_task())
            return self.task

    def _make_task(self) -> WorkerTask:
        study, root = self.study, self.study.root.resolve()
        register_claims(study)
        has_rows = study.settings.finetune.tasks and (study.runs / "tasks").exists()    # made after the search
        stages = (*DATA_STAGES, TASK_ROWS) if has_rows else DATA_STAGES
        _dvc(study, "push", *stages)
        paths = [*(study.folder / ".dvc").glob("config*"), study.folder / "dvc.lock",
                 *(study.runs / "search").glob("*"), *study.runs.glob("claims.json")]
        bundle = subprocess.run(["git", "bundle", "create", "-q", "-", "HEAD"], cwd=study.root, capture_output=True,
                                check=True).stdout
        return WorkerTask(bundle, commit=_output(study, "git", "rev-parse", "HEAD"),
                          files={str(path.resolve().relative_to(root)): path.read_bytes() for path in paths},
                          folder=str(study.folder.resolve().relative_to(root)), name=study.settings.name,
                          data_stages=stages)

    def _save(self, cell: str, result: WorkerResult) -> None:
        """Writes a cell's small files and its entries of dvc.lock. The weights are pulled when all cells have ended."""
        (self.study.runs / cell).mkdir(parents=True, exist_ok=True)
        for name, content in result.files.items():
            write_atomically(self.study.runs / cell / name, content)
        path = self.study.folder / "dvc.lock"
        lock = parse_lock(path.read_bytes())
        lock["stages"] |= result.lock
        write_lock(path, lock)
        self.done.append(cell)


def train(task: WorkerTask, cell: str, names: list[str]) -> WorkerResult:
    """On a worker: runs the stages `names` of one cell in the clone of the commit, and pushes its weights."""
    root = workspace(task)
    folder = root / task.folder
    succeeded, output = _run_all(root, folder, {}, pull_data(task), (*DVC, "repro", "--single-item", *names),
                                 (*DVC, "push", *names))
    if not succeeded:
        return WorkerResult(False, output, {}, {})
    lock = parse_lock((folder / "dvc.lock").read_bytes())["stages"]
    files = {path.name: path.read_bytes() for path in (folder / "runs" / task.name / cell).iterdir()
             if path.suffix != ".safetensors" and path.name != ".gitignore"}
    return WorkerResult(True, output, {name: lock[name] for name in names}, files)


def tune(task: WorkerTask, search: str, storage: str) -> WorkerResult:
    """On a worker: runs or resumes the trials of one arm in the shared database `storage`."""
    root, trials = workspace(task), (*STUDY, *trials_command(search))
    return WorkerResult(*_run_all(root, root / task.folder, {STORAGE: storage}, pull_data(task), trials), {}, {})


def pull_data(task: WorkerTask) -> tuple[str, ...]:
    """The command that gets what cells read."""
    return *DVC, "pull", *task.data_stages


def _run_all(root: Path, folder: Path, variables: dict[str, str], *commands: tuple[str, ...]) -> tuple[bool, str]:
    """Runs commands in a folder of the clone until one fails. Returns whether all succeeded, and their output."""
    output = ""
    for command in commands:
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                                 env=environment() | {"PYTHONPATH": str(root)} | variables)
        output += process.stdout + process.stderr
        if process.returncode:
            return False, output
    return True, output


def workspace(task: WorkerTask) -> Path:
    """The clone of the task's commit on this worker. The first task makes it."""
    import ray

    files = hashlib.sha256(repr(sorted(task.files.items())).encode()).hexdigest()[:8]
    node = ray.get_runtime_context().get_node_id()[:8]
    folder = Path(tempfile.gettempdir()) / f"study-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    root = folder / f"{task.commit[:10]}-{files}-{node}"
    with (folder / f"{root.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / ".ready").exists():
            shutil.rmtree(root, ignore_errors=True)
            bundle = folder / f"{root.name}.bundle"
            bundle.write_bytes(task.bundle)
            subprocess.run(["git", "clone", "-q", str(bundle), str(root)], check=True)
            subprocess.run(["git", "checkout", "-q", "--detach", task.commit], cwd=root, check=True)
            for name, content in task.files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
            bundle.unlink()
            (root / ".ready").touch()
    return root


def _output(study: Study, *command: str) -> str:
    return subprocess.run(command, cwd=study.folder, capture_output=True, text=True, check=False).stdout.strip()


def _dvc(study: Study, *arguments: str) -> None:
    """Runs DVC without output on the terminal. Raises StudyError if it fails."""
    process = subprocess.run([*DVC, *arguments], cwd=study.folder, capture_output=True, text=True, check=False)
    if process.returncode:
        raise StudyError(f"dvc {arguments[0]} failed: {' '.join(process.stderr.split())[-300:]}")
