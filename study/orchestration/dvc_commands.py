"""DVC as a subprocess: what is out of date in a study, and bringing stages up to date."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from study import StudyError
from study.config.arms import resolve_with
from study.config.fingerprint import read_settings
from study.config.study import Study
from study.config.yaml_files import read_yaml
from study.orchestration.code_identity import current_code_identity

DVC = (sys.executable, "-m", "study.orchestration.dvc_lock", "--wait-for-lock")
STUDY = (sys.executable, "-m", "study")
PRETRAIN = "pretrain"                       # the stage that trains a cell
CELL_STAGES = (PRETRAIN, "evaluate")        # of every cell
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


def check_repository(study: Study) -> None:
    """Raises StudyError if DVC would refuse every command because the study is not in a Git repository."""
    folder = study.folder.resolve()
    if any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return
    setting = subprocess.run([sys.executable, "-m", "dvc", "config", "core.no_scm"], cwd=folder, capture_output=True,
                             text=True, check=False, env=environment()).stdout.strip()
    if setting.lower() != "true":
        raise StudyError(f"{folder}: DVC needs a Git repository, and this folder is not in one; run `dvc config "
                         f"--local core.no_scm true` there, or `git init` in the root of the project")


def run_dvc(study: Study, *arguments: str) -> None:
    """Runs DVC in the study's folder, with its output on the terminal. Raises StudyError if it fails."""
    check_repository(study)
    # Files stay open, so that the lock of `study run` is held until DVC has ended.
    status = subprocess.run([*DVC, *arguments], cwd=study.folder, check=False, env=environment(),
                            close_fds=False).returncode
    if status:
        command = " ".join(argument for argument in arguments if argument != "--quiet")
        raise StudyError(f"`dvc {command}` failed; DVC's message is above. If there is none, another command may be "
                         "using the same files: run `dvc` yourself to see")


def stale_stages(study: Study, *targets: str) -> dict[str, list]:
    """The stages that DVC would run, of all or of those in `targets`, each with what DVC says has changed.

    Raises StudyError if DVC fails.
    """
    check_repository(study)
    result = subprocess.run([*DVC, "status", "--json", *targets], cwd=study.folder, capture_output=True, text=True,
                            check=False, env=environment())
    if result.returncode:
        raise StudyError(f"dvc status failed: {' '.join(result.stderr.split())[-300:]}")
    return json.loads(result.stdout or "{}")


@dataclass
class StaleCells:
    """The cells that have a stage to run, in the order of the study.

    names: all of them. missing: those among them whose results are here and up to date, and that would be run only
    because their weights are neither here nor in DVC's cache, as in a clone of a published study. trained: those among
    them that will be trained; the others are only scored or fine-tuned again.
    """
    names: list[str]
    missing: list[str]
    trained: list[str]

    def to_run(self, allow_missing: bool) -> list[str]:
        """The cells to run if those that only lack weights are left as they are, or all."""
        return [name for name in self.names if not allow_missing or name not in self.missing]


def stale_cells(study: Study) -> StaleCells:
    """The cells that have a stage to run. The stage `code` must be up to date. Raises StudyError if DVC fails."""
    stages = stale_stages(study)
    names = _run_by(study, list(stages))
    changed = set(_run_by(study, changed_stages(stages)))
    return StaleCells(names, [name for name in names if name not in changed], _trained_by(study, list(stages)))


def planned_cells(study: Study) -> StaleCells:
    """The cells that have a stage to run. Changes nothing: no file of the study, and nothing that Git tracks.

    Raises StudyError if DVC fails.
    """
    with current_code_identity(study):
        return stale_cells(study)


def missing_hint(stale: StaleCells) -> str:
    """Says how many of the stale cells need not be run."""
    return (f"{len(stale.missing)} of the {len(stale.names)} stale cells have their results here and lack only their "
            f"weights; --allow-missing leaves these cells as they are")


def changed_stages(stages: dict[str, list]) -> list[str]:
    """Names of the stale stages that do not merely lack files which Git does not hold: these stay stale with
    `--allow-missing`.

    DVC calls an output "not in cache" if its hash is recorded but its content is lost, and the same file "deleted"
    where another stage reads it.
    """
    missing = {"changed outs": "not in cache", "changed deps": "deleted"}
    return [name for name, changes in stages.items()
            if not all(isinstance(change, dict) and all(state == missing.get(kind) for kind, files in change.items()
                                                        for state in files.values()) for change in changes)]


def _run_by(study: Study, stages: list[str]) -> list[str]:
    """Names of the cells that have to be run again if these stages are stale."""
    stale = _cells_with(stages, *CELL_STAGES, FINETUNE) | set(_trained_by(study, stages))
    tasks_change = any(name.startswith(f"{TASK_ROWS}@") for name in stages)
    return [name for arm, seed in study.cells if (name := f"{arm}-{seed}") in stale
            or tasks_change and arm in study.settings.finetune.arms]


def _trained_by(study: Study, stages: list[str]) -> list[str]:
    """Names of the cells that have to be trained again if these stages are stale."""
    stale = _cells_with(stages, PRETRAIN)
    # DVC lists a stage whose inputs changed, but not the stages that follow it.
    data_changes = not {"corpus", "tokenizer", "examples"}.isdisjoint(stages)
    return [name for arm, seed in study.cells if (name := f"{arm}-{seed}") in stale or data_changes
            or "search" in stages and not _trained_with_current_settings(study, arm, seed)]


def _cells_with(stages: list[str], *names: str) -> set[str]:
    """Names of the cells that have one of their stages `names` among `stages`."""
    return {cell for stage, _, cell in (name.partition("@") for name in stages) if stage in names}


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
