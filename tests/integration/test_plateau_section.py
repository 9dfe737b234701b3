"""The section about the plateau, in studies whose runs end soon after they have left it."""
import json
import math
import re

import pandas as pd
import pytest

from study.analysis.attention import neighbour_attention
from study.analysis.escape import escape_table
from study.analysis.results import StudyResults
from study.config.arms import resolve
from study.config.fingerprint import settings_yaml
from study.config.load import load_study
from study.report.facts import gather
from study.report.findings import clearest, findings
from study.report.page import write_report
from study.report.plateau import escape_findings, plateau_section
from tests.support.drawings import without_drawings
from tests.support.fake_results import TUNED, compare, fake_study


@pytest.fixture
def fake(tmp_path):
    """dynamic never leaves the plateau of 4 nats; static leaves it at step 8, when a head turns to a neighbour."""
    study = fake_study(tmp_path)
    path = study.params_path
    path.write_text(re.sub(r"^training:$", "training:\n  stop_after_escape: 20\n  attention_offsets: true",
                           path.read_text(), flags=re.M))
    study = load_study(study.folder)
    for arm, seed in study.cells:
        (study.cell(arm, seed) / "settings.yaml").write_bytes(settings_yaml(resolve(study, arm, TUNED)))
        records = []
        for step in range(0, 41, 4):
            leaves = arm == "static" and step >= 8
            records.append({"step": step, "tokens": 100 * step, "loss": 4.0, "learning_rate": 0.1, "gradient_norm": 1.0,
                            "validation_nll": 3.0 if leaves else 4.2,
                            "attention_offsets": [[[0.03, 0.8 if leaves else 0.03, 0.1, 0.03, 0.03], [0.03] * 5]]})
        (study.cell(arm, seed) / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    return study


def test_the_report_leads_with_the_escapes(fake):
    compare(fake)
    with without_drawings("plateau_figures"):
        write_report(fake)
    text = (fake.reports / "README.md").read_text()
    findings = text[text.index("## Findings"):text.index("## Outcomes")]
    assert "- dynamic, the baseline, leaves the unigram plateau in none of 2 runs within 12 steps." in findings
    assert "Too few runs for a test: static (8)." in findings
    row = next(line for line in findings.splitlines() if line.startswith("| static |"))
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[2:5] == ["2 of 2", "8", "the same at every seed"]
    assert cells[7:9] == ["≤ −32", "at every seed"]     # the runs of dynamic end on the plateau, at step 40
    assert "; ≥ or ≤ if runs of one of the two arms never left it, so that" in findings
    assert "An escape step is known to one validation interval, 4 steps." in findings
    assert cells[-3:-1] == ["80.0", "2 of 2 (8)"]
    assert re.search(r"^\| dynamic \|.* \| 3.0 \| 0 of 2 \|$", findings, re.M)
    assert "| dynamic | 0 of 2 | ∞ |" in findings
    for name in ("plateau-survival", "plateau-differences", "plateau-attention", "plateau-offsets"):
        assert f"](figures/{name}.svg)" in findings
        drawn = (fake.reports / "figures" / f"{name}.svg").read_text()
        assert "static" in drawn or name == "plateau-differences"       # a figure of another module is not drawn here


def test_what_is_measured_after_training_is_left_out(fake, undrawn):
    compare(fake)
    write_report(fake)
    text = (fake.reports / "README.md").read_text()
    assert re.findall(r"^## (.*)", text, re.M) == [
        "Findings", "Ladder of references", "When runs leave the plateau", "Outcomes",
        "Checks of code and arithmetic", "Arms", "Methods", "Reproduction"]
    drawn = {path.stem for path in (fake.reports / "figures").glob("*.svg")}
    assert drawn == {"ladder", "plateau-survival", "plateau-differences", "plateau-attention", "plateau-offsets",
                     "curves-mask-schedule", "search"}
    assert "[attention to near positions](tables/attention.csv)" in text


def test_the_table_of_attention_has_the_largest_share_of_each_offset(fake):
    compare(fake)
    table = pd.read_csv(fake.reports / "tables" / "attention.csv").set_index(["arm", "step"])
    assert table.loc[("static", 4)].tolist() == [2, 0.03, 0.03, 0.1, 0.03, 0.03]        # over 2 runs; offsets -2 to 2
    assert table.loc[("static", 8)].tolist() == [2, 0.03, 0.8, 0.1, 0.03, 0.03]


def test_arms_that_read_other_numbers_of_tokens_are_compared_in_tokens_as_well(fake):
    for seed in (0, 1):
        path = fake.cell("static", seed) / "training.json"
        training = json.loads(path.read_text())
        path.write_text(json.dumps(training | {"tokens": 4 * training["tokens"]}))
    compare(fake)
    results = StudyResults(fake)
    row = plateau_section(results, gather(results))["rows"][1]
    assert "static reads another number of tokens per step than dynamic." in row["in_tokens"]
    assert plateau_section(results, gather(results))["rows"][0]["in_tokens"] == ""


def test_the_ladder_says_where_such_runs_stop(fake, undrawn):
    compare(fake)
    write_report(fake)
    text = (fake.reports / "README.md").read_text()
    assert ("best count model and closes 78.0 % of the way from unigram to the floor. Its runs end 20 steps after they "
            "leave the plateau, or after 12 steps, so this is where they stop and not how low they could go.") in text
    assert '<div class="columns">' in (fake.reports / "index.html").read_text()     # beside the findings


def test_a_difference_without_a_bound_is_shown_as_it_is(fake):
    compare(fake)
    results = StudyResults(fake)
    table, cells = escape_table(results), pd.read_csv(fake.reports / "tables" / "cells.csv")
    table.loc[table.arm == "static", ["low", "high"]] = -40.0, -24.0

    def shown(steps):
        frames = {"escape": table, "cells": cells.assign(escape_step=steps)}
        row = plateau_section(results, {"frames": frames, "claims": []})["rows"][1]
        return row["bound"], row["shown_difference"], row["difference_interval"]

    assert shown([40, 40, 8, 8]) == ("", "−32", "[−40, −24]")
    assert shown([math.nan, 40, 8, 8]) == ("≤", "≤ −32", "[−∞, −24]")
    assert shown([math.nan, 40, math.nan, 8]) == ("", "−32", "[−40, −24]")


def decided(name, **more):
    """A decided claim that static leaves the plateau at another step than dynamic."""
    return {"id": name, "statement": "It helps.", "claim_type": "direction", "source": "S0", "fidelity": "proxy",
            "treatment": name, "baseline": "dynamic", "metric": "escape_step", "margin": 10.0, "question": "positions",
            "exploratory": False, "outcome": "holds", "shown": "holds",
            "result": {"outcome": "holds", "measured": "", "effect": -32.0, "low": -40.0, "high": -24.0}} | more


def test_findings_are_the_arms_and_then_decided_claims_with_fidelity_and_section(fake):
    compare(fake)
    results = StudyResults(fake)
    facts = gather(results)
    assert [finding["claim"] for finding in findings(results, facts)] == [None, None]      # two seeds decide nothing
    claims = [decided("P2", fidelity="same question"), decided("S0.7", exploratory=True, shown="holds, exploratory"),
              decided("open", outcome="undecided")]
    found = findings(results, facts | {"claims": claims})
    assert [finding["claim"] for finding in found] == [None, None, "P2", "S0.7"]
    assert found[2] == {"claim": "P2", "anchor": "positions", "words": "holds; same question", "text": (
        "It helps: runs of P2 leave the unigram plateau 32 steps earlier [24, 40] than runs of dynamic.")}
    assert found[3]["words"] == "holds, exploratory; proxy"
    many = [decided(f"L{number}") for number in range(9)]
    assert len(clearest(many)) == len(findings(results, facts | {"claims": many})) == 5


def test_other_studies_have_no_such_section(tmp_path):
    results = StudyResults(fake_study(tmp_path))
    assert plateau_section(results, {"frames": {"escape": escape_table(results)}, "claims": []}) is None


def test_only_the_share_at_a_neighbour_counts():
    assert neighbour_attention({"attention_offsets": [[[0.9, 0.1, 0.9, 0.3, 0.9]], [[0.9, 0.2, 0.9, 0.1, 0.9]]]}) == 0.3
    assert neighbour_attention({"step": 3}) is None


def row(arm, median, p, difference, escaped=5, smallest=0.01, baseline="base"):
    return {"arm": arm, "baseline": math.nan if arm == "base" else baseline, "n": 5, "escaped": escaped,
            "median": median, "median_low": median - 20.0, "median_high": math.inf, "p_holm": p,
            "difference": difference, "smallest_p": smallest}


def test_findings_sort_the_arms_into_earlier_later_and_unknown():
    table = pd.DataFrame([row("base", 1380.0, math.nan, math.nan), row("late", math.inf, 0.01, 300, escaped=2),
                          row("fast", 200.0, 0.01, -1180), row("soon", 360.0, 0.02, -1020),
                          row("alike", 1260.0, 0.3, -200), row("never", math.inf, 0.2, 400, escaped=0),
                          row("few", 700.0, 0.1, -680, smallest=0.1), row("one", 800.0, math.nan, -580)])
    assert escape_findings(table, 2000, "base") == [
        "base, the baseline, leaves the unigram plateau at step 1,380 [1,360, ∞]. All steps are medians over seeds. "
        "Earlier than the baseline: fast (200), soon (360).",
        "Later than the baseline: late (beyond 2,000; 2 of 5 runs). No detectable difference: alike (1,260); never in "
        "no run within 2,000 steps. Too few runs for a test: few (700), one (800)."]


def test_arms_with_another_baseline_are_not_called_earlier_or_later_than_that_of_the_study():
    table = pd.DataFrame([
        row("base", 1380.0, math.nan, math.nan), row("fast", 200.0, 0.01, -1180),
        row("faster", 100.0, 0.01, -100, baseline="fast"), row("slower", 300.0, 0.01, 100, baseline="fast"),
        row("stuck", math.inf, 0.5, 0, escaped=0, smallest=0.2, baseline="fast"),
        row("alone", 700.0, math.nan, math.nan, smallest=math.nan, baseline=math.nan)])
    assert escape_findings(table, 2000, "base") == [
        "base, the baseline, leaves the unigram plateau at step 1,380 [1,360, ∞]. All steps are medians over seeds. "
        "Earlier than the baseline: fast (200).",
        "Compared with another arm: faster (100), slower (300); stuck in no run within 2,000 steps. Compared with no "
        "arm of this study: alone (700)."]


def test_arms_that_no_run_leaves_are_named_together():
    arms = [row("base", 1380.0, math.nan, math.nan),
            *(row(arm, math.inf, 0.01, 592, escaped=0) for arm in ("flat", "hot", "cold"))]
    later = [escape_findings(pd.DataFrame(arms[:count]), 2000, "base")[1:] for count in (1, 2, 3, 4)]
    assert later == [[], ["Later than the baseline: flat in no run within 2,000 steps."],
                     ["Later than the baseline: flat and hot in no run within 2,000 steps."],
                     ["Later than the baseline: flat, hot and cold in no run within 2,000 steps."]]


def test_an_interval_is_shown_with_the_step():
    table = pd.DataFrame([row("base", 200.0, math.nan, math.nan, escaped=4)])
    assert escape_findings(table, 2000, "base") == [
        "base, the baseline, leaves the unigram plateau at step 200 [180, ∞] (4 of 5 runs). All steps are "
        "medians over seeds."]


def test_runs_that_leave_at_one_step_have_no_interval():
    alike = row("base", 340.0, math.nan, math.nan) | {"median_low": math.nan, "median_high": math.nan}
    assert escape_findings(pd.DataFrame([alike]), 2000, "base") == [
        "base, the baseline, leaves the unigram plateau at step 340 at every seed. All steps are medians over seeds."]
    single = escape_findings(pd.DataFrame([alike | {"n": 1, "escaped": 1}]), 2000, "base")
    assert single[0].startswith("base, the baseline, leaves the unigram plateau at step 340. ")
