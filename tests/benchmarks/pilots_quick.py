"""The pilot runs of the quick study and of experiments/pairs, on seeds that no study reports.

    python -m tests.benchmarks.pilots_quick           train what is missing (20 minutes); reports/pilots/quick.jsonl

`python -m tests.benchmarks.pilots --page` shows them.
"""
from __future__ import annotations

import json
import subprocess
import sys

import yaml
from rich.progress import track

from tests.benchmarks.pilots import RESULTS, SEEDS, merged
from tests.benchmarks.workload import ROOT

TRIALS = RESULTS / "quick.jsonl"
RATES = (0.00125, 0.0025, 0.005, 0.0075, 0.01)
STEPS = 1200
# Arm, learning rate, steps, rows per step, seed.
Run = tuple[str, float, int, int, int]
RUNS: list[Run] = [(arm, rate, STEPS, 32, seed) for seed in SEEDS[:2] for arm in ("dynamic", "all-mask", "mlm-nsp")
                   for rate in RATES]
RUNS += [("mlm-nsp", 0.0075, 1800, 32, 900), ("mlm-nsp", 0.005, 2400, 32, 900), ("mlm-nsp", 0.005, 4000, 32, 900),
         ("mlm-nsp", 0.005, 1600, 16, 900), ("mlm-nsp", 0.0035, 2400, 16, 900), ("mlm-nsp", 0.005, 2400, 16, 900),
         ("mlm-nsp", 0.005, 2400, 16, 901), ("mlm-sop", 0.005, 4000, 32, 900)]


def quick_study(rate: float, steps: int, rows: int):
    """Returns the quick study with another learning rate, number of steps and rows per step, and its data."""
    from study.config.load import load_study

    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content |= {"name": "pilots", "root": "../../..", "search": content["search"] | {"arms": [], "trials": 0}}
    content = merged(content, {"training": {"learning_rate": rate, "steps": steps, "batch_size": rows,
                                            "eval_steps": steps // 40}})
    folder = ROOT / ".state" / "pilots" / "quick"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    study = load_study(folder)
    for stage in ("corpus", "tokenizer", "examples"):
        if not (study.runs / stage).exists():
            subprocess.run([sys.executable, "-m", "study", stage, str(folder)], check=True, cwd=ROOT)
    return study


def train(run: Run) -> dict:
    """Trains one run and returns its record, with the last validation."""
    from study.config.arms import resolve
    from study.model.kernels import configure_processor
    from study.training.pretrain import load_data
    from study.training.trainer import Trainer

    arm, rate, steps, rows, seed = run
    study = quick_study(rate, steps, rows)
    config = resolve(study, arm)
    configure_processor(config.training.threads)
    progress = Trainer(config, load_data(study), seed).train()
    last = next(record for record in reversed(progress.records) if "validation_nll" in record)
    return {"arm": arm, "rate": rate, "steps": steps, "batch": rows, "seed": seed,
            "seconds": round(progress.seconds, 1), "last": last}


def recorded() -> list[dict]:
    """Returns the recorded runs."""
    return [json.loads(line) for line in TRIALS.read_text().splitlines()] if TRIALS.exists() else []


def main() -> None:
    done = {tuple(record[key] for key in ("arm", "rate", "steps", "batch", "seed")) for record in recorded()}
    for run in track([run for run in RUNS if run not in done], description="pilots", disable=not sys.stderr.isatty()):
        record = train(run)
        with TRIALS.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(*run, record["last"]["validation_nll"], flush=True)


if __name__ == "__main__":
    main()
