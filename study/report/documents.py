"""What docs/seeds.md says of each document that the study grew out of: its statements, and what came out here."""
from __future__ import annotations

from pathlib import Path

from study.analysis.claims import OWN_SOURCE, AnyClaim, ExactClaim, UntestedClaim, fidelity_of, load_claims
from study.analysis.results import read_json
from study.analysis.verdict import why_untested
from study.config.load import load_study
from study.config.study import Study
from study.report.blocks import has_block, with_block
from study.report.formatting import render

PAGE, OUTCOMES = "docs/seeds.md", "docs/verdicts.md"
EXAMPLE = "tiny"                            # the study for tests: it has nearly every arm, and is never published
REPEATED = {"L28": "S4", "L29": "S4", "L29b": "S4"}             # claims about a paper that a document repeats
WHY_IN_NO_PLAN = {                          # claims of the documents whose arms no study has, and why
    "S0.15-ft": "needs `all-mask`, registered in finetuning and waiting for machine time",
    "S2.1": "needs `no-embedding-norm`, which no study has, for want of machine time",
    "S2.1b": "needs `dropout-few` and `dynamic-few`, which no study has, for want of machine time",
    "S3.3": "needs `d2l-300`, which waits for machine time: its runs are six times as long as those of d2l",
    "S3.3b": "needs `d2l-300`, which waits for machine time: its runs are six times as long as those of d2l",
    "S4.4": "needs `no-warmup-lr-3x`, which no study has, for want of machine time. The study plateau has three times "
            "the rate with warm-up (L12), and no warm-up at its own rate (P4)",
    "S4.4b": "needs `no-warmup-lr-3x`, which no study has, for want of machine time",
    "S4.6": "needs `short-first-quarter`, which no study has, and rows of at least 128 tokens. In bert-base every run "
            "has this schedule, so it has no long rows to compare with"}


def update_documents(study: Study) -> list[Path]:
    """Writes the table of each document into docs/seeds.md, from claims.yaml, the claims of all published studies and
    the plans of all studies. Returns the path of the page if it is there.

    A document without a block is left out.
    """
    path = study.root / PAGE
    if not path.exists():
        return []
    text, rows = path.read_text(encoding="utf-8"), statements(study)
    for source, part in rows.items():
        if has_block(text, source):
            text = with_block(text, source, f"\n{render('documents.md', {'rows': part})}\n")
    path.write_text(text, encoding="utf-8")
    return [path]


def statements(study: Study) -> dict[str, list[dict]]:
    """Document -> its claims, each with id, statement, published numbers, fidelity, and one of three: `outcomes`, which
    are (study, outcome) of each published study that tested it; `planned`, the studies that will; or `reason`, why
    none does.

    Published are the studies with a block in docs/verdicts.md.
    """
    published = (study.root / OUTCOMES).read_text(encoding="utf-8")
    results = {path.parent.name: read_json(path) for path in sorted((study.root / "reports").glob("*/claims.json"))
               if has_block(published, path.parent.name)}
    studies, rows = studies_of(study), {}
    for name, claim in load_claims(study).items():
        outcomes = outcomes_of(name, results)
        is_check = claim.claim_type == "exact"
        planned = [] if outcomes or is_check else [other.settings.name for other in studies
                                                   if why_untested(other, claim) is None]
        row = {"id": name, "statement": claim.statement, "published": claim.published, "outcomes": outcomes,
               "planned": planned, "reason": "" if outcomes or planned else why_no_outcome(name, claim),
               "fidelity": fidelity_of(claim), "is_check": is_check}
        for document in documents_of(name, claim):
            rows.setdefault(document, []).append(row)
    return rows


def documents_of(name: str, claim: AnyClaim) -> list[str]:
    """The sources of a claim by their short names, and the document that repeats it. A claim of our own belongs to the
    document that its id begins with."""
    if claim.source == OWN_SOURCE:
        return [name.partition(".")[0]]
    return [*claim.source.split("; "), *([REPEATED[name]] if name in REPEATED else [])]


def studies_of(study: Study) -> list[Study]:
    """Every study of the project that may be published, `quick` first."""
    folders = [study.root, *sorted(path.parent for path in (study.root / "experiments").glob("*/params.yaml"))]
    return [load_study(folder) for folder in folders if folder.name != EXAMPLE]


def why_no_outcome(name: str, claim: AnyClaim) -> str:
    """Why a claim that no study has tested or will test has no outcome, in words."""
    if isinstance(claim, UntestedClaim):
        return f"{claim.claim_type}: {claim.reason}"
    if isinstance(claim, ExactClaim):
        return "not checked yet"
    return f"not trained: {WHY_IN_NO_PLAN.get(name, 'no study has its arms')}"


def outcomes_of(name: str, results: dict[str, dict]) -> list[tuple[str, str]]:
    """(study, outcome) of a claim. results: study -> its claims.json. A check of code has one outcome for all
    studies."""
    outcomes = [(study, claims[name]["result"]["outcome"]) for study, claims in results.items()
                if name in claims and claims[name].get("result")]
    tested = [(study, outcome) for study, outcome in outcomes if outcome != "not testable here"]
    if tested and all(results[study][name]["claim_type"] == "exact" for study, _ in tested):
        return [("", tested[0][1])]
    return tested
