"""Does a published number come out again? Cells trained anew from their recorded settings and compared with the record.

Everything that a cell says is compared: what training.json records of the run, the learning curve to the last digit,
the scores on the fixed evaluation sets, the probes, the predictions, and the weights by the hash that dvc.lock holds,
so that a clone without weights can do it too. (Evaluated and probed it is with the study's settings of today.)
"""
from __future__ import annotations

import datetime
import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from study import StudyError
from study.analysis.results import read_arrays, read_json, read_records
from study.config.load import Study, fingerprint, read_yaml
from study.files import write_json
from study.orchestration.runner import stages_file

NLL, ACCURACY = 0.05, 0.02                  # within these (nats, share of rows) a result of other hardware is the same
ACCURACIES = re.compile(r"probe\.[^.]+\.(cls|mean)\.accuracy|evaluation\.(nsp|sop)\.accuracy")
SAME_COURSE = re.compile(r"training\.(status|steps|tokens|rows_seen|parameters|data)|evaluation\.\w+")
OF_THE_MACHINE = ("seconds", "tokens_per_second", "versions", "hardware", "commit")     # keys of training.json
WEIGHTS = ("encoder.safetensors", "heads.safetensors")
FILE = "verification.json"


def chosen(study: Study, count: int) -> list[str]:
    """Names of `count` cells, spread evenly over the study's arms."""
    names = [f"{arm}-{seed}" for arm, seed in study.cells]
    return [names[i] for i in sorted({round(x) for x in np.linspace(0, len(names) - 1, min(count, len(names)))})]


def verify(study: Study, name: str, on_record: Callable[[dict, float], None] = lambda record, speed: None) -> dict:
    """Trains, evaluates and probes one cell anew in a folder of its own and compares. Writes what came out beside the
    cell, as verification.json, and returns it.

    `outcome` is equal (every byte of weights and every number), within tolerance (the same course and test sets, losses
    and scores alike to NLL nats and ACCURACY, as on another processor) or different; `parts_at` the first logged step
    at which the curves part. Raises StudyError when the cell has no results, or the text in this clone is not the one
    that it was trained on.
    """
    from study.evaluation.evaluate import evaluate
    from study.evaluation.probe import probe
    from study.training.pretrain import cell_settings, hardware, load_data, pretrain, versions

    arm, seed = study.named(name)
    recorded = study.cell(arm, seed)
    said, weights = read_json(recorded / "training.json"), recorded_weights(study, name)
    scratch = _scratch(study, arm, recorded)
    try:
        mark = fingerprint(cell_settings(scratch, arm), seed, load_data(study).train.sha256)
        if mark != said["fingerprint"]:
            raise StudyError(f"{recorded / 'training.json'}: {name} was trained on other text or with other settings "
                             f"than lie beside it (fingerprint {said['fingerprint']}, here {mark}); run `dvc repro "
                             f"{stages_file(study)}:examples`, or train it again")
        done = pretrain(scratch, arm, seed, on_record=on_record)
        evaluate(scratch, arm, seed)
        probe(scratch, arm, seed)
        found = compared(recorded, scratch.cell(arm, seed), weights)
    finally:
        shutil.rmtree(scratch.folder)
    found |= {"record": record_hash(recorded), "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
              "commit": done["commit"], "machine": hardware()["processor"],
              "same_machine": hardware() == said["hardware"], "same_versions": versions() == said["versions"]}
    write_json(recorded / FILE, found, sort_keys=True)
    return found


def record_hash(folder: Path) -> str:
    """Names what a cell's record says: another training of it has another one."""
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in (
        "settings.yaml", "metrics.jsonl", "evaluation.json", "probe.json"))).hexdigest()[:16]


def _scratch(study: Study, arm: str, recorded: Path) -> Study:
    """The study in a new folder: its text, tokenizer and examples, the cell's recorded settings, and no results."""
    folder = (study.root / ".state" / "verify" / f"{study.settings.name}-{recorded.name}-{os.getpid()}").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    scratch = study.model_copy(update={"folder": folder, "settings": study.settings.model_copy(update={"root": "."})})
    (scratch.runs / "search").mkdir(parents=True)
    for part in ("corpus", "tokenizer", "examples"):
        (scratch.runs / part).symlink_to((study.runs / part).resolve())
    shutil.copyfile(recorded / "settings.yaml", scratch.runs / "search" / f"{arm}.yaml")
    return scratch


def recorded_weights(study: Study, name: str) -> dict[str, str]:
    """MD5 of a cell's files of weights as dvc.lock has them. Raises StudyError when it has none."""
    path = study.folder / "dvc.lock"
    stage = (read_yaml(path)["stages"] if path.exists() else {}).get(f"pretrain@{name}")
    if stage is None:
        raise StudyError(f"{path}: nothing is recorded of pretrain@{name}; run `dvc repro` in {study.folder}")
    return {file: out["md5"] for out in stage["outs"] if (file := Path(out["path"]).name) in WEIGHTS}


def compared(recorded: Path, anew: Path, weights: dict[str, str]) -> dict:
    """What two folders of one cell have in common: outcome, whether the weights are the same bytes, how many numbers
    were compared and how many of them differ, the largest differences, and the first step that is not the same."""
    same = {name: hashlib.md5((anew / name).read_bytes()).hexdigest() == weights.get(name) for name in WEIGHTS}
    curves = [read_records(folder / "metrics.jsonl") for folder in (recorded, anew)]
    pairs = list(_paired(curves[0], curves[1]))
    for file in ("training.json", "evaluation.json", "probe.json", "inputs.json", "predictions.json"):
        old, new = ({"content": content} if isinstance(content, list) else content
                    for content in (read_json(recorded / file), read_json(anew / file)))
        pairs += [pair for pair in _paired(old, new, file.removesuffix(".json"))
                  if pair[0].partition(".")[2].partition(".")[0] not in OF_THE_MACHINE]
    for file in ("evaluation.npz", "probe.npz"):
        old, new = read_arrays(recorded / file), read_arrays(anew / file)
        pairs += [(f"{file}/{key}", old.get(key) is not None and new.get(key) is not None
                   and np.array_equal(old[key], new[key], equal_nan=old[key].dtype.kind == "f"), True)
                  for key in sorted(old.keys() | new.keys())]
    differ = [key for key, a, b in pairs if a != b]
    last = f"curve.{len(curves[0]) - 1}."
    losses = [key for key, *_ in pairs if re.fullmatch(r"evaluation\.\w+\.nll", key)]
    losses += [last + "loss", last + "validation_nll", last + "pair_loss"]
    scores = [key for key, *_ in pairs if ACCURACIES.fullmatch(key)]
    gaps = {"nll": _gap(pairs, losses), "accuracy": _gap(pairs, scores)}
    equal = all(same.values()) and not differ
    near = (not any(SAME_COURSE.fullmatch(key) for key in differ) and len(curves[0]) == len(curves[1])
            and all(gap is not None and gap <= bound for gap, bound in ((gaps["nll"], NLL),
                                                                        (gaps["accuracy"], ACCURACY))))
    return {"outcome": "equal" if equal else "within tolerance" if near else "different",
            "weights_equal": all(same.values()), "numbers": len(pairs), "differing": len(differ),
            "first_differing": differ[0] if differ else None, "largest": gaps, "parts_at": parts_at(*curves)}


def parts_at(old: list[dict], new: list[dict]) -> int | None:
    """The first logged step at which two learning curves are not the same; None when they are."""
    for before, after in zip(old, new, strict=False):
        if before != after:
            return min(before["step"], after["step"])
    longer = max(old, new, key=len)
    return None if len(old) == len(new) else longer[min(len(old), len(new))]["step"]


def _paired(old, new, prefix: str = "curve"):
    """Every leaf of two JSON contents as (dotted key, old, new); a key that one of them lacks stands with None."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _paired(old.get(key), new.get(key), f"{prefix}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _paired(before, after, f"{prefix}.{number}")
    else:
        yield prefix, old, new


def _gap(pairs: list[tuple], keys: list[str]) -> float | None:
    """The largest difference of these numbers; None where one side alone has one."""
    gaps = [0.0 if old == new else abs(old - new) if _number(old) and _number(new) else math.inf
            for key, old, new in pairs if key in keys]
    largest = max(gaps, default=0.0)
    return largest if math.isfinite(largest) else None


def _number(value) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
