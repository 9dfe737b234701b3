"""A copy of the project in a folder of its own, and commands run in it."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.studies import ROOT

BIN = Path(sys.executable).parent


def run(*command: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(cwd),
                   "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}     # tiny models: threads only wait for each other
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(command, cwd=cwd, env=environment, text=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done
SOME = "[dynamic, all-mask, mlm-nsp]"


def copy_of_project(target: Path, arms: str = SOME, seeds: str = "[0, 1]") -> Path:
    """The files of the project that are not ignored, as a repository; its tiny study has a few of the arms."""
    def ignored(folder: str, names: list[str]) -> set[str]:
        made = {"__pycache__", "dvc.lock", "config.local", "cache", "tmp"} & set(names)
        top = {".git", ".venv", ".state", "runs", "reports", "data", "mlflow.db", "mlartifacts"}
        return made | (top & set(names) if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, target, symlinks=True, ignore=ignored)
    params = target / "experiments" / "tiny" / "params.yaml"
    text = re.sub(r"^seeds: .*$", f"seeds: {seeds}", params.read_text(), flags=re.M)
    params.write_text(re.sub(r"^arms: .*?\]", f"arms: {arms}", text, count=1, flags=re.M | re.S))
    run("git", "init", "-q", cwd=target)
    return target


def small_files(clone: Path) -> dict[str, bytes]:
    """Every committed result but the times and the machine."""
    runs = clone / "runs" / "tiny"
    return {str(path.relative_to(runs)): path.read_bytes() for path in sorted(runs.rglob("*"))
            if path.is_file() and path.name not in ("training.json", ".gitignore")}

