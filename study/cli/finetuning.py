"""The stages of fine-tuning, and fine-tuning by hand."""
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer import echo

from study.cli.options import study_command
from study.cli.stages import check_cell

if TYPE_CHECKING:
    from study.config.study import Study

commands = typer.Typer()
stage = study_command(commands, "Stages of the pipeline")


@stage
def task_rows(study: Study, task: Annotated[str, typer.Option(help="Task, as named in finetune.tasks.")]):
    """Prepare the rows of a fine-tuning task.

    Writes: runs/STUDY/tasks/TASK.

    Example: study task-rows experiments/tiny --task topic
    """
    from study.data.task_rows import task_folder, task_named, write_task_rows
    from study.files import atomic_folder

    with atomic_folder(task_folder(study, task_named(study, task))) as folder:
        counts = write_task_rows(study, task, folder)
    echo(f"task-rows {task}: " + ", ".join(f"{count:,} {split} rows" for split, count in counts.items()))


@stage
def finetune(study: Study, cell: Annotated[str, typer.Argument(metavar="CELL", help="Cell, such as dynamic-0.")]):
    """Fine-tune a cell on the tasks of the study.

    Writes: finetune.json and finetune.npz to runs/STUDY/CELL.

    Example: study finetune dynamic-0 --study experiments/tiny
    """
    _finetune_stage(study, cell)


def _finetune_stage(study: Study, cell: str) -> None:
    from study import StudyError
    from study.finetuning.finetune import finetune as finetune_cell

    arm, seed = study.parse_cell_name(cell)
    if arm not in study.settings.finetune.arms:
        raise StudyError(f"{study.params_path}: {arm} is not among finetune.arms; add it")
    check_cell(study, arm, seed, "finetune")
    for task, scores in finetune_cell(study, arm, seed)["tasks"].items():
        for size in map(str, study.settings.finetune.recipe.train_sizes):
            untrained = scores.get("untrained", {}).get(size)
            beside = f" (untrained {untrained['accuracy']:.1%})" if untrained else ""
            echo(f"finetune {cell}: {task}, {size} rows: {scores['trained'][size]['accuracy']:.1%}{beside}")
