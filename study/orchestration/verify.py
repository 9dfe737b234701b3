"""`study verify`: retrains a cell from its recorded settings and compares it with the recorded results.

Everything is compared: the outcome in training.json, the learning curve to the last digit, the scores on the fixed
evaluation sets, the probes, the predictions, and the weights. The weights are compared by their hashes in
training.json, so a clone without weights can be verified too. Evaluation and probes use the current settings of the
study.
"""
from __future__ import annotations

import datetime
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from study import StudyError
from study.analysis.results import read_arrays, read_json, read_records, record_hash
from study.config.fingerprint import fingerprint
from study.config.study import Study
from study.files import write_json
from study.orchestration.tolerance import Pair, are_near, largest_gaps

ADDED_KEYS = {"clipped", "largest_gradient_norm", "largest_loss"}       # of records; older versions lack them
MUST_BE_EQUAL = re.compile(r"training\.(status|steps|tokens|rows_seen|parameters|data)|evaluation\.\w+")
# of training.json: depend on the machine, or are compared apart
MACHINE_KEYS = ("seconds", "tokens_per_second", "versions", "hardware", "commit", "weights")
JSON_FILES = ("training.json", "evaluation.json", "probe.json", "inputs.json", "predictions.json")
ARRAY_FILES = ("evaluation.npz", "probe.npz")
FINETUNED = ("finetune.json", "finetune.npz")                   # of the cells of finetune.arms, in addition


def spread_cells(study: Study, count: int) -> list[str]:
    """Names of `count` cells, spread evenly over the arms of the study."""
    names = [f"{arm}-{seed}" for arm, seed in study.cells]
    return [names[i] for i in sorted({round(x) for x in np.linspace(0, len(names) - 1, min(count, len(names)))})]


def check_recorded(study: Study, name: str) -> None:
    """Raises StudyError if a file that `verify` compares is missing, before the cell is retrained."""
    arm, seed = study.parse_cell_name(name)
    finetuned = FINETUNED if arm in study.settings.finetune.arms else ()
    for file in ("settings.yaml", *JSON_FILES, "metrics.jsonl", *ARRAY_FILES, *finetuned):
        path = study.cell(arm, seed) / file
        if not path.exists():
            raise StudyError(f"{path}: no such file yet, so there is nothing to compare with; run `dvc repro` in the "
                             f"study's folder")


def verify(study: Study, name: str, on_record: Callable[[dict, float], None] = lambda record, speed: None) -> dict:
    """Retrains, evaluates and probes one cell in a temporary folder and compares it with its recorded results; it
    fine-tunes it too, if the study does.

    Returns the comparison and writes it to verification.json of the cell. `outcome` is "equal" (every byte of the
    weights and every number), "within tolerance" (same settings, work and test sets; losses and accuracies as near as
    tolerance.py says, as on another kind of processor) or "different".

    Raises StudyError if the cell has no results, or if it was trained on another text than this clone has.
    """
    from study.evaluation.evaluate import evaluate
    from study.evaluation.probe import probe
    from study.finetuning.finetune import finetune
    from study.training.pretrain import hardware, load_data, pretrain, versions

    arm, seed = study.parse_cell_name(name)
    recorded = study.cell(arm, seed)
    check_recorded(study, name)
    training = read_json(recorded / "training.json")
    scratch = _scratch_study(study, arm, recorded)
    try:
        here = fingerprint(recorded / "settings.yaml", seed, load_data(study).train.sha256)
        if here != training["fingerprint"]:
            raise StudyError(f"{recorded / 'training.json'}: {name} was trained with other settings or on another text "
                             f"(fingerprint {training['fingerprint']}, here {here}); run `dvc repro "
                             f"examples` in {study.folder}, or train the cell again")
        retrained = pretrain(scratch, arm, seed, on_record=on_record)
        evaluate(scratch, arm, seed)
        probe(scratch, arm, seed)
        if arm in study.settings.finetune.arms:
            finetune(scratch, arm, seed)
        result = compare_cells(recorded, scratch.cell(arm, seed))
    finally:
        shutil.rmtree(scratch.folder)
    result |= {"record": record_hash(recorded), "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
               "commit": retrained["commit"], "machine": hardware()["processor"],
               "same_machine": hardware() == training["hardware"], "same_versions": versions() == training["versions"]}
    write_json(recorded / "verification.json", result, sort_keys=True)
    return result


def _scratch_study(study: Study, arm: str, recorded: Path) -> Study:
    """The study in a new folder with its text, tokenizer and examples and the recorded settings, without results."""
    folder = (study.state / "verify" / f"{study.settings.name}-{recorded.name}-{os.getpid()}").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    scratch = study.model_copy(update={"folder": folder, "settings": study.settings.model_copy(update={"root": "."})})
    (scratch.runs / "search").mkdir(parents=True)
    parts = ("corpus", "tokenizer", "examples", *(("tasks",) if study.settings.finetune.tasks else ()))
    for part in parts:
        (scratch.runs / part).symlink_to((study.runs / part).resolve())
    shutil.copyfile(recorded / "settings.yaml", scratch.runs / "search" / f"{arm}.yaml")
    return scratch


def compare_cells(recorded: Path, retrained: Path) -> dict:
    """Compares two folders of one cell: the content of verification.json that depends on the results.

    `largest` has the largest differences in loss and accuracy, `parts_at` the first logged step at which the learning
    curves differ. `weights_equal` is None if an earlier version recorded no hashes of the weights.
    """
    old, new = (read_json(folder / "training.json").get("weights") for folder in (recorded, retrained))
    weights_equal = None if old is None else old == new
    curves = [read_records(folder / "metrics.jsonl") for folder in (recorded, retrained)]
    curves[1] = _with_recorded_keys(*curves)
    pairs = [*_pairs(*curves, "curve"), *_file_pairs(recorded, retrained)]
    differing = [pair.key for pair in pairs if pair.old != pair.new]
    largest = largest_gaps(pairs, f"curve.{len(curves[0]) - 1}.")
    near = (not any(MUST_BE_EQUAL.fullmatch(key) for key in differing) and len(curves[0]) == len(curves[1])
            and are_near(pairs, largest))
    outcome = "equal" if weights_equal is not False and not differing else "within tolerance" if near else "different"
    return {"outcome": outcome, "weights_equal": weights_equal, "numbers": len(pairs), "differing": len(differing),
            "first_differing": differing[0] if differing else None, "largest": largest,
            "parts_at": first_differing_step(*curves)}


def _with_recorded_keys(old: list[dict], new: list[dict]) -> list[dict]:
    """The new records without the keys of ADDED_KEYS that an older version did not record yet."""
    missing = ADDED_KEYS - {key for record in old for key in record}
    return [{key: value for key, value in record.items() if key not in missing} for record in new]


def _file_pairs(recorded: Path, retrained: Path) -> Iterator[Pair]:
    """The values in the result files of two folders, without those that depend on the machine."""
    finetuned = [name for name in FINETUNED if (recorded / name).exists() or (retrained / name).exists()]
    for file in (*JSON_FILES, *finetuned[:1]):
        old, new = ({"content": content} if isinstance(content, list) else content
                    for content in (read_json(recorded / file), read_json(retrained / file)))
        for pair in _pairs(old, new, file.removesuffix(".json")):
            if pair.key.partition(".")[2].partition(".")[0] not in MACHINE_KEYS:
                yield pair
    for file in (*ARRAY_FILES, *finetuned[1:]):
        old, new = read_arrays(recorded / file), read_arrays(retrained / file)
        for key in sorted(old.keys() | new.keys()):
            yield Pair(f"{file}/{key}", _equal_arrays(old.get(key), new.get(key)), True)


def _equal_arrays(old: np.ndarray | None, new: np.ndarray | None) -> bool:
    return old is not None and new is not None and np.array_equal(old, new, equal_nan=old.dtype.kind == "f")


def _pairs(old: Any, new: Any, prefix: str) -> Iterator[Pair]:
    """Every leaf of two JSON contents. A key that only one of them has is paired with None."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _pairs(old.get(key), new.get(key), f"{prefix}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _pairs(before, after, f"{prefix}.{number}")
    else:
        yield Pair(prefix, old, new)


def first_differing_step(old: list[dict], new: list[dict]) -> int | None:
    """The first logged step at which two learning curves differ; None if they are equal."""
    for before, after in zip(old, new, strict=False):
        if before != after:
            return min(before["step"], after["step"])
    longer = max(old, new, key=len)
    return None if len(old) == len(new) else longer[min(len(old), len(new))]["step"]
