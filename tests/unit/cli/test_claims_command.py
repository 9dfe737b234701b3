"""`study claims`: the table of outcomes in 100 columns, one claim in full, and --strict."""
import json
import re

import pytest
from typer.testing import CliRunner

from study.analysis.claims import ExactClaim, load_claims
from study.cli.app import app
from study.report.claims import by_question, claim_rows, with_runs
from tests.support.fake_arms import many_arms
from tests.support.fake_results import compare


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = many_arms(tmp_path_factory.mktemp("many"), ["dynamic", "all-mask", "span", "mlm-pairs", "mlm-nsp"])
    compare(study)
    return study


def run(study, *arguments: str):
    return CliRunner().invoke(app, ["claims", *arguments, "--study", str(study.folder)])


def test_the_table_has_the_tested_claims_by_question_in_100_columns(study):
    lines = run(study).output.splitlines()
    assert max(map(len, lines)) <= 100
    rows = by_question(with_runs(claim_rows(study)))
    names = [row["id"] for part in rows.values() for row in part]
    head = next(place for place, line in enumerate(lines) if line.split() == [
        "claim", "statement", "outcome", "effect", "fidelity"])
    assert [match[1] for line in lines[head + 1:] if (match := re.match(r"  (\S+)  +\S", line))] == names
    headings = [line.strip() for line in lines if line.strip().lower() in rows]
    assert headings == [question.capitalize() for question in rows]
    text = " ".join(" ".join(lines).split())
    for outcome in {row["outcome"] for part in rows.values() for row in part}:
        assert outcome in text
    checks = sum(isinstance(claim, ExactClaim) for claim in load_claims(study).values())
    assert f"claims tested by training runs; {checks} checks of code and arithmetic and" in text


def test_a_claim_is_shown_in_full(study):
    row = next(row for row in claim_rows(study) if row["id"] == "L2")
    lines = run(study, "L2").output.splitlines()
    assert max(map(len, lines)) <= 100
    text = " ".join(" ".join(lines).split())
    assert f"outcome: {row['shown']}; fidelity: {row['fidelity']}" in text
    for label, content in row["details"].items():
        assert f"{label.lower()}: {' '.join(content.split())}" in text
    assert text.count("per seed: ") == 2


def test_strict_fails_if_a_claim_is_reversed(study):
    rows = {row["id"]: row["outcome"] for row in claim_rows(study)}
    assert "reversed" in {row["outcome"] for row in with_runs(claim_rows(study))}
    assert run(study, "--strict").exit_code == 1
    for name in ("L2", "S0.1", "S1.1", "L2b"):
        assert run(study, name, "--strict").exit_code == (rows[name] == "reversed")
    path = study.reports / "claims.json"
    before = path.read_text()
    claims = json.loads(before)
    for name in rows:
        claims[name]["result"]["outcome"] = "undecided"
    path.write_text(json.dumps(claims))
    assert run(study, "--strict").exit_code == 0
    path.write_text(before)
