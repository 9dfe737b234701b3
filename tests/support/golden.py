"""Learning curves of ten steps, recorded in golden.json. They show how much a change of the code changes results.

    python -m tests.support.golden             print the largest difference of each arm's curves from the recorded ones
    python -m tests.support.golden --write     record the curves as they are now
"""
from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from study.config.arms import resolve
from study.config.study import Study
from study.training.pretrain import load_data
from study.training.trainer import Data, Trainer
from tests.support.studies import tiny_study

RECORDED = Path(__file__).parent / "golden.json"
ARMS = ("dynamic", "pre-ln", "no-embedding-norm", "mlm-nsp", "mlm-sop", "left-to-right", "short-first-half")
STEPS = 10
KEYS = ("loss", "pair_loss", "gradient_norm", "validation_nll")


def tiny_data(folder: Path) -> tuple[Study, Data]:
    """Returns the tiny study, made in `folder`, and its data."""
    study = tiny_study(folder)
    return study, load_data(study)


def curves(study: Study, data: Data) -> dict[str, dict[str, list[float]]]:
    """Returns for each arm the losses and gradient norms of every step, and the NLL of every validation."""
    result = {}
    for arm in ARMS:
        config = resolve(study, arm)
        training = config.training.model_copy(update={"steps": STEPS, "logging_steps": 1, "eval_steps": STEPS})
        records = Trainer(config.model_copy(update={"training": training}), data, 0).train().records
        values = {key: [record[key] for record in records if record.get(key) is not None] for key in KEYS}
        result[arm] = {key: curve for key, curve in values.items() if curve}
    return result


def differences(now: dict, recorded: dict) -> dict[str, float]:
    """Returns the largest relative difference of each arm's numbers from the recorded ones."""
    return {arm: max(abs(a - b) / abs(b) for key in recorded[arm]
                     for a, b in zip(now[arm][key], recorded[arm][key], strict=True)) for arm in recorded}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        current = curves(*tiny_data(Path(folder) / "tiny"))
    if "--write" in sys.argv[1:]:
        RECORDED.write_text(json.dumps(current, indent=1) + "\n")
    for name, difference in differences(current, json.loads(RECORDED.read_text())).items():
        print(f"{name:20} largest relative difference {difference:.1e}")
