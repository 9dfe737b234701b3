"""The section on segment pairs: the arms on pairs and their baselines, in both formats, beside floor and ceiling."""
import re

import pytest

from study.analysis.results import StudyResults
from study.report.facts import gather
from study.report.formatting import render
from study.report.pairs import pair_section
from tests.support.fake_results import compare, fake_study

CEILINGS = {"ceilings": {"test": {"nsp": 0.88, "sop": 0.8}}}


@pytest.fixture
def study(tmp_path):
    return fake_study(tmp_path)


def section(study, monkeypatch, on_pairs, references):
    compare(study)
    results = StudyResults(study)
    facts = gather(results)
    for arm in on_pairs:
        changes = study.arms[arm].changes | {"inputs": {"format": "segment-pairs"}}
        monkeypatch.setitem(study.arms, arm, study.arms[arm].model_copy(update={"changes": changes}))
    return pair_section(results, facts["arms"], references)


def test_a_study_without_arms_on_pairs_has_no_section(study, monkeypatch):
    assert section(study, monkeypatch, [], CEILINGS) is None


def test_arms_on_pairs_are_shown_with_the_arms_they_are_compared_with(study, monkeypatch):
    pairs = section(study, monkeypatch, ["static"], CEILINGS)
    assert {row["arm"]: row["format"] for row in pairs["rows"]} == {"dynamic": "full-sentences",
                                                                    "static": "segment-pairs"}
    text = render("pairs.md", {"pairs": pairs})
    for number in ("88.0 %", "80.0 %", "1.500 nats", "4.000 nats"):
        assert number in text
    assert re.search(r"\| static \| segment-pairs \| [\d.]+ \| [\d.]+ \|", text)


def test_unknown_floors_and_ceilings_are_left_out(study, monkeypatch):
    pairs = section(study, monkeypatch, ["static"], {}) | {"nll": {"unigram": 4.0, "floor": None}}
    text = render("pairs.md", {"pairs": pairs})
    assert "best possible" not in text
    assert "no model" not in text
