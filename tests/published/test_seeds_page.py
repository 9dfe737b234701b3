"""docs/seeds.md is what the committed results give, and names settings, arms and studies that exist."""
import re
import shutil

import yaml

from study.config.load import load_study
from study.report.documents import OUTCOMES, PAGE, outcomes_of, update_documents
from tests.support.studies import ROOT


def test_the_page_is_what_the_committed_results_give(tmp_path):
    for name in (PAGE, OUTCOMES, "experiments/arms.yaml", "experiments/claims.yaml", "params.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for path in (ROOT / "reports").glob("*/claims.json"):
        (tmp_path / "reports" / path.parent.name).mkdir(parents=True)
        shutil.copy(path, tmp_path / "reports" / path.parent.name)
    update_documents(load_study(tmp_path))
    assert (tmp_path / PAGE).read_text() == (ROOT / PAGE).read_text()


def test_every_statement_of_the_five_documents_is_on_the_page():
    page, claims = (ROOT / PAGE).read_text(), yaml.safe_load((ROOT / "experiments/claims.yaml").read_text())
    rows = re.findall(r"^\| (S\d\.\d+[a-z]*) \|", page, re.M)
    assert rows == [name for name in claims if re.fullmatch(r"S\d\.\d+[a-z]*", name)]


def test_the_studies_and_arms_that_the_page_names_exist():
    page, arms = (ROOT / PAGE).read_text(), yaml.safe_load((ROOT / "experiments/arms.yaml").read_text())
    named = set(re.findall(r"arm `([^`]+)`", page))
    assert named
    assert named <= arms.keys()
    assert all((ROOT / place).exists() for place in set(re.findall(r"`(experiments/[\w./-]+)`", page)))


def test_outcomes_name_their_study_unless_a_check_decides():
    results = {"one": {"X": {"claim_type": "range", "result": {"outcome": "holds"}}},
               "two": {"X": {"claim_type": "range", "result": {"outcome": "not testable here"}}}}
    assert outcomes_of("X", results) == [("one", "holds")]
    assert outcomes_of("Y", results) == []
    for claims in results.values():
        claims["X"]["claim_type"] = "exact"
    assert outcomes_of("X", results) == [("", "holds")]
