"""What `study readme` writes: findings in reports/README.md, outcomes in docs/verdicts.md, escape steps in
docs/plateau.md, and the statements of the seed documents in docs/seeds.md.

The files hold a block per study (blocks.py).
"""
from __future__ import annotations

import os
from pathlib import Path

from study import StudyError
from study.analysis.results import StudyResults
from study.config.study import Study
from study.report.blocks import has_block, markers, with_block
from study.report.documents import update_documents
from study.report.facts import gather
from study.report.findings import findings
from study.report.formatting import render
from study.report.plateau import plateau_section

FIGURES = {"plateau-survival": "Share of the runs of each shown arm that are still on the unigram plateau, by step",
           "remasked": "Perplexity of the tutorial's own validation by step, with the perplexities that it states",
           "effects-nll": "Difference in NLL on [MASK] that each change makes, with 95 % intervals",
           "ladder": "NLL on [MASK] of the baseline and of references that need no encoder"}
NEW_PAGES = {                               # pages that get a block at their end for every study, and how they begin
    "reports/README.md": "# Findings\n\nWhat this project's training runs show, study by study. Most studies compare "
                         "recipes with `dynamic`,\nwhose masks are 80/10/10 and drawn again in each pass. `all-mask` "
                         "shows every selected token as [MASK]. Each\nreport lists its arms.\n",
    "docs/verdicts.md": "# Outcomes\n\nThe published claims and what this project's training runs show, study by "
                        "study. [Reading a report](report.md#outcomes) explains outcomes and fidelity.\n"}


def findings_block(results: StudyResults, facts: dict) -> str:
    """The findings of a study for reports/README.md: at most five sentences, one figure, and a link to its report."""
    study = results.study
    place = os.path.relpath(study.reports, study.root / "reports")
    figure = next((name for name in FIGURES if (study.reports / "figures" / f"{name}.svg").exists()), None)
    if figure is None:
        raise StudyError(f"{study.reports / 'figures'}: no figures yet; run `study report` (or `dvc repro`) first")
    return render("findings.md", facts | {"findings": findings(results, facts), "place": place, "figure": figure,
                                          "alt": FIGURES[figure]})


def verdicts_block(results: StudyResults, facts: dict) -> str:
    """The outcomes of a study for docs/verdicts.md, without links: the documentation is built without reports."""
    return render("verdicts.md", facts | {"linked": False})


def plateau_block(results: StudyResults, facts: dict) -> str:
    """The table of escape steps for docs/plateau.md; empty for a study whose runs do not end after their escape."""
    section = plateau_section(results, facts)
    return render("plateau_table.md", {"plateau": section}) if section else ""


BLOCKS = {"reports/README.md": findings_block, "docs/verdicts.md": verdicts_block, "docs/plateau.md": plateau_block}
#       page below the root -> function of a study's results and the facts of its report that returns the block


def update_readme(study: Study) -> list[Path]:
    """Writes the blocks of a study and returns the paths of the files that have one."""
    results = StudyResults(study)
    facts, name, written = gather(results), study.settings.name, []
    for page, block in BLOCKS.items():
        path = study.root / page
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if not has_block(text, name):
            if page not in NEW_PAGES:
                continue
            text = f"{text or NEW_PAGES[page]}\n{''.join(markers(name))}\n"
        path.parent.mkdir(exist_ok=True)
        path.write_text(with_block(text, name, block(results, facts)), encoding="utf-8")
        written.append(path)
    return written + update_documents(study)
