"""docs/seeds.md is what the committed results give, and names settings, arms and studies that exist."""
import re
import shutil

import pytest
import yaml

from study.analysis.claims import ExactClaim, UntestedClaim, load_claims
from study.analysis.verdict import why_untested
from study.config.arms import resolve
from study.config.load import load_study
from study.config.yaml_files import parse_yaml
from study.report import documents
from study.report.documents import (
    OUTCOMES,
    PAGE,
    REPEATED,
    WHY_IN_NO_PLAN,
    documents_of,
    outcomes_of,
    statements,
    studies_of,
    update_documents,
)
from tests.support.studies import ROOT

STUDIES = {"S0": "tutorial", "S1": "characters", "S2": "scratch", "S3": "d2l", "S4": "bert-base"}
SETTING = re.compile(r"`([a-z]+(?:\.[a-z_0-9]+)+)(?:: ([^`]+))?`")


@pytest.fixture(scope="module")
def project():
    return load_study(ROOT)


@pytest.fixture(scope="module")
def rows(project):
    return statements(project)


def section(document: str) -> str:
    """The part of the page about a document: its table by hand and its block."""
    text = (ROOT / PAGE).read_text()
    return text[text.index(f"\n## {document}: "):text.index(f"<!-- {document}:end -->")]


def test_the_page_is_what_the_committed_results_give(tmp_path):
    plans = [path.relative_to(ROOT) for path in (ROOT / "experiments").glob("*/params.yaml")]
    for name in (PAGE, OUTCOMES, "experiments/arms.yaml", "experiments/claims.yaml", "params.yaml", *plans):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for path in (ROOT / "reports").glob("*/claims.json"):
        (tmp_path / "reports" / path.parent.name).mkdir(parents=True)
        shutil.copy(path, tmp_path / "reports" / path.parent.name)
    update_documents(load_study(tmp_path))
    assert (tmp_path / PAGE).read_text() == (ROOT / PAGE).read_text()


@pytest.mark.parametrize("document", STUDIES)
def test_every_statement_of_a_document_is_in_its_table(document):
    claims = yaml.safe_load((ROOT / "experiments/claims.yaml").read_text())
    del claims["sources"]
    named = [name for name, claim in claims.items() if document in claim["source"].split("; ")
             or claim["source"] == "this study" and name.startswith(f"{document}.") or REPEATED.get(name) == document]
    table = section(document).partition(":begin ")[2]
    assert re.findall(r"^\| ([A-Z][\w./-]*) \|", table, re.M) == named
    assert {name for name in claims if name.startswith(f"{document}.")} <= set(named)


def test_s4_has_its_guidance_on_fine_tuning_and_its_arithmetic(project):
    of_s4 = [name for name, claim in load_claims(project).items() if "S4" in documents_of(name, claim)]
    assert {"F1", "F1b", "F2", "F3", "F4", "F5", "L28", "L29", "L29b"} <= set(of_s4)


def test_claims_that_no_study_will_test_say_why(project, rows):
    """Each reason belongs to such a claim and names all of its arms that are missing everywhere."""
    claims, settings = load_claims(project), [study.settings for study in studies_of(project)]
    shown = {row["id"]: row for document in STUDIES for row in rows[document]}
    unplanned = {name for name, row in shown.items() if not (row["outcomes"] or row["planned"])
                 and not isinstance(claims[name], UntestedClaim | ExactClaim)}
    assert unplanned == set(WHY_IN_NO_PLAN)
    for name, reason in WHY_IN_NO_PLAN.items():
        arms = [getattr(claims[name], key, None) for key in ("treatment", "baseline", "arm")]
        is_of_finetuning = getattr(claims[name], "metric", "").startswith("finetuned")      # rates have no metric
        plans = [each.finetune.arms if is_of_finetuning else each.arms for each in settings]
        nowhere = [arm for arm in arms if arm and not any(arm in plan for plan in plans)]
        assert nowhere, name
        assert all(f"`{arm}`" in reason for arm in nowhere), name
        assert shown[name]["reason"] == f"not trained: {reason}"
    assert all(shown[name]["outcomes"] for name in ("S1.3", "S1.3c", "S1.3d"))


def test_arms_that_wait_for_machine_time_are_registered():
    named = {reason: match[1] for reason in WHY_IN_NO_PLAN.values()
             if (match := re.search(r"registered in (\w+)", reason))}
    assert named
    for reason, study in named.items():
        registered = parse_yaml((ROOT / f"runs/{study}/claims.json").read_text())[-1]["arms"]
        assert set(re.findall(r"`([\w-]+)`", reason)) <= registered.keys()


def test_planned_studies_can_test_the_claim(project, rows):
    claims, studies = load_claims(project), {study.settings.name: study for study in studies_of(project)}
    planned = {(row["id"], name) for document in STUDIES for row in rows[document] for name in row["planned"]}
    assert all(why_untested(studies[name], claims[claim]) is None for claim, name in planned)
    assert documents.EXAMPLE not in studies
    assert all(row["reason"] for document in STUDIES for row in rows[document]
               if not (row["outcomes"] or row["planned"]))


@pytest.mark.parametrize("document", STUDIES)
def test_the_settings_that_the_page_names_are_those_of_the_documents_study(document):
    study = load_study(ROOT / "experiments" / STUDIES[document])
    settings = study.settings.model_dump(mode="json") | resolve(study, study.settings.baseline).model_dump(mode="json")
    named = [(key, value) for key, value in SETTING.findall(section(document)) if key.split(".")[0] in settings]
    assert len(named) > 5
    for key, value in named:
        place = settings
        for part in key.split("."):
            assert part in place, key
            place = place[part]
        assert not value or place == parse_yaml(value), key


def test_the_tables_by_hand_have_two_columns():
    for document in STUDIES:
        assert f"Study: `experiments/{STUDIES[document]}`" in section(document)
        assert "\nRun time: " in section(document)
        table = re.findall(r"^\|.*$", section(document).partition("<!--")[0], re.M)
        assert len(table) > 10
        assert all(len(re.split(r"(?<!\\)\|", row)) == 4 for row in table)


def test_the_studies_and_arms_that_the_page_names_exist():
    page, arms = (ROOT / PAGE).read_text(), yaml.safe_load((ROOT / "experiments/arms.yaml").read_text())
    named = set(re.findall(r"arms? `([^`]+)`", page)) | set(re.findall(r"`([\w-]+)`",
                                                                        " ".join(WHY_IN_NO_PLAN.values())))
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
