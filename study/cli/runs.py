"""Commands that run, plan and check whole studies."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import echo

from study import StudyError
from study.cli.options import Arm, StudyFirst, study_command

if TYPE_CHECKING:
    from study.config.study import Study

commands = typer.Typer()
command = study_command(commands, "Running a study")
AllowMissing = Annotated[bool, typer.Option(
    "--allow-missing", help="Leave cells as they are whose results are here and whose weights are not.")]


@command
def run(study: Study,
        jobs: Annotated[int | None, typer.Option(
            min=1, help="Cells that train at the same time.", show_default="number of processors + 1")] = None,
        ray: Annotated[str | None, typer.Option(
            metavar="ADDRESS", help="Train on the Ray cluster at this address, or `auto`.")] = None,
        gpus: Annotated[float, typer.Option(min=0, help="Share of a GPU that each cell uses on the cluster.")] = 0,
        allow_missing: AllowMissing = False):
    """Run every stage that is out of date, with several cells in parallel. `dvc repro` then has nothing to do.

    A clone of a published study has the results of its cells, but not their weights. --allow-missing leaves these cells
    as they are: only new and changed cells are trained.

    Writes: everything that the stages write.

    Example: study run experiments/wikitext2 --jobs 2
    """
    from study.cli.console import CellsTable
    from study.orchestration.runner import LocalWorkers, default_jobs, run_study
    from study.report.formatting import plural

    if gpus and ray is None:
        raise StudyError("--gpus is the share of a GPU on a Ray cluster; pass --ray as well")
    if ray is None:
        jobs = jobs or default_jobs()
        workers = LocalWorkers(study, jobs)
    else:
        from study.orchestration.ray_cluster import Cluster

        jobs = jobs or len(study.cells)
        workers = Cluster(study, ray, gpus)
    with CellsTable(jobs) as table:
        trained = run_study(study, workers, jobs, table.update, allow_missing)
    echo(f"run: {plural(len(trained), 'cell')} {'was' if len(trained) == 1 else 'were'} stale")


@command
def download(study: Study):
    """Fetch the study's text and the rows of its tasks from the Hugging Face hub into their local folders.

    Splits that are there are kept.

    Writes: SPLIT.parquet to the folders that `local` names in params.yaml, below data/ or STUDY_DATA.

    Example: study download experiments/wikitext2
    """
    from study.cli.console import progress
    from study.data.download import download as fetch

    for path in fetch(study, progress):
        echo(f"download: {path}")


@command
def plan(study: Study,
         measure: Annotated[bool, typer.Option(help="Time a few training steps of each kind of cell.")] = True,
         jobs: Annotated[int | None, typer.Option(
             min=1, help="Cells that train at the same time, limited by the processors that their threads need.",
             show_default="as many as possible")] = None,
         words: Annotated[float | None, typer.Option(
             min=1, help="Length of the training text, such as 3.3e9. It gives the epochs before the text is read.",
             show_default="none")] = None,
         allow_missing: AllowMissing = False):
    """List the cells that are stale and estimate how long they take on this machine.

    Writes nothing.

    Example: study plan experiments/wikitext2 --jobs 2
    """
    from study.cli.console import progress
    from study.cli.plan_table import show_plan
    from study.orchestration.dvc_commands import missing_hint, planned_cells
    from study.orchestration.plan import cells_at_once, precision_advice, text_tokens
    from study.orchestration.plan import plan as make_plan

    has_examples = (study.runs / "examples" / "validation.npz").exists()
    stale = planned_cells(study)
    words = None if text_tokens(study) else words
    show_plan(make_plan(study, stale.to_run(allow_missing), stale.trained, measure, progress, words),
              cells_at_once(study, jobs), has_examples, words)
    if stale.missing and not allow_missing:
        echo(missing_hint(stale))
    if measure and (advice := precision_advice(study)):
        echo(f"warning: {advice}")


@command
def verify(study: Study,
           cells: Annotated[int | None, typer.Option(min=1, help="Number of cells, spread over the arms.",
                                                     show_default="1")] = None,
           cell: Annotated[list[str] | None, typer.Option(
               help="This cell, such as dynamic-0. May be repeated.")] = None):
    """Retrain cells and compare them with their recorded results. The exit status is 1 if a cell differs.

    It needs the text of the study, but no weights: their hashes are in training.json.

    Writes: verification.json to runs/STUDY/ARM-SEED.

    Example: study verify experiments/wikitext2 --cells 2
    """
    from study.cli.console import TrainingBar, verification_summary
    from study.evaluation.embedding import recorded_settings
    from study.orchestration.dvc_commands import make_examples
    from study.orchestration.verify import check_recorded, spread_cells
    from study.orchestration.verify import verify as verify_cell

    if cell and cells is not None:
        raise StudyError("--cell and --cells exclude each other; pass one of them")
    names = cell or spread_cells(study, cells or 1)
    for name in names:                      # before the examples are made: a missing record is an error at once
        check_recorded(study, name)
    make_examples(study)
    outcomes = []
    for name in names:
        with TrainingBar(name, recorded_settings(study, *study.parse_cell_name(name)).training.steps) as bar:
            result = verify_cell(study, name, bar.update)
        echo(f"verify {name}: {verification_summary(result)}")
        outcomes.append(result["outcome"])
    echo(f"verify: wrote {study.runs.resolve()}/<cell>/verification.json; `dvc repro` adds it to the report")
    if "different" in outcomes:
        raise typer.Exit(1)


@command
def trials(study: Study, arm: Arm):
    """Run the search of one tuned arm. `study search` then uses these trials.

    Searches of several arms can run in parallel. Set STUDY_STORAGE to a database (postgresql://...) to run them on
    several machines.

    Writes: trials to .state/search-STUDY.db, or to STUDY_STORAGE.

    Example: study trials experiments/tiny --arm dynamic
    """
    from study.cli.console import progress
    from study.config.made_with import check_inputs
    from study.orchestration.code_identity import code_hash
    from study.training.pretrain import load_data
    from study.training.search import finished, search_arm

    check_inputs(study, "search")
    result = search_arm(study, arm, load_data(study), progress, code_hash(study, "search"))
    count = len(finished(result))
    best = f"best validation NLL {result.best_value:.3f}" if count else "search.trials is 0"
    echo(f"trials {arm}: {count}, {best}")


@commands.command(rich_help_panel="Running a study", cls=StudyFirst)
def create(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new study.")],
           source: Annotated[Path, typer.Option(
               "--from", "--study", "-s", metavar="FOLDER", help="Study whose settings are copied.",
               show_default="this folder")] = Path(".")):
    """Create a study with the settings of another one.

    Writes: experiments/NAME, and links to its results in runs/ and reports/.

    Example: study create mine --from experiments/wikitext2
    """
    from study.config.create import create_study
    from study.config.load import load_study

    if not (source if source.suffix == ".yaml" else source / "params.yaml").exists():
        raise StudyError(f"{source.resolve()}: has no params.yaml, so it is not a study whose settings can be copied; "
                         f"run this in the root of the project, or name a study: `study create {name} --from FOLDER`")
    echo(f"created {create_study(load_study(source), name)}; edit its params.yaml, then run `dvc repro` there")


@command
def rename(study: Study, name: Annotated[str, typer.Argument(metavar="NAME", help="New name of the study.")]):
    """Give a study another name. Its trained cells are kept.

    A rename that was interrupted, or that MLflow refused, is finished by the same command.

    Writes: the name in params.yaml, dvc.lock, training.json and MLflow, and the folders that have it.

    Example: study rename small --study experiments/tiny
    """
    from study.orchestration.rename import mentions, name_before, rename_study
    from study.tracking.runs import rename_experiment

    old = name_before(study)
    renamed = rename_study(study, name, rename_experiment)
    echo(f"renamed {old} to {name} in {renamed.folder}; run `dvc repro` there to make its report again")
    for place in mentions(renamed, old):
        echo(f"note: {place} still names {old}")
