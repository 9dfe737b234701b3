"""From a clone to a report: installation, what each dependency costs, the quick study, and what a cell costs apart from
training. `make bench` runs it; clone.json.

The packages come from pip's cache if they are there. The clone is of the last commit.
"""
from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from study.config.load import load_study
from tests.benchmarks.speed import RESULTS
from tests.benchmarks.workload import ROOT, stamp

RETRAINED = (2, 4)                          # cells that are trained again in two runs, to measure what one costs
UNSET = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MLFLOW_TRACKING_URI")
# In the Python of the clone: name -> what is imported, MB of its files, and seconds of its import in a new process.
DEPENDENCIES = """
import importlib.metadata as metadata, json, re, statistics, subprocess, sys
modules = {}
for module, names in metadata.packages_distributions().items():
    for name in names:
        modules.setdefault(re.sub("[-_.]+", "-", name).lower(), []).append(module)
costs = {}
for name in sys.argv[1:]:
    plain = re.sub("[-_.]+", "-", name).lower()
    module = "ruamel.yaml" if plain == "ruamel-yaml" else min(
        modules[plain], key=lambda module: (module.startswith("_"), module.replace("_", "-") != plain, len(module)))
    times = []
    for _ in range(3):
        trace = subprocess.run([sys.executable, "-X", "importtime", "-c", f"import {module}"], capture_output=True,
                               text=True, check=True).stderr.splitlines()
        times.append(next(int(line.split("|")[1]) for line in reversed(trace)
                          if line.split("|")[-1].strip() == module) / 1e6)
    files = metadata.files(name) or ()
    costs[name] = {"module": module, "seconds": statistics.median(times),
                   "megabytes": sum(file.size or 0 for file in files) / 1e6}
print(json.dumps(costs))
"""


def direct_dependencies() -> list[str]:
    """The names of the packages in pyproject.toml that every user needs."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [text.split(";")[0].split("[")[0].split("=")[0].split("<")[0].split(">")[0].strip() for text in wanted]


def run(clone: Path, *command: str) -> float:
    """Runs a command in the clone, with its own environment. Returns the seconds that it takes."""
    began = time.perf_counter()
    output(clone, *command)
    return time.perf_counter() - began


def output(clone: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    environment["PATH"] = f"{clone / '.venv/bin'}:{environment['PATH']}"
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)[:200]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def processor_seconds(clone: Path, *command: str) -> float:
    """Processor time, in seconds, of a command and its child processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(clone, *command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def retrained(clone: Path, count: int) -> tuple[float, float]:
    """Processor-seconds of a `study run` that trains so many cells of the baseline again, one at a time, and the
    seconds of their training, on one thread."""
    study = load_study(clone)
    cells = [study.cell(study.settings.baseline, seed) for seed in study.settings.seeds[:count]]
    for cell in cells:
        shutil.rmtree(cell)
    shutil.rmtree(clone / ".dvc/cache/runs")            # DVC would restore the results of commands that have run
    seconds = processor_seconds(clone, "study", "run", "--jobs", "1")
    return seconds, sum(json.loads((cell / "training.json").read_text())["seconds"] for cell in cells)


def cell_cost(clone: Path) -> dict[str, float]:
    """Processor-seconds of a cell of the quick study, by what two more cells add to a run; of a run with none."""
    idle = processor_seconds(clone, "study", "run")
    (few, few_training), (many, many_training) = (retrained(clone, count) for count in RETRAINED)
    more = RETRAINED[1] - RETRAINED[0]
    training = (many_training - few_training) / more
    return {"training": training, "besides": (many - few) / more - training, "idle_run": idle}


def measure(folder: Path) -> dict:
    """Everything; clone.json."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    found: dict = {"install": run(clone, "make", "install", f"PYTHON={sys.executable}")}
    found["dependencies"] = json.loads(output(clone, "python", "-c", DEPENDENCIES, *direct_dependencies()))
    found["quick"] = run(clone, "make", "study")
    return found | {"cells": len(load_study(clone).cells), "cell": cell_cost(clone)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "clone.json").write_text(json.dumps(stamp() | found, indent=1) + "\n")
    print(f"installation {found['install']:.0f} s, quick study {found['quick']:.0f} s, "
          f"a cell apart from training {found['cell']['besides']:.1f} processor-seconds")


if __name__ == "__main__":
    main()
