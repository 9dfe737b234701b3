"""The findings in sentences, and where `study readme` writes them."""
import math
import re

import pytest

from study.analysis.results import StudyResults
from study.analysis.verdict import DECIDED
from study.report.blocks import markers
from study.report.facts import gather
from study.report.findings import clearest, findings, sentence
from study.report.page import write_report
from study.report.readme import NEW_PAGES, findings_block, update_readme
from tests.support.drawings import without_drawings
from tests.support.fake_arms import many_arms
from tests.support.fake_results import compare, fake_study

ARMS = ["dynamic", "dynamic-reseeded", "all-mask", "span", "half-depth"]


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    study = many_arms(tmp_path_factory.mktemp("study"), ARMS)
    compare(study)
    with without_drawings():
        write_report(study)
    return study


def claim(name: str, outcome: str = "holds", effect: float = 0.2, **more) -> dict:
    """A row of a claim that compares all-mask with dynamic."""
    return {"id": name, "statement": "All is better.", "claim_type": "direction", "source": "S0", "fidelity": "proxy",
            "treatment": "all-mask", "baseline": "dynamic", "metric": "nll", "margin": 0.05, "question": "corruption",
            "exploratory": False, "outcome": outcome, "shown": outcome,
            "result": {"outcome": outcome, "measured": "", "effect": effect, "low": effect - 0.1,
                       "high": effect + 0.1}} | more


def test_a_finding_states_what_was_measured_and_what_that_says_of_the_claim():
    assert sentence(claim("L2")) == (
        "All is better: with all-mask, NLL on [MASK] is 0.200 nats higher [0.100, 0.300] than with dynamic.")
    assert sentence(claim("L2", "reversed", -0.2)) == (
        "With all-mask, NLL on [MASK] is 0.200 nats lower [0.100, 0.300] than with dynamic. That is the reverse of the "
        "claim “All is better”.")
    assert "smaller than the margin" in sentence(claim("L2", "no difference", 0.01))
    assert "another measure disagrees" in sentence(claim("L2", "split"))
    assert sentence(claim("L2", baseline=None, metric="mean_over_cls")) == (
        "All is better: probe accuracy by mean pooling minus that by [CLS] is +20.0 points [+10.0, +30.0] for "
        "all-mask.")
    band = claim("S0.9", "reversed", claim_type="range", arm="dynamic", metric="probe_cls", margin=None)
    assert sentence(band).startswith("Probe accuracy on [CLS] of dynamic is 20.0 points [10.0, 30.0]. That disagrees")
    rate = claim("L12", claim_type="rate", result={"measured": "5 of 5 runs diverged", "effect": 1.0},
                 measured="5 of 5 runs diverged; on average 3.2 (0.0) loss spikes")
    assert sentence(rate) == "All is better: 5 of 5 runs diverged; on average 3.2 (0.0) loss spikes."
    spread = claim("L25", effect=0.03, claim_type="spread", arm="vary-order", metric="probe_accuracy")
    assert sentence(spread | {"result": spread["result"] | {"low": 0.02, "high": 0.05}}) == (
        "All is better: two runs of vary-order differ in probe accuracy by 3.0 points [2.0, 5.0] (root mean square).")
    assert all(sentence(claim("L2", outcome)).endswith(".") for outcome in DECIDED)


def rates(name: str, claim_type: str, effect: float, low: float, high: float, metric: str = "finetuned_rate") -> dict:
    """A row of a claim about learning rates. The numbers are rates or factors, whose log10 is in the results."""
    result = {"measured": ""} | {key: math.log10(value) for key, value in
                                 (("effect", effect), ("low", low), ("high", high))}
    return claim(name, claim_type=claim_type, metric=metric, arm="dynamic", result=result)


def test_learning_rates_are_told_as_rates_and_factors():
    assert sentence(rates("F1", "direction", 2, 1.5, 4)) == (
        "All is better: with all-mask, chosen learning rate of fine-tuning is ×2.00 [×1.50, ×4.00] that with dynamic.")
    assert sentence(rates("F1", "direction", 0.5, 0.25, 0.8)) == (
        "All is better: with all-mask, chosen learning rate of fine-tuning is ×0.50 [×0.25, ×0.80] that with dynamic.")
    assert sentence(rates("F2", "equal", 2, 2, 2, "finetuned_rate_small")) == (
        "All is better: with all-mask, ratio of the chosen learning rates, fewest rows to most is ×2.00 that with "
        "dynamic at every seed.")
    assert sentence(rates("F3", "point", 2e-5, 1e-5, 4e-5)) == (
        "All is better: chosen learning rate of fine-tuning of dynamic is 2e-05 on average, and one more run would be "
        "between 1e-05 and 4e-05.")
    assert sentence(rates("F4", "spread", 3, 2, 5)) == (
        "All is better: two runs of dynamic differ in chosen learning rate of fine-tuning by ×3.00 [×2.00, ×5.00] "
        "(root mean square).")


def test_a_number_whose_label_says_what_it_is_has_no_unit():
    assert sentence(claim("S3.6", baseline=None, metric="sense_gain")) == (
        "All is better: distance between senses minus that within a sense, trained minus untrained is +0.2000 "
        "[+0.1000, +0.3000] for all-mask.")
    assert sentence(claim("S1", metric="largest_gradient_norm")) == (
        "All is better: with all-mask, largest gradient norm after the warm-up is 0.20 higher [0.10, 0.30] than with "
        "dynamic.")
    assert sentence(claim("S2", claim_type="point", arm="dynamic", metric="clipped_share")) == (
        "All is better: share of steps after the warm-up whose gradient was clipped of dynamic is 0.20 on average, and "
        "one more run would be between 0.10 and 0.30.")


def test_a_number_that_is_the_same_at_every_seed_has_no_interval():
    steps = {"measured": "", "effect": -100.0, "low": None, "high": None,
             "values": {"all-mask": [300.0, 260.0], "dynamic": [400.0, 360.0]}}
    assert sentence(claim("S1.4b", metric="escape_step", result=steps)) == (
        "All is better: runs of all-mask leave the unigram plateau 100 steps earlier at every seed than runs of "
        "dynamic.")
    alike = {"measured": "", "effect": 0.45, "low": 0.45, "high": 0.45}
    for kind in ("range", "point"):
        number = claim("S0.8", claim_type=kind, arm="dynamic", metric="tutorial_untrained", margin=None, result=alike)
        assert sentence(number) == ("All is better: accuracy of the tutorial's probe on the untrained encoder of "
                                    "dynamic is 45.0 points, the same at every seed.")


def test_every_question_is_told_before_one_is_told_twice():
    rows = [claim("a", effect=0.9, treatment="a"), claim("b", effect=0.8, treatment="b"),
            claim("c", effect=0.1, question="size", treatment="c"), claim("d", effect=0.7, treatment="d")]
    assert [row["id"] for row in clearest(rows, 2)] == ["a", "c"]
    assert [row["id"] for row in clearest(rows, 3)] == ["a", "b", "c"]


def test_the_closest_tests_are_told_first():
    rows = [claim("a", effect=0.9, treatment="a"), claim("b", effect=0.2, treatment="b", fidelity="same question"),
            claim("c", effect=0.3, treatment="c", fidelity="same recipe")]
    assert [row["id"] for row in clearest(rows, 2)] == ["c", "b"]


def test_questions_take_turns():
    rows = [claim(name, effect=effect, question=question, treatment=name)
            for name, effect, question in (("a", 0.9, "corruption"), ("b", 0.8, "corruption"), ("c", 0.7, "corruption"),
                                           ("d", 0.2, "size"), ("e", 0.1, "size"))]
    assert [row["id"] for row in clearest(rows, 4)] == ["a", "b", "d", "e"]


def test_only_decided_claims_of_others_are_told_and_each_comparison_once():
    rows = [claim("open", "undecided"), claim("A/A", source="this study", treatment="again"),
            claim("first", effect=0.3), claim("opposite", "reversed", treatment="dynamic", baseline="all-mask"),
            claim("late", effect=0.9, exploratory=True, treatment="late")]
    assert [row["id"] for row in clearest(rows)] == ["first", "late"]


def test_findings_name_claim_fidelity_and_section(reported):
    results = StudyResults(reported)
    facts = gather(results)
    found = findings(results, facts)
    assert 2 <= len(found) <= 5
    rows = {row["id"]: row for row in facts["claims"]}
    for finding in found[:-1]:
        row = rows[finding["claim"]]
        assert finding["words"].endswith(f"; {row['fidelity']}")
        assert finding["anchor"] == row["question"].replace(" ", "-")
    text = (reported.reports / "README.md").read_text()
    told = text[text.index("## Findings"):text.index("## Ladder")]
    assert re.findall(r"\(\[(\S+)\]\(#", told) == [finding["claim"] for finding in found if finding["claim"]]
    assert re.search(r"Two copies of the baseline .* differ by \+?-?0\.\d{3} \\\[.*\\\] nats", told)


def test_fewer_than_five_claims_leave_room_for_the_baseline(reported, tmp_path):
    results = StudyResults(reported)
    facts = gather(results)
    assert len(clearest(facts["claims"])) == 5
    assert all(finding["claim"] for finding in findings(results, facts))
    facts["claims"] = clearest(facts["claims"])[:4]
    distance, share = 2.5 - facts["baseline"]["nll_mean"], 100 * facts["baseline"]["share_closed_mean"]
    assert findings(results, facts)[-1] == {"claim": None, "text": (
        f"The baseline, dynamic, is {distance:.3f} nats below the best count model and closes {share:.1f} % of the way "
        "from unigram to the floor.")}


def test_a_study_without_an_aa_control_has_no_noise(tmp_path, undrawn):
    study = fake_study(tmp_path)
    compare(study)
    write_report(study)
    assert "A/A noise" not in (study.reports / "README.md").read_text()


def block_of(study) -> str:
    """The block of a study in reports/README.md."""
    results = StudyResults(study)
    return findings_block(results, gather(results))


def test_readme_and_verdicts_are_written_between_their_markers(reported):
    (begin, end), root = markers(reported.settings.name), reported.root
    page = root / "reports/README.md"
    page.write_text(f"Head\n{begin}old{end}\ntail\n")
    for _ in range(2):                      # a second run changes nothing
        assert page in update_readme(reported)
        assert page.read_text() == f"Head\n{begin}{block_of(reported)}{end}\ntail\n"
        verdicts = (root / "docs" / "verdicts.md").read_text()
        assert verdicts.count(begin) == verdicts.count(end) == 1
        rows = [name for name in re.findall(r"^\| (\S+) \|", verdicts, re.M) if name != "claim"]
        assert rows == [row["id"] for rows in gather(StudyResults(reported))["questions"].values() for row in rows]
        # the documentation is built without the reports
        assert re.findall(r"\]\(([^)]*)\)", verdicts) == ["report.md#outcomes"]


def test_the_block_has_one_figure_and_links_that_exist(reported):
    block = block_of(reported)
    assert block.count("![") == 1
    assert 1 <= len(re.findall(r"^- ", block, re.M)) <= 5
    links = set(re.findall(r"\]\(([^)#]+)", block))
    assert links
    assert [link for link in links if not (reported.root / "reports" / link).exists()] == []


def test_a_page_without_a_block_for_the_study_gets_one_at_its_end(reported):
    (begin, end), root = markers(reported.settings.name), reported.root
    pages = [root / "reports/README.md", root / "docs/verdicts.md"]
    for page in pages:
        page.unlink(missing_ok=True)
    page = root / "docs/plateau.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text("Head\n")
    assert update_readme(reported) == pages
    assert pages[0].read_text().startswith("# Findings\n\nWhat this project's training runs show, study by study.")
    assert pages[0].read_text().split(begin)[0] == NEW_PAGES["reports/README.md"] + "\n"
    assert pages[0].read_text().endswith(f"{end}\n")
    assert page.read_text() == "Head\n"     # only a study of the plateau has a block there
