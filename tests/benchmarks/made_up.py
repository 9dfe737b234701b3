"""A study with many made-up cells: results like those of training runs, and the entries of dvc.lock that go with them.

A made-up cell is a copy of a trained one with scaled losses. So a study of 1,000 cells is there in seconds, and its
costs besides training can be measured.
"""
from __future__ import annotations

import hashlib
import json
import math
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import yaml

from study.config.study import Study
from study.orchestration.dvc_lock import parse_lock, write_lock

SPREAD = 0.02                               # standard deviation of the factors by which losses are scaled


def made_up_arms(count: int) -> list[str]:
    return [f"made-up-{number}" for number in range(count)]


def declare(arms: list[str], path: Path) -> None:
    """Adds made-up arms to an arms.yaml. They differ from the baseline in the learning rate."""
    blocks = {}
    for number, arm in enumerate(arms):
        times = 1 + (number + 1) / 1000
        blocks[arm] = {"description": f"Learning rate times {times:.3f}.", "factor": "learning rate",
                       "baseline": "dynamic", "source": "this study", "source_reports": "Nothing.",
                       "changes": {"training": {"learning_rate": {"times": times}}}}
    path.write_text(path.read_text() + yaml.safe_dump(blocks, sort_keys=False))


def make_cells(study: Study) -> None:
    """Writes the cells of all arms but the first, whose cells are trained. The settings that `study search` writes must
    be there."""
    trained, *others = study.settings.arms
    seeds = study.settings.seeds
    for number, arm in enumerate(others):
        for index, seed in enumerate(seeds):
            source = study.cell(trained, seeds[(index + number + 1) % len(seeds)])
            if not study.cell(arm, seed).exists():
                _make_cell(study, arm, seed, source)


def _make_cell(study: Study, arm: str, seed: int, source: Path) -> None:
    folder, factor = study.cell(arm, seed), 1 + SPREAD * np.random.default_rng([len(arm), *arm.encode(), seed]).normal()
    shutil.copytree(source, folder)
    shutil.copy(study.runs / "search" / f"{arm}.yaml", folder / "settings.yaml")
    training = json.loads((folder / "training.json").read_text())
    _write_json(folder / "training.json", training | {"arm": arm, "seed": seed})
    _write_json(folder / "evaluation.json", _scaled(json.loads((folder / "evaluation.json").read_text()), factor))
    records = [_scaled(json.loads(line), factor) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    with np.load(folder / "evaluation.npz") as file:
        arrays = {name: file[name] * factor if name.endswith("nll") else file[name] for name in file.files}
    np.savez_compressed(folder / "evaluation.npz", **arrays)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def _scaled(content, factor: float):
    """The content of a result file with its losses multiplied by a factor."""
    if isinstance(content, list):
        return [_scaled(part, factor) for part in content]
    if not isinstance(content, dict):
        return content
    scaled = {key: value * factor if key in ("loss", "nll", "validation_nll") and value is not None
              else _scaled(value, factor) for key, value in content.items()}
    if "perplexity" in scaled and scaled.get("nll") is not None:
        scaled["perplexity"] = math.exp(scaled["nll"])
    return scaled


def lock_cells(study: Study) -> None:
    """Adds the stages of the made-up cells to dvc.lock, as DVC would. Those of the trained cells must be there.

    DVC itself writes the whole lock after each stage.
    """
    path = study.folder / "dvc.lock"
    content, (trained, *others), seeds = parse_lock(path.read_bytes()), study.settings.arms, study.settings.seeds
    for stage in ("pretrain", "evaluate"):
        for arm in others:
            for seed in seeds:
                entry = deepcopy(content["stages"][f"{stage}@{trained}-{seed}"])
                entry["cmd"] = f"study {stage} --arm {arm} --seed {seed}"
                for file in entry["deps"] + entry["outs"]:
                    _point_to(file, study, {f"/{trained}-{seed}/": f"/{arm}-{seed}/",
                                            f"/search/{trained}.yaml": f"/search/{arm}.yaml"})
                content["stages"][f"{stage}@{arm}-{seed}"] = entry
    write_lock(path, content)


def _point_to(file: dict, study: Study, names: dict[str, str]) -> None:
    """Renames a dependency or output of dvc.lock and updates its size and hash."""
    for old, new in names.items():
        if old in file["path"]:
            file["path"] = file["path"].replace(old, new)
            data = (study.folder / file["path"]).read_bytes()
            file |= {"size": len(data), "md5": hashlib.md5(data).hexdigest()}
