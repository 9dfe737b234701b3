"""One command per stage of dvc.yaml that only reads result files: comparisons, report and MLflow."""
from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import typer
from typer import echo

from study.cli.options import study_command

if TYPE_CHECKING:
    from study.config.study import Study

commands = typer.Typer()
stage = study_command(commands, "Stages of the pipeline")


def _collect_rarely() -> None:
    """Lets Python look for unused circles of objects less often. A comparison or report makes many objects, few of them
    in circles, and a sixth of its time went into looking."""
    gc.set_threshold(50_000)


@stage
def compare(study: Study):
    """Compare the arms seed by seed and decide each claim.

    Writes: tables and claims.json to reports/STUDY.

    Example: study compare experiments/tiny
    """
    _collect_rarely()
    from collections import Counter

    from study.analysis.claims import checks_of, load_claims
    from study.analysis.compare import compare as run_comparisons
    from study.config.made_with import check_inputs
    from study.evaluation.exact_claims import run_checks

    check_inputs(study, "compare", committed=True)
    claims = load_claims(study)
    verdicts = run_comparisons(study, claims, run_checks(study, checks_of(claims)))
    counts = Counter(verdict.outcome for verdict in verdicts.values())
    echo("compare: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))


@stage
def report(study: Study):
    """Render the report from the result files.

    Writes: README.md, index.html and figures to reports/STUDY.

    Example: study report experiments/tiny
    """
    _collect_rarely()
    from study.analysis.current import check_cells, check_tables
    from study.analysis.results import StudyResults
    from study.report.page import write_report

    check_tables(study)
    check_cells(results := StudyResults(study), results.cells)
    echo(f"report: {write_report(study, results)}")


@stage
def track(study: Study):
    """Bring MLflow in line with the result files. Runs that are already there are kept.

    Writes: mlflow.db and mlartifacts, or to the server in MLFLOW_TRACKING_URI; and reports/STUDY/mlflow.html.

    Example: study track experiments/wikitext2
    """
    from study.analysis.current import check_cells
    from study.analysis.results import StudyResults
    from study.tracking.runs import track as update_mlflow

    results = StudyResults(study)
    check_cells(results, [cell for cell in results.cells if (cell.folder / "training.json").exists()])
    echo(f"track: {update_mlflow(study)} runs written")
