"""Whether bfloat16 costs quality: the quick study's baseline in both precisions at the same seeds, for two lengths.
`make bench` runs it; precision.json."""
from __future__ import annotations

import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.progress import track

from study.orchestration.processes import processors
from tests.benchmarks.speed import PRECISIONS, RESULTS
from tests.benchmarks.workload import ROOT, stamp
from tests.support.studies import tiny_study

RUNS, MARGIN = {1000: range(10), 1500: range(5)}, 0.05      # seeds by steps; nats, as of the claims
Job = tuple[int, str, int]                  # steps, precision, seed


def curve(folder: Path, job: Job) -> list[tuple[int, float]]:
    """[(step, validation NLL)] of one run of the quick study's baseline, whose data are in the folder. On one thread,
    as in the study."""
    from study.config.arms import resolve
    from study.config.load import load_study
    from study.training.pretrain import load_data
    from study.training.trainer import Trainer

    torch.set_num_threads(1)
    study, (steps, precision, seed) = load_study(folder), job
    base = resolve(study, study.settings.baseline)
    training = base.training.model_copy(update={"precision": precision, "steps": steps})
    records = Trainer(base.model_copy(update={"training": training}), load_data(study), seed).train().records
    return [(record["step"], record["validation_nll"]) for record in records if "validation_nll" in record]


def measure() -> dict[str, dict[str, dict[str, list[tuple[int, float]]]]]:
    """{steps: {precision: {seed: curve}}}: rows, masks and first weights of a seed are the same in both."""
    text = (ROOT / "params.yaml").read_text()
    found: dict = {str(steps): {precision: {} for precision in PRECISIONS} for steps in RUNS}
    jobs = [(steps, precision, seed) for steps in RUNS for seed in RUNS[steps] for precision in PRECISIONS]
    with tempfile.TemporaryDirectory() as folder, \
            ProcessPoolExecutor(processors(), mp_context=get_context("spawn")) as pool:
        study = tiny_study(Path(folder), lambda _: text)
        runs = pool.map(partial(curve, study.folder), jobs)
        for (steps, precision, seed), run in track(zip(jobs, runs, strict=True), total=len(jobs),
                                                   description="precision", disable=not sys.stderr.isatty()):
            found[str(steps)][precision][str(seed)] = run
    return found


if __name__ == "__main__":
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "precision.json").write_text(json.dumps(stamp() | {"runs": measure()}, indent=1) + "\n")
