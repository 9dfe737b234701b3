"""DVC as a subprocess: what is out of date in a study, and bringing stages up to date."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from study import StudyError
from study.config.arms import resolve_with
from study.config.fingerprint import read_settings
from study.config.study import Study
from study.config.yaml_files import read_yaml

DVC = (sys.executable, "-m", "study.orchestration.dvc_lock", "--wait-for-lock")
STUDY = (sys.executable, "-m", "study")
CELL_STAGES = ("pretrain", "evaluate")      # of every cell
FINETUNE = "finetune"                       # of the cells of finetune.arms, in addition
TASK_ROWS = "tasks"                         # what it reads apart from the cell, one per task


def environment() -> dict[str, str]:
    """Environment variables for DVC: its stages find the `study` command of this Python first, and compiled imports
    are kept for the next process."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
                         "PYTHONDONTWRITEBYTECODE": ""}


def cell_stages(study: Study, cell: str) -> list[str]:
    """The stages of a cell in order, as DVC names them."""
    arm, _ = study.parse_cell_name(cell)
    stages = (*CELL_STAGES, FINETUNE) if arm in study.settings.finetune.arms else CELL_STAGES
    return [f"{stage}@{cell}" for stage in stages]


def make_inputs(study: Study) -> None:
    """Brings what cells are trained and fine-tuned on up to date. Raises StudyError if DVC fails."""
    run_dvc(study, "repro", "search", *_task_rows(study))


def _task_rows(study: Study) -> tuple[str, ...]:
    return (TASK_ROWS,) if study.settings.finetune.tasks else ()


def run_dvc(study: Study, *arguments: str) -> None:
    """Runs DVC in the study's folder, with its output on the terminal. Raises StudyError if it fails."""
    # Files stay open, so that the lock of `study run` is held until DVC has ended.
    status = subprocess.run([*DVC, *arguments], cwd=study.folder, check=False, env=environment(),
                            close_fds=False).returncode
    if status:
        command = " ".join(argument for argument in arguments if argument != "--quiet")
        raise StudyError(f"`dvc {command}` failed; DVC's message is above. If there is none, another command may be "
                         "using the same files: run `dvc` yourself to see")


def stale_stages(study: Study, *targets: str) -> list[str]:
    """Names of the stages that DVC would run, of all or of those in `targets`. Raises StudyError if DVC fails."""
    result = subprocess.run([*DVC, "status", "--json", *targets], cwd=study.folder, capture_output=True, text=True,
                            check=False, env=environment())
    if result.returncode:
        raise StudyError(f"dvc status failed: {' '.join(result.stderr.split())[-300:]}")
    return list(json.loads(result.stdout or "{}"))


def stale_cells(study: Study) -> list[str]:
    """Names of the cells that have a stage to run, in the order of the study. Raises StudyError if DVC fails."""
    run_dvc(study, "repro", "--quiet", "--single-item", "code")
    stages = stale_stages(study)
    stale = {cell for stage, _, cell in (name.partition("@") for name in stages) if stage in (*CELL_STAGES, FINETUNE)}
    # DVC lists a stage whose inputs changed, but not the stages that follow it.
    data_changes = not {"corpus", "tokenizer", "examples"}.isdisjoint(stages)
    tasks_change = any(name.startswith(f"{TASK_ROWS}@") for name in stages)
    return [name for arm, seed in study.cells if (name := f"{arm}-{seed}") in stale or data_changes
            or tasks_change and arm in study.settings.finetune.arms
            or "search" in stages and not _trained_with_current_settings(study, arm, seed)]


def _trained_with_current_settings(study: Study, arm: str, seed: int) -> bool:
    """Whether a cell's settings are up to date, provided that a new search gives the same tuned values."""
    best, path = study.runs / "search" / "best.yaml", study.cell(arm, seed) / "settings.yaml"
    tuned = read_yaml(best) if best.exists() else {}
    return path.exists() and read_settings(path) == resolve_with(study, arm, tuned)


def make_examples(study: Study) -> None:
    """Brings a study's text, tokenizer, examples and rows of fine-tuning tasks up to date. Raises StudyError if DVC
    fails."""
    run_dvc(study, "repro", "--quiet", "examples", *_task_rows(study))


def trials_command(search: str) -> tuple[str, ...]:
    """The arguments of `study`, without the folder, that run the search named `search-<arm>`."""
    return "trials", "--arm", search.removeprefix("search-")
