"""The report stage: README.md (for a code host), index.html made from it, and the figures.

The stage reads the tables of the compare stage and the result files; the same files give the same bytes.
"""
from __future__ import annotations

from pathlib import Path

from study.analysis.comparisons import HEADLINES
from study.analysis.questions import QUESTIONS
from study.analysis.results import StudyResults
from study.config.study import Study
from study.report.claims import by_question, claim_figure, with_runs
from study.report.details import without_repeats
from study.report.facts import gather
from study.report.features import layer_figure
from study.report.findings import findings
from study.report.finetuned import finetuned_section
from study.report.formatting import render
from study.report.further import further_figures
from study.report.html import html_page
from study.report.overview import (
    Figure,
    along_figure,
    curve_figures,
    decile_figure,
    effects_figure,
    escape_figure,
    ladder_figure,
    search_figures,
)
from study.report.pairs import pair_section
from study.report.planes import plane_figure
from study.report.plateau import plateau_section
from study.report.recipe import course_section, sense_section
from study.report.remasked import remasked_section


def write_report(study: Study, results: StudyResults | None = None) -> Path:
    """Writes README.md, index.html and figures/*.svg under reports/<study>/; returns the path of the HTML page.

    results: those of the study, if they were read before. Raises StudyError if an earlier stage has not run.
    """
    results = results or StudyResults(study)
    facts = gather(results)
    plateau, curves = plateau_section(results, facts), curve_figures(results, facts["data"])
    figures = _figures(results, facts, short=plateau is not None)
    finetuned = None if plateau else finetuned_section(results, facts["arms"])
    if finetuned and finetuned["figure"]:
        figures["finetuned"] = finetuned["figure"]
    remasked = remasked_section(results)
    claims = [row | {"figure": claim_figure(row)} for row in facts["claims"]]
    drawings = {name: figure.svg for part in (figures, *curves.values(), plateau["figures"] if plateau else {})
                for name, figure in part.items()}
    tested = with_runs(claims)
    by_name = {name: without_repeats(rows) for name, rows in by_question(tested).items()}
    questions = {name: by_name.get(name, []) for name in QUESTIONS if name in by_name or name in curves}
    drawings |= {"remasked": remasked["figure"].svg} if remasked else {}
    drawings |= {row["file"]: row["figure"]["svg"] for row in tested if row["figure"]}
    text = render("report.md", facts | {
        "questions": questions, "figures": figures, "curves": curves, "plateau": plateau,
        "remasked": remasked,
        "findings": findings(results, facts), "linked": True, "finetuned": finetuned,
        "course": course_section(results), "senses": sense_section(results),
        "pairs": None if plateau else pair_section(results, facts["arms"], facts["data"]["references"])})
    _write_figures(study.reports / "figures", drawings)
    (study.reports / "README.md").write_text(text, encoding="utf-8")
    page = study.reports / "index.html"
    page.write_text(html_page(text, f"Study {study.settings.name}",
                              {f"figures/{name}.svg": svg for name, svg in drawings.items()}), encoding="utf-8")
    return page


def _figures(results: StudyResults, facts: dict, short: bool) -> dict[str, Figure]:
    """File name (without .svg) -> figure. short: runs end after they have left the plateau, so that what is measured
    after training has no meaning."""
    frames, study = facts["frames"], results.study
    drawn = search_figures(results)
    drawn["ladder"] = ladder_figure(results, facts["ladder"], facts["baseline"], frames["cells"])
    if short:
        return drawn
    for metric in HEADLINES:
        drawn |= effects_figure(study, frames["comparisons"], metric)
    drawn |= along_figure(study, frames["along_training"]) | escape_figure(results, frames["cells"])
    drawn |= layer_figure(study, frames["probes"], facts["levels"]) | plane_figure(results)
    drawn |= further_figures(study, frames)
    return drawn | decile_figure(study, frames["tokens"])


def _write_figures(folder: Path, drawings: dict[str, str]) -> None:
    """Replaces the SVG files of the folder. drawings: file name without .svg -> SVG text."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for name, svg in drawings.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
