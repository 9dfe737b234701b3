"""What the harness costs around the training loop, and how time and memory grow: `make bench` runs it before speed.py.

Everything is measured on studies of the built-in language that are made for it in a temporary folder. Only Linux tells
a process its peak memory.
"""
from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

from study.orchestration.dvc_lock import parse_lock, write_lock
from tests.benchmarks.made_up import declare, lock_cells, made_up_arms, make_cells
from tests.benchmarks.speed import RESULTS
from tests.benchmarks.workload import ROOT, SMALL, Shape, stamp
from tests.support.project import copy_of_project, run
from tests.support.studies import tiny_study

CELLS, USUAL, SEEDS = (10, 100, 1000), 100, 5
STAGES = 2                                  # per cell: pretrain, evaluate
RESULT_COMMANDS = ("compare", "report", "track")
RESULT_STAGES = ("code", "search", *RESULT_COMMANDS)
VOCABULARIES, LENGTHS, DOCUMENTS = (4096, 8192, 16384, 32768), (32, 64, 128, 256), (2000, 4000, 8000, 16000)

START = """
import os, sys, time
import study.training.trainer as trainer
trainer.Trainer.train_step = lambda *_: (print("first step", time.time(), flush=True), os._exit(0))
sys.argv = ["study", "pretrain", "--arm", "dynamic", "--seed", "0"]
from study.cli.app import main
main()
"""


def timed(work: Callable[[], object], repeats: int = 3) -> float:
    """Median seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def cell_start(study) -> float:
    """Seconds from the start of a cell's process to its first step, median of three."""
    times = []
    for _ in range(3):
        began = time.time()
        done = subprocess.run([sys.executable, "-c", START], cwd=study.folder, capture_output=True, text=True,
                              check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        times.append(float(done.stdout.split()[-1]) - began)
    return statistics.median(times)


def many_cells(folder: Path) -> dict[int, dict[str, float]]:
    """{cells of a study: its numbers from `around`}. The baseline's cells are trained, the others are made up."""
    from study.config.load import load_study
    from study.evaluation.evaluate import evaluate
    from study.evaluation.probe import probe
    from study.training.pretrain import pretrain

    root, found = copy_of_project(folder / "many", "[dynamic]", str(list(range(SEEDS))), changes={}), {}
    params, arms = root / "experiments/tiny/params.yaml", made_up_arms(max(CELLS) // SEEDS - 1)
    settings = yaml.safe_load(params.read_text())
    settings["search"]["trials"], settings["finetune"] = 0, {"arms": [], "tasks": []}
    declare(arms, root / "experiments/arms.yaml")
    for cells in CELLS:
        settings["arms"] = ["dynamic", *arms[:cells // SEEDS - 1]]
        params.write_text(yaml.safe_dump(settings, sort_keys=False))
        study = load_study(root / "experiments/tiny")
        for stage in ("search",) if found else ("corpus", "tokenizer", "examples", "search"):
            run("study", stage, cwd=study.folder)
        for seed in () if found else settings["seeds"]:
            for stage in (pretrain, evaluate, probe):
                stage(study, "dynamic", seed)
        make_cells(study)
        found[len(study.cells)] = around(study, everything=not found)
    return found


def around(study, everything: bool) -> dict[str, float]:
    """Of a study whose cells are there: seconds and peak memory (MB) of its comparisons, its report, its record in
    MLflow and of `dvc repro` with nothing to do; DVC's seconds for each cell that `study run` trains.

    everything: DVC also writes its records of the cells.
    """
    def seconds(*command: str, repeats: int = 1) -> float:
        return timed(lambda: run(*command, cwd=study.folder), repeats)

    run("study", "code", cwd=study.folder)
    if not everything:
        lock_cells(study)
    times = {}
    for name in RESULT_COMMANDS:
        began = time.perf_counter()
        times[f"{name}_memory"] = peak_memory("study", name, cwd=study.folder)
        times[name] = time.perf_counter() - began
    stages = () if everything else RESULT_STAGES
    run(sys.executable, "-m", "study.orchestration.dvc_lock", "commit", "--force", "--quiet", *stages, cwd=study.folder)
    idle, name = ("dvc", "repro"), f"{study.settings.arms[-1]}-0"
    assert "up to date" in run(*idle, cwd=study.folder).stdout
    lock = study.folder / "dvc.lock"
    content = parse_lock(lock.read_bytes())
    repeats = 3 if len(study.cells) <= USUAL else 1
    return times | {"seconds": seconds(*idle, repeats=repeats), "memory": peak_memory(*idle, cwd=study.folder),
                    "cell": seconds(*idle, "--single-item", f"pretrain@{name}", f"evaluate@{name}", repeats=repeats)
                    + STAGES * timed(lambda: write_lock(lock.with_suffix(".copy"), content))}


def bare_repro(folder: Path, stages: int) -> float:
    """Seconds of `dvc repro` with nothing to do over so many stages of one file in and one out: DVC's own share."""
    folder.mkdir()
    for number in range(stages):
        for kind in ("in", "out"):
            (folder / f"{number}.{kind}").write_text(str(number))
    pipeline = {f"copy-{number}": {"cmd": f"cp {number}.in {number}.out", "deps": [f"{number}.in"],
                                   "outs": [f"{number}.out"]} for number in range(stages)}
    (folder / "dvc.yaml").write_text(json.dumps({"stages": pipeline}))          # JSON is YAML
    for command in (("git", "init", "-q"), ("dvc", "init", "-q"), ("dvc", "commit", "--force", "--quiet")):
        run(*command, cwd=folder)
    assert "up to date" in run("dvc", "repro", cwd=folder).stdout
    return timed(lambda: run("dvc", "repro", cwd=folder))


def peak_memory(*command: str, cwd: Path) -> float:
    """MB, of a Python command or of the largest process that it starts."""
    measured = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)")
    return float(run(sys.executable, "-c", measured, *command, cwd=cwd).stdout)


def probing(folder: Path) -> dict[str, float]:
    """Seconds that probing an encoder of 2 x 128 takes, 5,000 training and 7,600 test rows, [CLS] and mean."""
    from study.evaluation.baselines import write_baselines
    from study.evaluation.probe import probe
    from study.training.pretrain import pretrain
    from study.training.search import search

    def change(text: str) -> str:
        text = re.sub(r"probe_documents: .*", "probe_documents: {train: 5000, test: 7600}", text)
        text = re.sub(r"arms: \[dynamic.*?\]", "arms: [dynamic]", text, count=1, flags=re.S)
        for key, value in {"hidden_size": 128, "intermediate_size": 512, "layers": "last", "train_sizes": "[]",
                           "controls": "false", "regularization": "[0.1, 1.0, 10.0]"}.items():
            text = re.sub(rf"^  {key}: .*$", f"  {key}: {value}", text, flags=re.M)
        return text

    study = tiny_study(folder / "probing", change)
    write_baselines(study, study.runs / "examples")
    search(study)
    pretrain(study, "dynamic", 0)
    return {"probe": timed(lambda: probe(study, "dynamic", 0))}


def write_text(folder: Path, documents: int) -> dict[str, float]:
    """A corpus of so many documents with its tokenizer; its size."""
    import pyarrow.parquet as pq

    study = tiny_study(folder, lambda text: re.sub(
        r"  documents: .*", f"  documents: {{train: {documents}, validation: 20, test: 20}}", text))
    corpus = pq.ParquetFile(study.runs / "corpus" / "train.parquet")
    return {"megabytes": sum(characters(part.to_pylist()) for part in corpus.iter_batches(100)) / 1e6}


def text_growth(folder: Path, documents: int) -> dict[str, float]:
    """Tokenising and packing a training split of so many documents, which another process has made."""
    import pyarrow.parquet  # noqa: F401  (its memory is a library's)

    from study.config.load import load_study
    from study.data.token_store import write_store
    from study.data.tokenizer import load

    size = alone("write", str(documents), str(folder / "text"))["megabytes"]
    runs = load_study(folder / "text").runs
    backend, before = load(runs / "tokenizer"), memory("VmRSS")
    seconds = timed(lambda: write_store(runs / "corpus" / "train.parquet", backend, 3, folder / "store"))
    return {"seconds": seconds, "megabytes": size, "rate": size / seconds, "memory": memory("VmHWM") - before}


def characters(content) -> int:
    """Of all strings in nested lists and dictionaries' values."""
    if isinstance(content, str):
        return len(content)
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return sum(map(characters, parts))


def step_growth(shape: Shape) -> dict[str, float]:
    """Seconds of a step at that shape."""
    from tests.benchmarks.measure import bare_speed

    return {"seconds": shape.rows * shape.length / bare_speed(shape, "float32", 4.0)}


def alone(*arguments: str) -> dict[str, float]:
    """One point of a growth curve, from a process of its own, with its peak memory in MB."""
    done = subprocess.run([sys.executable, "-m", "tests.benchmarks.harness", *arguments], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def point(kind: str, number: int) -> dict[str, float]:
    """What `alone` runs. Its memory is that above the imported libraries'."""
    import study.training.pretrain  # noqa: F401

    before = memory("VmRSS")
    if kind == "documents":
        with tempfile.TemporaryDirectory() as folder:
            found = text_growth(Path(folder), number)
    elif kind == "vocabulary":
        found = step_growth(Shape("", SMALL.layers, SMALL.width, SMALL.heads, SMALL.length, SMALL.rows, number))
    else:
        rows = SMALL.rows * SMALL.length // number
        found = step_growth(Shape("", SMALL.layers, SMALL.width, SMALL.heads, number, rows, SMALL.vocabulary))
    return {"memory": memory("VmHWM") - before} | found


def memory(which: str) -> float:
    """Resident memory of this process, MB: VmRSS now, VmHWM at most so far. (getrusage also counts what a process was
    before it became this one: a copy of its parent.)"""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) / 1024


def measure() -> dict:
    """Everything; harness.json."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        study = tiny_study(folder / "start")
        from study.training.search import search

        search(study)
        cells = many_cells(folder)
        usual, stages = cells[USUAL], STAGES * USUAL
        costs = {"cell_start": cell_start(study), **probing(folder), "cells": USUAL, "idle_repro": usual["seconds"],
                 "stages": stages, "bare_repro": bare_repro(folder / "bare", stages), "report": usual["report"],
                 "compare": usual["compare"]}
    return {"costs": costs, "growth": {**growth(), "cells": {str(count): point for count, point in cells.items()}}}


def growth() -> dict[str, dict[str, dict[str, float]]]:
    """{what grows: {how large: its point}}."""
    return {kind: {str(number): alone(kind, str(number)) for number in numbers}
            for kind, numbers in (("documents", DOCUMENTS), ("vocabulary", VOCABULARIES), ("length", LENGTHS))}


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))         # the tests' settings, imported above, take one
    if len(sys.argv) > 1:
        kind, number, *folder = sys.argv[1:]
        print(json.dumps(write_text(Path(*folder), int(number)) if kind == "write" else point(kind, int(number))))
    else:
        found = measure()
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "harness.json").write_text(json.dumps(stamp() | found, indent=1) + "\n")
        print("  ".join(f"{name}={value:.3g}" for name, value in found["costs"].items()))
