"""made_with.yaml: the settings that the output of a stage was made with, in the folder of that output. The scores of a
cell have such a file each: evaluated_with.yaml and finetuned_with.yaml.

DVC compares settings before it runs a stage. A stage that is run by hand reads what is there, so it compares them
itself: after an edit of the settings, it refuses what earlier settings gave. The settings of a trained cell are in its
settings.yaml.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from study import StudyError
from study.config.arms import arm_identity, resolve_with
from study.config.fingerprint import first_difference, read_settings
from study.config.schema import RunConfig
from study.config.study import Study
from study.config.versions import VERSION, upgraded
from study.config.yaml_files import read_yaml

MADE_WITH = "made_with.yaml"                # in the folder of a stage's output
EVALUATED_WITH = "evaluated_with.yaml"      # in the folder of a cell, for its scores
FINETUNED_WITH = "finetuned_with.yaml"      # the same for finetune.json
# Sections of params.yaml that a stage depends on, as in dvc.yaml, apart from the name of the study.
SECTIONS = {
    "corpus": ("corpus", "probe.tasks"), "tokenizer": ("tokenizer",), "examples": ("corpus", "examples", "probe"),
    "search": ("arms", "baseline", "search", "tokenizer", "examples", "inputs", "masking", "objective", "model",
               "training"),
    "evaluate": ("evaluation", "probe"), "tasks": ("corpus", "finetune.tasks"),
    "finetune": ("finetune.recipe", "finetune.variants", "baseline"),
    "compare": ("arms", "seeds", "baseline", "evaluation", "probe", "finetune"),
}
# Stages whose folders a stage reads.
READS = {
    "corpus": (), "tokenizer": ("corpus",), "examples": ("corpus", "tokenizer"), "search": ("tokenizer", "examples"),
    "pretrain": ("tokenizer", "examples", "search"), "evaluate": ("corpus", "tokenizer", "examples"),
    "tasks": (), "finetune": ("tokenizer", "tasks"), "compare": ("corpus", "tokenizer", "examples", "search"),
}


def write_made_with(study: Study, stage: str, path: Path, task: str | None = None) -> None:
    """Writes the settings that decide the output of a stage to `path`. task: the one of finetune.tasks that the output
    is of; None for all."""
    content = {"version": VERSION} | _deciding_settings(study, stage, task)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def check_inputs(study: Study, stage: str, committed: bool = False) -> None:
    """Raises StudyError if a folder that a stage reads was made with other settings than the study has now.

    Folders that do not exist are left to the stage. committed: results of earlier versions, which did not record their
    settings, are accepted.
    """
    for earlier in READS[stage]:
        for folder, task, command in _outputs(study, earlier):
            if not folder.exists() or (committed and not (folder / MADE_WITH).exists()):
                continue
            check_record_exists(folder / MADE_WITH, "made this folder", command)
            check_made_with(study, earlier, folder / MADE_WITH, command, task)


def _outputs(study: Study, stage: str) -> Iterator[tuple[Path, str | None, str]]:
    """The folders that a stage writes, each with its task and the command that makes it."""
    if stage != "tasks":
        yield study.runs / stage, None, f"study {stage}"
        return
    for task in study.settings.finetune.tasks:
        yield study.runs / stage / task.name, task.name, f"study {stage} --task {task.name}"


def check_record_exists(path: Path, done: str, remedy: str) -> None:
    """Raises StudyError if an output has no record of its settings. done: what the earlier version did. remedy: the
    command that brings the output up to date."""
    if not path.exists():
        raise StudyError(f"{path}: no such file, so an earlier version {done}; run `{remedy}` (or `dvc repro`) first")


def check_made_with(study: Study, stage: str, path: Path, remedy: str = "", task: str | None = None) -> None:
    """Raises StudyError if the settings in `path` are not those that the study has now.

    remedy: the command that brings the output up to date; by default, the stage. task: as in write_made_with.
    """
    difference = made_with_difference(study, stage, path, task)
    if difference is not None:
        key, old, new = difference
        raise StudyError(f"{path}: made with {key} {old!r:.60}, but the study's settings now give {new!r:.60}; run "
                         f"`{remedy or f'study {stage}'}` (or `dvc repro`) first")


def made_with_difference(study: Study, stage: str, path: Path,
                         task: str | None = None) -> tuple[str, Any, Any] | None:
    """Returns the first setting in `path` that differs from the study's, as (key, recorded, now); None if all agree.

    task: as in write_made_with.
    """
    return first_difference(upgraded(read_yaml(path), str(path)), _deciding_settings(study, stage, task))


def check_arm(study: Study, arm: str, path: Path, stage: str) -> None:
    """Raises StudyError if the settings of an arm in `path` are not those that the study gives it now.

    path: the file of the stage `search`, or the settings.yaml of a cell. stage: the command that writes it.
    """
    difference = arm_difference(study, arm, read_settings(path), tuned_values(study))
    if difference is not None:
        key, old, new = difference
        raise StudyError(f"{path}: has {key} {old}, but the study's settings now give {new}; run `{stage}` (or `dvc "
                         f"repro`) first")


def arm_difference(study: Study, arm: str, recorded: RunConfig, tuned: dict) -> tuple[str, Any, Any] | None:
    """Returns the first setting of an arm that differs from the study's, as (key, recorded, now); None if all agree.

    tuned: the content of best.yaml.
    """
    now = resolve_with(study, arm, tuned)
    return first_difference(recorded.model_dump(mode="json"), now.model_dump(mode="json"))


def tuned_values(study: Study) -> dict[str, dict[str, Any]]:
    """Returns the content of the search's best.yaml: arm -> dotted key -> value; {} if the search has not run."""
    path = study.runs / "search" / "best.yaml"
    return read_yaml(path) if path.exists() else {}


def _deciding_settings(study: Study, stage: str, task: str | None = None) -> dict[str, Any]:
    """The sections that a stage and the stages before it depend on, without settings at a default that was added
    later; and, if the search is among them, what determines each arm. task: as in write_made_with."""
    settings = study.settings.model_dump(mode="json", exclude_defaults=True)
    stages = _with_earlier(stage)
    names = {name for earlier in stages for name in SECTIONS.get(earlier, ())}
    content = {name: settings[name] for name in settings if name in names}
    if "probe.tasks" in names and "probe" not in names:
        content["probe"] = {"tasks": settings["probe"]["tasks"]}
    if "finetune.tasks" in names:
        parts = {key: value for key, value in settings["finetune"].items() if f"finetune.{key}" in names}
        tasks = {entry["name"]: entry for entry in parts["tasks"] if task in (None, entry["name"])}
        content["finetune"] = parts | {"tasks": tasks}
    if "search" in stages:
        content["recipes"] = {arm: arm_identity(study, arm) for arm in study.settings.arms}
    return content


def _with_earlier(stage: str) -> set[str]:
    """A stage and all stages whose output it needs, directly or not."""
    return {stage}.union(*(_with_earlier(earlier) for earlier in READS[stage]))
