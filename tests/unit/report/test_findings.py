"""The findings in sentences, and where `study readme` writes them."""
import math
import re

import pytest

from study import StudyError
from study.analysis.along_training import Course
from study.analysis.results import StudyResults
from study.report.factors import COURSES, course_sentence, effect_sentence
from study.report.facts import gather
from study.report.findings import _control, _extremes, findings
from study.report.page import write_report
from study.report.readme import markers, readme_block, update_readme
from tests.support.fake_results import compare, fake_study


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    study = fake_study(tmp_path_factory.mktemp("study"))
    compare(study)
    write_report(study)
    return study


def effect(arm: str, effect: float, **more) -> dict:
    """A row of comparisons.csv."""
    return {"treatment": arm, "baseline": "dynamic", "metric": "nll", "n": 5, "effect": effect, "low": effect - 0.1,
            "high": effect + 0.1, "gated_runs": 0, "baseline_gated_runs": 0, "gate": math.nan,
            "smallest_detectable_effect": 0.25} | more


def test_findings_are_at_most_five_sentences_from_the_tables(reported):
    results = StudyResults(reported)
    facts = gather(results)
    sentences = findings(results, facts)
    assert 3 <= len(sentences) <= 5
    base = next(arm for arm in facts["arms"] if arm["arm"] == "dynamic")
    assert f"perplexity {base['perplexity_mean']:.2f} [" in sentences[0]
    assert "unigram frequencies reach 54.60" in sentences[0]
    assert "The exact floor is 4.48" in sentences[0]
    assert f"{100 * base['probe_accuracy_mean']:.1f} % accuracy on topic (" in sentences[-2]
    assert "TF-IDF: 80.0 %; majority class: 25.0 %)" in sentences[-2]
    assert "none of them with the source's own recipe" in sentences[-1]
    assert all(re.fullmatch(r"[A-Z].*\.", sentence) for sentence in sentences)


def test_the_changes_with_the_strongest_effects_are_named(study):
    results = StudyResults(study)
    rows = [effect("static", -0.2), effect("span", 0.3), effect("all-mask", 2.0, gated_runs=5),
            effect("untrained", 5.0), effect("rate-40", 0.05), effect("pre-ln", -0.4, baseline="static")]
    assert _extremes(results, {"comparisons": rows}) == (
        "Of 4 changes to the baseline, 3 can be compared with it: the runs of the other learnt too little. Of the "
        "comparable ones, static reduces NLL on [MASK] most (-0.200 [-0.300, -0.100] nats) and span increases NLL on "
        "[MASK] most (+0.300 [+0.200, +0.400] nats).")
    assert _extremes(results, {"comparisons": rows[4:5]}) == (
        "Of 1 change to the baseline, none has an interval for NLL on [MASK] that excludes zero.")


def test_the_control_is_the_arm_of_the_calibration_claim():
    claims = [{"family": "masking", "treatment": "static"}, {"family": "calibration", "treatment": "dynamic-reseeded"}]
    rows = [effect("static", 0.2), effect("dynamic-reseeded", 0.05)]
    assert _control({"claims": claims, "comparisons": rows}) == (
        "A/A control, no difference expected: dynamic-reseeded and dynamic differ only in their seeds, and their NLL "
        "on [MASK] differs by +0.050 [-0.050, +0.150] nats.")
    assert _control({"claims": claims[:1], "comparisons": rows}) == ""


@pytest.mark.parametrize(("row", "ending"), [
    (effect("static", 0.3), "+0.300 nats, 95 % interval [+0.200, +0.400]: worse."),
    (effect("static", -0.3), "-0.300 nats, 95 % interval [-0.400, -0.200]: better."),
    (effect("static", 0.3, metric="probe_accuracy"), "+30.0 points, 95 % interval [+20.0, +40.0]: better."),
    (effect("static", 0.05), "undecided (smallest detectable effect: 0.250 nats)."),
    (effect("static", 0.05, smallest_detectable_effect=math.inf), "[-0.050, +0.150]: undecided."),
    (effect("static", 0.3, baseline_gated_runs=2),
     "[+0.200, +0.400]: not interpreted (see the learning gate)."),
    (effect("static", 0.0, low=0.0, high=0.0), "+0.000 nats in every run: the settings that differ had no effect."),
    (effect("static", 0.3, low=math.nan, high=math.nan), "(one seed: no interval can be computed).")])
def test_an_effect_is_stated_with_what_it_shows(row, ending):
    sentence = effect_sentence(row)
    assert sentence.startswith(("NLL on [MASK], static − dynamic: ", "Probe accuracy, static − dynamic: "))
    assert sentence.endswith(ending)


@pytest.mark.parametrize("course", list(Course))
def test_every_course_of_an_effect_has_a_sentence(course):
    entry = {"treatment": "static", "baseline": "dynamic", "course": course, "quarter": effect("static", 0.3),
             "half": effect("static", 0.2), "end": effect("static", 0.05)}
    sentence = course_sentence(entry)
    assert sentence.startswith(
        "Along training, validation NLL, static − dynamic: +0.300 [+0.200, +0.400] nats at a quarter of the steps, "
        "+0.200 [+0.100, +0.300] at half, +0.050 [-0.050, +0.150] at the end: ")
    assert sentence.endswith(f"{COURSES[course]}.")


def test_readme_and_verdicts_are_written_between_their_markers(reported):
    (begin, end), root = markers(reported), reported.root
    (root / "README.md").write_text(f"Head\n{begin}old{end}\ntail\n")
    for _ in range(2):                      # a second run changes nothing
        assert update_readme(reported) == root / "README.md"
        assert (root / "README.md").read_text() == f"Head\n{begin}{readme_block(reported)}{end}\ntail\n"
        verdicts = (root / "docs" / "verdicts.md").read_text()
        assert verdicts.count(begin) == verdicts.count(end) == 1
        rows = re.findall(r"^\| (\S+) \|", verdicts, re.M)
        shown = [row["id"] for rows in gather(StudyResults(reported))["questions"].values() for row in rows]
        assert rows == ["claim", *shown]
        assert "](" not in verdicts         # the documentation is built without the reports


def test_the_block_has_one_figure_and_links_that_exist(reported):
    block = readme_block(reported)
    assert block.count("![") == 1
    assert block.count("\n- ") + block.startswith("- ") <= 5
    links = set(re.findall(r"\]\(([^)]+)\)", block)) - {"docs/verdicts.md"}
    assert [link for link in links if not (reported.root / link).exists()] == []


def test_a_readme_without_a_block_for_the_study_is_refused(tmp_path):
    study = fake_study(tmp_path)
    (tmp_path / "README.md").write_text("Head\n")
    compare(study)
    with pytest.raises(StudyError, match="no block for study tiny; add the lines <!-- tiny:begin"):
        update_readme(study)
