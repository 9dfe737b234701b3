"""The report stage: README.md (for a code host), index.html made from it, and the figures.

The stage reads the tables of the compare stage and the result files; the same files give the same bytes.
"""
from __future__ import annotations

from pathlib import Path

from study.analysis.results import StudyResults
from study.config.study import Study
from study.report.claims import by_question, claim_figure, with_runs
from study.report.factors import factor_sections
from study.report.facts import gather
from study.report.findings import findings
from study.report.formatting import render
from study.report.html import html_page
from study.report.overview import overview_figures
from study.report.pairs import pair_section
from study.report.plateau import plateau_section


def write_report(study: Study) -> Path:
    """Writes README.md, index.html and figures/*.svg under reports/<study>/; returns the path of the HTML page.

    Raises StudyError if an earlier stage has not run.
    """
    results = StudyResults(study)
    facts = gather(results)
    figures, sections = overview_figures(results, facts), factor_sections(results, facts)
    claims = [row | {"figure": claim_figure(row)} for row in facts["claims"]]
    drawings = {name: figure.svg for part in (figures, *(section["figures"] for section in sections))
                for name, figure in part.items()}
    plateau = plateau_section(results, facts["frames"]["escape"])
    drawings |= {name: figure.svg for name, figure in (plateau["figures"] if plateau else {}).items()}
    drawings |= {row["file"]: row["figure"]["svg"] for row in claims if row["figure"]}
    text = render("report.md", facts | {"claims": claims, "questions": by_question(with_runs(claims)),
                                        "figures": figures, "sections": sections,
                                        "findings": findings(results, facts), "linked": True,
                                        "plateau": plateau,
                                        "pairs": pair_section(results, facts["arms"], facts["data"]["references"])})
    _write_figures(study.reports / "figures", drawings)
    (study.reports / "README.md").write_text(text, encoding="utf-8")
    page = study.reports / "index.html"
    page.write_text(html_page(text, f"Study {study.settings.name}",
                              {f"figures/{name}.svg": svg for name, svg in drawings.items()}), encoding="utf-8")
    return page


def _write_figures(folder: Path, drawings: dict[str, str]) -> None:
    """Replaces the SVG files of the folder. drawings: file name without .svg -> SVG text."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for name, svg in drawings.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
