"""A study on a Ray cluster: two workers with a clone each, a folder as DVC remote, and a worker that is killed."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from study import StudyError
from study.config.load import load_study
from study.config.study import STORAGE
from study.orchestration.ray_cluster import Cluster
from tests.support.project import BIN, copy_of_project, dvc, run
from tests.support.training import counts

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@localhost")


def committed(folder, steps: int):
    """A committed project whose tiny study has two cells of `steps` steps, with a folder as its DVC remote."""
    head = copy_of_project(folder / "head", arms="[dynamic, static]", seeds="[0]")
    params = head / "experiments/tiny/params.yaml"
    text = re.sub(r"^  steps: 12$", f"  steps: {steps}", params.read_text(), flags=re.M)
    params.write_text(text.replace("  arms: [dynamic]\n", "  arms: [dynamic, static]\n"))
    (folder / "remote").mkdir()
    dvc(head, "remote", "add", "--default", "shared", str(folder / "remote"))
    run(*GIT, "add", "--all", cwd=head)
    run(*GIT, "commit", "--quiet", "--message", "tiny", cwd=head)
    return head


@pytest.fixture
def workers():
    """The folder of the workers' clones. Its path is short because Ray creates sockets there."""
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


@pytest.fixture
def two_nodes(workers, monkeypatch):
    """The address of a cluster of two nodes with one processor each."""
    from ray.cluster_utils import Cluster as Nodes

    for name, text in {"TMPDIR": str(workers), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
                       "PATH": f"{BIN}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}.items():
        monkeypatch.setenv(name, text)
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes.address
    nodes.shutdown()


def processes(text: str) -> list[psutil.Process]:
    """Processes with this text in their command line."""
    matching = []
    for process in psutil.process_iter(["cmdline"]):
        if text in " ".join(process.info["cmdline"] or []):
            matching.append(process)
    return matching


def kill_worker_of(cell: str, workers, study: subprocess.Popen) -> None:
    """Kills the Ray worker that trains the cell, and its child processes, while this `study run` lasts."""
    arm, seed = cell.rsplit("-", 1)
    while study.poll() is None:
        for process in processes(f"study pretrain --arm {arm} --seed {seed}"):
            try:
                if str(workers) not in process.cwd():
                    continue
                worker = next(parent for parent in process.parents() if parent.name().startswith("ray::"))
                for victim in [worker, *worker.children(recursive=True)]:
                    victim.kill()
                return
            except (psutil.NoSuchProcess, StopIteration):
                continue
        time.sleep(0.1)
    raise AssertionError(f"`study run` ended before {cell} trained")


def test_workers_train_all_cells_even_if_one_is_killed(tmp_path, workers, two_nodes, monkeypatch):
    """They also run the trials of the search in a shared database."""
    head = committed(tmp_path, steps=120)
    monkeypatch.setenv(STORAGE, f"sqlite:///{tmp_path}/shared.db")
    log = (tmp_path / "log").open("w")
    study = subprocess.Popen([sys.executable, "-m", "study", "run", "experiments/tiny", "--ray", two_nodes], cwd=head,
                             stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": str(head)})
    kill_worker_of("static-0", workers, study)
    status = study.wait(timeout=300)
    output = (tmp_path / "log").read_text()
    assert status == 0, output
    # One clone per node for the trials, and one for the cells.
    assert len(list(workers.glob("study-*/*/.ready"))) == 4
    assert counts(os.environ[STORAGE]) == {"dynamic": 2, "static": 2}
    for arm in ("dynamic", "static"):
        assert f"trials {arm}: 2, best" in (head / f"experiments/tiny/.state/logs/tiny-search-{arm}.log").read_text()
    for cell in ("dynamic-0", "static-0"):
        assert f"Stage 'pretrain@{cell}' didn't change, skipping" in output
        assert f"> study pretrain --arm {cell.removesuffix('-0')} --seed 0" not in output      # not on the head
        assert (head / f"runs/tiny/{cell}/encoder.safetensors").exists()
    assert "up to date" in dvc(head, "repro").stdout
    weights = (head / "runs/tiny/static-0/encoder.safetensors").read_bytes()
    dvc(head, "repro", "--force", "--single-item", "pretrain@static-0")
    assert (head / "runs/tiny/static-0/encoder.safetensors").read_bytes() == weights


def test_a_missing_prerequisite_is_an_error_with_a_remedy(tmp_path):
    head = copy_of_project(tmp_path / "head", arms="[dynamic]", seeds="[0]")
    study = load_study(head / "experiments/tiny")
    with pytest.raises(StudyError, match="no DVC remote, .* `dvc remote add --default"):
        Cluster(study, "auto", 0)
    dvc(head, "remote", "add", "--default", "shared", str(tmp_path / "remote"))
    with pytest.raises(StudyError, match="is not committed, and workers train what is committed; commit or stash it"):
        Cluster(study, "auto", 0)
    run(*GIT, "add", "--all", cwd=head)
    run(*GIT, "commit", "--quiet", "--message", "tiny", cwd=head)
    with pytest.raises(StudyError, match="no Ray cluster at 127.0.0.1:1 .*`ray start --head`"):
        Cluster(study, "127.0.0.1:1", 0)
    shutil.rmtree(head / ".git")
    dvc(head, "config", "--local", "core.no_scm", "true")
    with pytest.raises(StudyError, match=r"head: not a Git repository, .*; run `git init` there and commit"):
        Cluster(study, "127.0.0.1:1", 0)
