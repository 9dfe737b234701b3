"""What `study readme` writes: the findings of a study in the root's README.md and its verdicts in docs/verdicts.md.

Both files hold a block per study between two comment lines; everything outside the blocks is left alone.
"""
from __future__ import annotations

from pathlib import Path

from study import StudyError
from study.analysis.results import StudyResults
from study.config.study import Study
from study.report.facts import gather
from study.report.findings import findings
from study.report.formatting import render

FIGURES = {"effects-nll": "Difference in NLL on [MASK] that each change makes, with 95 % intervals",
           "curves": "Learning curves: validation perplexity against training tokens"}
VERDICTS = "# Outcomes\n\nThe published claims and what this project's training runs show, study by study.\n"


def markers(study: Study) -> tuple[str, str]:
    """The comment lines around a study's block."""
    name = study.settings.name
    return f"<!-- {name}:begin (written by `study readme`) -->\n", f"<!-- {name}:end -->"


def readme_block(study: Study) -> str:
    """The findings of a study for the root's README.md: at most five sentences, one figure, two links."""
    results = StudyResults(study)
    facts, place = gather(results), study.reports.relative_to(study.root)
    figure = next(name for name in FIGURES if (study.reports / "figures" / f"{name}.svg").exists() or name == "curves")
    return render("readme.md", {"findings": findings(results, facts), "place": place, "figure": figure,
                                "alt": FIGURES[figure]})


def verdicts_block(study: Study) -> str:
    """The verdict table of a study for docs/verdicts.md, without links: the documentation is built without reports."""
    return render("verdicts.md", gather(StudyResults(study)) | {"linked": False})


def update_readme(study: Study) -> Path:
    """Writes both blocks and returns the path of README.md. A study without a block in docs/verdicts.md gets one at
    the end. Raises StudyError if README.md has no block for the study."""
    readme, verdicts = study.root / "README.md", study.root / "docs" / "verdicts.md"
    begin, end = markers(study)
    text = readme.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise StudyError(f"{readme}: no block for study {study.settings.name}; add the lines {begin.strip()} and {end} "
                         f"where its findings should be")
    readme.write_text(_replaced(text, begin, readme_block(study), end), encoding="utf-8")
    verdicts.parent.mkdir(exist_ok=True)
    text = verdicts.read_text(encoding="utf-8") if verdicts.exists() else VERDICTS
    if begin not in text:
        text += f"\n{begin}{end}\n"
    verdicts.write_text(_replaced(text, begin, verdicts_block(study), end), encoding="utf-8")
    return readme


def _replaced(text: str, begin: str, block: str, end: str) -> str:
    head, _, rest = text.partition(begin)
    return head + begin + block + end + rest.partition(end)[2]
