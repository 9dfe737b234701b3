"""Commands that show the results of a study."""
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer import echo

from study import StudyError
from study.cli.options import study_command

if TYPE_CHECKING:
    from study.config.study import Study

commands = typer.Typer()
command = study_command(commands, "Looking at results")


@command
def claims(study: Study,
           claim: Annotated[str | None, typer.Argument(
               metavar="CLAIM", help="Id of a claim.", show_default="all claims")] = None,
           strict: Annotated[bool, typer.Option(help="Exit with status 1 if a claim is reversed.")] = False):
    """Show the outcomes of the claims that a study tests, or everything about one claim.

    Writes nothing.

    Example: study claims S0.15 --study experiments/wikitext2
    """
    from study.cli.console import show_claim, show_claims, show_ladder
    from study.report.claims import claim_rows
    from study.report.ladder import study_ladder

    rows = claim_rows(study)
    chosen = [row for row in rows if claim in (None, row["id"])]
    if not chosen:
        raise StudyError(_unknown_claim(study, claim, [row["id"] for row in rows]))
    if claim is None:
        show_ladder(study_ladder(study))
        show_claims(rows)
    else:
        show_claim(chosen[0])
    if strict and any(row["outcome"] == "reversed" for row in chosen):
        raise typer.Exit(1)


def _unknown_claim(study: Study, claim: str, ids: list[str]) -> str:
    from difflib import get_close_matches

    if "/" in claim:
        return f"{claim}: no params.yaml there; a study is a folder with params.yaml"
    near = get_close_matches(claim, ids, n=1)
    if near:
        return f"no claim {claim}; did you mean {near[0]}?"
    return (f"no claim {claim}; `study claims` lists those that the study tests, and "
            f"{study.reports / 'tables' / 'claims.csv'} has all {len(ids)}")


@command
def readme(study: Study):
    """Put the findings of a study into reports/README.md and its outcomes into docs/verdicts.md.

    Writes: the study's block in each of these two pages, and in docs/plateau.md if that has one, and docs/seeds.md.

    Example: study readme experiments/wikitext2
    """
    from study.report.readme import update_readme

    echo(f"readme: {', '.join(str(path.relative_to(study.root)) for path in update_readme(study))}")


@command
def where(study: Study):
    """Print the path of the report.

    Writes nothing.

    Example: study where experiments/tiny
    """
    page = study.reports.resolve() / "index.html"
    if not page.exists():
        raise StudyError(f"{page}: no report yet; run `dvc repro` in the folder of the study")
    echo(f"report: {page}\n        {page.with_name('README.md')}")


@command
def ui(study: Study, port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000):
    """Serve the MLflow UI on http://127.0.0.1:PORT.

    Writes: mlflow.db.lock; and to mlflow.db where the results are, if the project was moved.

    Example: study ui --port 5001
    """
    from study.tracking.client import serve_ui

    serve_ui(study, port)


@command
def register(study: Study):
    """Register the best encoder of a study in MLflow's model registry, with a model card.

    Writes: a model version to MLflow.

    Example: study register experiments/wikitext2
    """
    from study.tracking.registry import register_best

    echo(f"register: {register_best(study)}")
