"""Loss curves of ten steps, kept beside this file: what a change of the code moves, and by how much.

    python -m tests.support.golden             the largest difference of each curve from the one that is kept
    python -m tests.support.golden --write     keep the curves as they are now
"""
from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from study.config.load import Study, resolve
from study.training.pretrain import load_data
from study.training.trainer import Data, Trainer
from tests.support.studies import tiny_study

KEPT = Path(__file__).parent / "golden.json"
ARMS = ("dynamic", "pre-ln", "no-embedding-norm", "mlm-nsp")
STEPS = 10


def tiny_data(folder: Path) -> tuple[Study, Data]:
    """The tiny study with its data made under `folder`."""
    study = tiny_study(folder)
    return study, load_data(study)


def curves(study: Study, data: Data) -> dict[str, dict[str, list[float]]]:
    """Training loss and gradient norm of each step, and the last validation NLL, of each arm."""
    result = {}
    for arm in ARMS:
        config = resolve(study, arm)
        training = config.training.model_copy(update={"steps": STEPS, "logging_steps": 1, "eval_steps": STEPS})
        records = Trainer(config.model_copy(update={"training": training}), data, 0).train().records
        result[arm] = {key: [r[key] for r in records if r.get(key) is not None]
                       for key in ("loss", "gradient_norm", "validation_nll")}
    return result


def differences(found: dict, kept: dict) -> dict[str, float]:
    """Largest relative difference of each arm's numbers from the kept ones."""
    return {arm: max(abs(a - b) / abs(b) for key in kept[arm] for a, b in zip(found[arm][key], kept[arm][key],
                                                                              strict=True))
            for arm in kept}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        now = curves(*tiny_data(Path(place) / "tiny"))
    if "--write" in sys.argv[1:]:
        KEPT.write_text(json.dumps(now, indent=1) + "\n")
    for name, difference in differences(now, json.loads(KEPT.read_text())).items():
        print(f"{name:20} largest relative difference {difference:.1e}")
