"""What docs/seeds.md says of each document that the study grew out of: its statements, and what came out here."""
from __future__ import annotations

from study.analysis.claims import UntestedClaim, fidelity_of, load_claims
from study.analysis.results import read_json
from study.config.study import Study
from study.report.formatting import render

PAGE, OUTCOMES = "docs/seeds.md", "docs/verdicts.md"


def update_documents(study: Study) -> None:
    """Writes the table of each document into docs/seeds.md, from claims.yaml and the claims of all published studies.

    A document has a block between two comment lines; one without a block is left out.
    """
    path = study.root / PAGE
    if not path.exists():
        return
    text, rows = path.read_text(encoding="utf-8"), statements(study)
    for source, part in rows.items():
        begin, end = f"<!-- {source}:begin (written by `study readme`) -->\n", f"<!-- {source}:end -->"
        if begin in text and end in text:
            head, _, rest = text.partition(begin)
            text = head + begin + "\n" + render("documents.md", {"rows": part}) + "\n" + end + rest.partition(end)[2]
    path.write_text(text, encoding="utf-8")


def statements(study: Study) -> dict[str, list[dict]]:
    """Document -> its claims, each with id, statement, published numbers, fidelity and `outcomes`: (study, outcome) of
    each published study that tested it, or the reason why none does.

    The document is the part of a claim's id before the period. Published are the studies with a block in
    docs/verdicts.md.
    """
    published = (study.root / OUTCOMES).read_text(encoding="utf-8")
    results = {path.parent.name: read_json(path) for path in sorted((study.root / "reports").glob("*/claims.json"))
               if f"<!-- {path.parent.name}:begin " in published}
    rows: dict[str, list[dict]] = {}
    for name, claim in load_claims(study).items():
        outcomes = outcomes_of(name, results)
        untested = isinstance(claim, UntestedClaim)
        rows.setdefault(name.partition(".")[0], []).append({
            "id": name, "statement": claim.statement, "published": claim.published, "outcomes": outcomes,
            "fidelity": fidelity_of(claim), "reason": f"{claim.claim_type}: {claim.reason}" if untested else "",
            "is_check": claim.claim_type == "exact"})
    return rows


def outcomes_of(name: str, results: dict[str, dict]) -> list[tuple[str, str]]:
    """(study, outcome) of a claim. results: study -> its claims.json. A check of code has one outcome for all
    studies."""
    outcomes = [(study, claims[name]["result"]["outcome"]) for study, claims in results.items()
                if name in claims and claims[name].get("result")]
    tested = [(study, outcome) for study, outcome in outcomes if outcome != "not testable here"]
    if tested and all(results[study][name]["claim_type"] == "exact" for study, _ in tested):
        return [("", tested[0][1])]
    return tested
