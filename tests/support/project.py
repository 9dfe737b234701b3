"""Copies of the project in which commands are run: a fresh one, and one whose tiny study is finished."""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from study.config.create import link_results
from study.config.load import load_study
from study.orchestration import preload
from tests.support.shared import made_once, shared_root
from tests.support.studies import ROOT

BIN = Path(sys.executable).parent
STUDY = (sys.executable, "-m", "study")
ARMS, SEEDS = "[dynamic, mlm-nsp]", "[0, 1]"
# What copies change in the settings of the tiny study: fewer probes and less fine-tuning, but the same stages.
CHEAPER = {"train_sizes: [20, 60]": "train_sizes: [20]", "learning_rates: [0.0003, 0.003]": "learning_rates: [0.003]",
           "    epochs: 2": "    epochs: 1", "more-epochs: {epochs: 6}": "more-epochs: {epochs: 2}"}
# Variables that the commands set themselves, so that no library sends telemetry.
SILENCED = ("DVC_NO_ANALYTICS", "HF_HUB_DISABLE_TELEMETRY", "HF_UPDATE_DOWNLOAD_COUNTS", "MLFLOW_DISABLE_TELEMETRY",
            "DO_NOT_TRACK")
# Python reports every socket operation to audit hooks. This module is imported at the start of each Python process.
NETWORK_LOG = """
import os, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"):
        address = arguments[1] if event == "socket.connect" else arguments
        if isinstance(address, (str, bytes)):       # a socket in the file system
            return
        with open(os.environ["NETWORK_LOG"], "a") as file:
            file.write(f"{' '.join(sys.argv[:4])}: {event} {address!r}\\n")
sys.addaudithook(hook)
"""


def run(*command: str, cwd: Path, check: bool = True, **variables: str | None) -> subprocess.CompletedProcess:
    """Runs a command in a folder of a copy of the project, with that copy's code and some environment `variables` (None
    unsets)."""
    done = subprocess.run(command, cwd=cwd, env=environment_of(cwd, **variables), text=True, capture_output=True,
                          stdin=subprocess.DEVNULL)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def environment_of(folder: Path, **variables: str | None) -> dict[str, str]:
    """The environment of commands in a folder of a copy of the project. The code of linked copies is loaded once for
    all of them."""
    root = next((parent for parent in (folder, *folder.parents) if (parent / "study" / "cli").exists()), folder)
    is_served = sys.platform == "linux" and (root / "study").is_symlink()
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(root),
                   "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": None,
                   preload.ADDRESS: preload_server() if is_served else None, **variables}
    return {name: value for name, value in environment.items() if value is not None}


@cache
def preload_server() -> str:
    """The address of a server that runs commands with ROOT's code. It ends with this process."""
    address = str(Path(tempfile.mkdtemp(dir=shared_root()), "socket"))
    subprocess.Popen([*STUDY, "serve", address, str(os.getpid())], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    return address


def dvc(root: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """Runs DVC in the tiny study of a copy of the project."""
    return run("dvc", *arguments, cwd=root / "experiments" / "tiny", check=check)


def copy_of_project(target: Path, arms: str = ARMS, seeds: str = SEEDS, linked: bool = False,
                    changes: dict[str, str] = CHEAPER) -> Path:
    """A new Git repository with the project's files that Git does not ignore. Its tiny study has `arms` and `seeds`.

    linked: its code is a link to ROOT's, for tests that do not change it. Commands then start sooner. changes: texts in
    the settings of the tiny study -> what replaces them.
    """
    def ignored(folder: str, names: list[str]) -> set[str]:
        made = {"dvc.lock", "config.local", "cache", "tmp", ".state"} & set(names)      # compiled modules are copied
        top = {".git", ".venv", "runs", "reports", "data", "mlflow.db", "mlartifacts", *(["study"] if linked else [])}
        results = {"runs", "reports"} if Path(folder).parent == ROOT / "experiments" else set()
        return made | ((top if Path(folder) == ROOT else results) & set(names))

    shutil.copytree(ROOT, target, symlinks=True, ignore=ignored)
    if linked:
        (target / "study").symlink_to(ROOT / "study")
    params = target / "experiments" / "tiny" / "params.yaml"
    text = params.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"^seeds: .*$", f"seeds: {seeds}", text, flags=re.M)
    params.write_text(re.sub(r"^arms: .*?\]", f"arms: {arms}", text, count=1, flags=re.M | re.S))
    run("git", "init", "-q", cwd=target)
    link_results(load_study(target / "experiments" / "tiny"))
    return target


def finished_project() -> Path:
    """A copy of the project after `study run experiments/tiny`. All workers share it: copy it to change it.

    `network.log` next to it lists the connections that any process of this run tried to make.
    """
    return made_once("finished", _make_finished) / "project"


def _make_finished(folder: Path) -> None:
    root = copy_of_project(folder / "project")
    (folder / "hook").mkdir()
    (folder / "hook/sitecustomize.py").write_text(NETWORK_LOG)
    log = folder / "network.log"
    hooked = {"PYTHONPATH": f"{folder / 'hook'}:{root}", "NETWORK_LOG": str(log),
              **dict.fromkeys(SILENCED)}
    run(sys.executable, "-c", "import socket; socket.socket().connect_ex(('127.0.0.1', 9))", cwd=root, **hooked)
    assert "socket.connect" in log.read_text(), "the audit hook does not work"
    log.write_text("")
    run(*STUDY, "run", "experiments/tiny", "--jobs", "2", cwd=root, **hooked)


def copy_of_finished_project(target: Path, linked: bool = False) -> Path:
    """A copy to change. linked: see `copy_of_project`."""
    root = Path(shutil.copytree(finished_project(), target, symlinks=True,
                                ignore=shutil.ignore_patterns("mlflow.db-*", "mlflow.db.lock")))
    if linked:
        shutil.rmtree(root / "study")
        (root / "study").symlink_to(ROOT / "study")
    return root


def copy_with_untrained_cells(target: Path) -> Path:
    """A copy to change whose data and search are up to date and whose two cells, dynamic-0 and mlm-nsp-0, are stale."""
    root = copy_of_finished_project(target)
    params = root / "experiments/tiny/params.yaml"
    params.write_text(params.read_text().replace(f"seeds: {SEEDS}", "seeds: [0]"))
    forget_cells(root, "dynamic-0", "dynamic-1", "mlm-nsp-0", "mlm-nsp-1")
    return root


def forget_cells(root: Path, *cells: str) -> None:
    """Removes the results of cells, and DVC's cache of commands that have run, from which it would restore them."""
    for cell in cells:
        shutil.rmtree(root / "runs/tiny" / cell)
    shutil.rmtree(root / ".dvc/cache/runs", ignore_errors=True)


def lose_weights(root: Path, cell: str) -> None:
    """Removes the weights of a cell, and the copies of them in DVC's cache."""
    for path in (root / "runs/tiny" / cell).glob("*.safetensors"):
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        path.unlink()
        (root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink()


def small_files(root: Path) -> dict[str, bytes]:
    """The tiny study's results by relative path, without times and hardware."""
    runs = root / "runs" / "tiny"
    return {str(path.relative_to(runs)): path.read_bytes() for path in sorted(runs.rglob("*"))
            if path.is_file() and path.name not in ("training.json", "finetune_time.json", ".gitignore")}
