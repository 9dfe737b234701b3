"""Whether bfloat16 costs quality: the quick study's baseline in both precisions at the same seeds, for two lengths.
`make bench` runs it; precision.json."""
from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from rich.progress import track

from tests.benchmarks.speed import PRECISIONS, RESULTS
from tests.benchmarks.workload import ROOT, stamp
from tests.support.studies import tiny_study

RUNS, MARGIN = {1000: range(10), 1500: range(5)}, 0.05      # seeds by steps; nats, as of the claims


def measure() -> dict[str, dict[str, dict[str, list[tuple[int, float]]]]]:
    """{steps: {precision: {seed: [(step, validation NLL)]}}}: rows, masks and first weights of a seed are the same in
    both."""
    from study.config.arms import resolve
    from study.training.pretrain import load_data
    from study.training.trainer import Trainer

    text = (ROOT / "params.yaml").read_text()
    found: dict = {str(steps): {precision: {} for precision in PRECISIONS} for steps in RUNS}
    with tempfile.TemporaryDirectory() as folder:
        study = tiny_study(Path(folder), lambda _: text)
        base, data = resolve(study, study.settings.baseline), load_data(study)
        jobs = [(steps, precision, seed) for steps in RUNS for seed in RUNS[steps] for precision in PRECISIONS]
        for steps, precision, seed in track(jobs, description="precision", disable=not sys.stderr.isatty()):
            training = base.training.model_copy(update={"precision": precision, "steps": steps})
            records = Trainer(base.model_copy(update={"training": training}), data, seed).train().records
            found[str(steps)][precision][str(seed)] = [(record["step"], record["validation_nll"]) for record in records
                                           if "validation_nll" in record]
    return found


if __name__ == "__main__":
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "precision.json").write_text(json.dumps(stamp() | {"runs": measure()}, indent=1) + "\n")
