"""A study's stale cells on a Ray cluster: workers get the commit and, by DVC, the data; the weights that they train
come back through the DVC remote, small results and lines of dvc.lock with the answer. `dvc repro` on the head then has
nothing to train. (DVC's own run cache would do, but it leaves out stages with files that git keeps, as ours are.)

A worker keeps a clone a commit in its temporary folder. The environment on every machine must be the same; nothing but
the remote is shared.
"""
from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from study import StudyError
from study.analysis.claims import register
from study.config.load import STORAGE, Study
from study.files import write_atomically
from study.orchestration.dvc_lock import parse_lock, write_lock
from study.orchestration.runner import DVC, STAGES, STUDY, State, environment, stages_file, trials_of

TRIES = 3                                   # further attempts at a cell whose worker died
# What must be as committed; a lock that a run has written is sent along.
CODE = ("study", "experiments", "params.yaml", "dvc.yaml", ":(exclude)experiments/*/dvc.lock")
MADE = ("code", "corpus", "tokenizer", "examples")  # stages whose outs a worker pulls


@dataclass(frozen=True)
class Parcel:
    """What a worker needs: the commit as a git bundle, the files that are not in it, the file of the study's stages and
    the folder of its results, both from the root."""
    bundle: bytes
    commit: str
    files: dict[str, bytes]
    stages: str
    runs: str

    @property
    def pull(self) -> tuple[str, ...]:
        """The command that brings the data."""
        return *DVC, "pull", *(f"{self.stages}:{stage}" for stage in MADE)


@dataclass(frozen=True)
class Answer:
    """What a worker gives back: whether all went well, what was said, the cell's part of dvc.lock, its small files."""
    fine: bool
    text: str
    lock: dict[str, dict]
    files: dict[str, bytes]


class Cluster:
    """Runs cells as Ray tasks of one processor and a share of a GPU. Raises StudyError for what is not set up."""

    def __init__(self, study: Study, address: str, gpus: float):
        try:
            import ray
        except ImportError:
            raise StudyError("Ray is not installed; `pip install 'bert-pretraining-study[cluster]'`") from None
        self.study, self.gpus, self.ray, self.lock, self.sent = study, gpus, ray, threading.Lock(), None
        self.done: list[str] = []
        if not _said(study, *DVC, "config", "core.remote"):
            raise StudyError("no DVC remote through which workers could get the data; "
                             "`dvc remote add --default NAME /shared/folder-or-url`")
        if changed := _said(study, "git", "status", "--porcelain", "--", *CODE):
            raise StudyError(f"workers train what is committed, and {changed.splitlines()[0].strip()} is not; "
                             f"commit or stash it")
        if not ray.is_initialized():
            host, _, port = address.removeprefix("ray://").rpartition(":")
            try:
                if host:                    # Ray itself would go on trying for minutes
                    socket.create_connection((host, int(port)), timeout=5).close()
                ray.init(address=address, log_to_driver=False, logging_level="error")
            except (OSError, ValueError) as error:
                raise StudyError(f"no Ray cluster at {address} ({error}); `ray start --head` starts one") from None

    @property
    def tunes(self) -> bool:
        """Whether there is a storage that workers can reach; without one the head tunes."""
        return bool(os.environ.get(STORAGE))

    def parcel(self):
        """The parcel in Ray's store; made, and the data pushed, when the first cell asks for it."""
        with self.lock:
            if self.sent is None:
                register(self.study)
                file = stages_file(self.study)
                _checked(self.study.root, "push", *(f"{file}:{stage}" for stage in MADE))
                places = [*(self.study.root / ".dvc").glob("config*"), self.study.folder / "dvc.lock",
                          *(self.study.runs / "search").glob("*"), *self.study.runs.glob("claims.json")]
                files = {str(path.resolve().relative_to(self.study.root.resolve())): path.read_bytes()
                         for path in places}
                bundle = subprocess.run(["git", "bundle", "create", "-q", "-", "HEAD"], cwd=self.study.root,
                                        capture_output=True, check=True).stdout
                commit = _said(self.study, "git", "rev-parse", "HEAD")
                self.sent = self.ray.put(Parcel(bundle, commit, files, file,
                                                str(self.study.runs.resolve().relative_to(self.study.root.resolve()))))
            return self.sent

    def run_cell(self, study: Study, cell: State, jobs: int) -> None:
        """Has a worker train, evaluate and probe a cell; a cell whose worker died is given to another one."""
        answer = self._ask(cell, train)
        with self.lock:
            self._keep(cell.name, answer)

    def run_trials(self, study: Study, search: State, jobs: int) -> None:
        """Has a worker make the trials of one arm, in the storage that all share."""
        self._ask(search, tune, os.environ[STORAGE])
        self.sent = None                    # the next parcel holds what the search found

    def _ask(self, state: State, function: Callable[..., Answer], *further) -> Answer:
        """A worker's answer to function(parcel, name of the state, ...); what was said goes to the state's log."""
        state.status, state.began = "running", time.monotonic()
        task = self.ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=TRIES)(function)
        try:
            answer = self.ray.get(task.remote(self.parcel(), state.name, *further))
        except (self.ray.exceptions.RayError, StudyError) as error:
            answer = Answer(False, str(error), {}, {})
        state.log.parent.mkdir(parents=True, exist_ok=True)
        state.log.write_text(answer.text)
        state.line = answer.text.strip().rpartition("\n")[2]
        state.ended, state.status = time.monotonic(), "done" if answer.fine else "failed"
        return answer

    def _keep(self, cell: str, answer: Answer) -> None:
        """Writes what came back and notes it in dvc.lock; the weights are pulled when all cells are done."""
        if not answer.fine:
            return
        (self.study.runs / cell).mkdir(parents=True, exist_ok=True)
        for name, content in answer.files.items():
            write_atomically(self.study.runs / cell / name, content)
        path = self.study.folder / "dvc.lock"
        content = parse_lock(path.read_bytes())
        content["stages"] |= answer.lock
        write_lock(path, content)
        self.done.append(cell)

    def fetch(self) -> None:
        """Brings the weights that the workers pushed."""
        if self.done:
            _checked(self.study.root, "pull", *(f"{stages_file(self.study)}:pretrain@{cell}" for cell in self.done))


def train(parcel: Parcel, cell: str) -> Answer:
    """On a worker: one cell in the clone of this commit."""
    root, names = workspace(parcel), [f"{stage}@{cell}" for stage in STAGES]
    targets = [f"{parcel.stages}:{name}" for name in names]
    fine, said = _all(root, {}, parcel.pull, (*DVC, "repro", "--single-item", *targets), (*DVC, "push", *targets))
    if not fine:
        return Answer(False, said, {}, {})
    lock = parse_lock((root / parcel.stages).with_name("dvc.lock").read_bytes())["stages"]
    files = {path.name: path.read_bytes() for path in (root / parcel.runs / cell).iterdir()
             if path.suffix != ".safetensors" and path.name != ".gitignore"}
    return Answer(True, said, {name: lock[name] for name in names}, files)


def tune(parcel: Parcel, search: str, storage: str) -> Answer:
    """On a worker: the trials of one arm, into the shared storage; a search cut short is gone on with."""
    trials = (*STUDY, *trials_of(search), str(Path(parcel.stages).parent))
    return Answer(*_all(workspace(parcel), {STORAGE: storage}, parcel.pull, trials), {}, {})


def _all(root: Path, extra: dict[str, str], *commands: tuple[str, ...]) -> tuple[bool, str]:
    """Runs the commands in turn until one fails: whether none did, and what they said."""
    said = []
    for command in commands:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False,
                              env=environment() | {"PYTHONPATH": str(root)} | extra)
        said += [done.stdout, done.stderr]
        if done.returncode:
            return False, "".join(said)
    return True, "".join(said)


def workspace(parcel: Parcel) -> Path:
    """The clone of the parcel's commit on this worker, made by the first that comes."""
    import ray

    mark = hashlib.sha256(repr(sorted(parcel.files.items())).encode()).hexdigest()[:8]
    node = ray.get_runtime_context().get_node_id()[:8]
    place = Path(tempfile.gettempdir()) / f"study-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    root = place / f"{parcel.commit[:10]}-{mark}-{node}"
    with (place / f"{root.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / ".ready").exists():
            bundle = place / f"{root.name}.bundle"
            bundle.write_bytes(parcel.bundle)
            subprocess.run(["rm", "-rf", str(root)], check=True)
            subprocess.run(["git", "clone", "-q", str(bundle), str(root)], check=True)
            subprocess.run(["git", "checkout", "-q", "--detach", parcel.commit], cwd=root, check=True)
            for name, content in parcel.files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
            bundle.unlink()
            (root / ".ready").touch()
    return root


def _said(study: Study, *command: str) -> str:
    return subprocess.run(command, cwd=study.root, capture_output=True, text=True, check=False).stdout.strip()


def _checked(root: Path, *arguments: str) -> None:
    done = subprocess.run([*DVC, *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StudyError(f"dvc {arguments[0]} failed: {' '.join(done.stderr.split())[-300:]}")
