"""What is said of the plateau study elsewhere, against its results."""
import json
import math
import re

import pandas as pd
import pytest

from study.analysis.attention import LOOKS, neighbour_attention
from study.doctor.log_checks import (
    ABSOLUTE_TOKENS,
    ROTARY_TOKENS,
    RowSettings,
    absolute_positions,
    check_batch_size,
)
from tests.support.studies import ROOT


def test_the_pages_state_what_the_plateau_study_measured():
    table = pd.read_csv(ROOT / "reports/plateau/tables/escape.csv").set_index("arm")
    readme, page = (" ".join((ROOT / name).read_text().split()) for name in ("README.md", "docs/plateau.md"))
    assert "stay there seven times as long as the same encoders with rotary positions" in readme
    assert "given seven times as many steps and a warm-up" in page
    assert "needed seven times as many steps to fall 0.1 nats below" in " ".join(
        (ROOT / "docs/doctor.md").read_text().split())
    assert "stayed on it seven times as long" in absolute_positions().detail
    assert round(table.loc["dynamic", "median"] / table.loc["rotary-positions", "median"]) == 7
    assert table.loc["dynamic", "escaped"] == table.loc["dynamic", "n"] == 5    # "so do the small ones here"
    assert table.loc["no-warmup", "escaped"] == 0
    assert table.loc["no-warmup", "p_holm"] < 0.05
    assert table.loc["pre-ln", "p_holm"] >= 0.05        # "no difference that five seeds can show"
    relative = table.loc[["rotary-positions", "relative-positions", "alibi", "rotary-and-absolute"]]
    assert (relative.p_holm < 0.05).all()
    cells = pd.read_csv(ROOT / "reports/plateau/tables/cells.csv").set_index("arm").escape_step
    without = cells.loc[["dynamic", "sinusoidal-positions", "fast-positions"]]
    assert cells.loc[relative.index].max() < without.min()      # "every run with such positions"
    assert table.loc["fast-positions", "difference"] > 0        # "it does not help to learn ten times faster"
    assert table.loc["repeated-lines", "escaped"] == 0
    rates = table.loc[["lr-tenth", "lr-third", "lr-2x", "lr-3x"]]       # "the baseline's rate is the best of five"
    assert (rates.difference > 0).all()
    assert (rates.p_holm < 0.05).all()
    assert rates.escaped.to_dict() == {"lr-tenth": 0, "lr-third": 5, "lr-2x": 4, "lr-3x": 0}
    assert table.loc[["all-mask", "init-bert"], "escaped"].tolist() == [0, 0]
    assert (table.loc[["all-mask", "init-bert", "rate-40"], "p_holm"] < 0.05).all()
    assert (table.loc[["four-times-batch", "beta2-999"], "p_holm"] < 0.05).all()
    assert (table.loc[["untied", "init-torch"], "p_holm"] >= 0.05).all()     # "five seeds do not show"
    assert table.loc[["untied", "init-torch"], "escaped"].tolist() == [5, 4]
    local, counted = (table.loc[name, "median"] for name in ("local-attention", "count-embeddings"))
    assert 300 < local <= 340 < counted < table.loc["dynamic", "median"]        # "at once", "but later"


def test_the_checklist_has_the_differences_of_the_table():
    """docs/plateau.md: the column of evidence, against the rows of the table above it."""
    page = (ROOT / "docs/plateau.md").read_text().replace("\\", "")
    table, checklist = page.split("<!-- plateau:end -->")
    rows = {line.split(" | ")[0].strip("| "): line for line in table.splitlines() if line.startswith("| ")}
    for arm, evidence in {"repeated-lines": "half of the rows copied: ≥ +592 [518, ∞]",
                          "no-warmup": "no warm-up: ≥ +592 [518, ∞]", "lr-third": "a third: +300 [178, 422]",
                          "lr-tenth": "a tenth, or three times: ≥ +592 [518, ∞]",
                          "lr-3x": "a tenth, or three times: ≥ +592 [518, ∞]",
                          "lr-2x": "twice: ≥ +428 [274, ∞]", "init-bert": "| 0.02: ≥ +592 [518, ∞]",
                          "all-mask": "all `[MASK]`: ≥ +592 [518, ∞]", "rate-40": "40 %: −620 [−676, −564]",
                          "four-times-batch": "four times the rows: −912 [−957, −867]",
                          "beta2-999": "0.999: +300 [184, 416]",
                          "rotary-positions": "RoFormerForMaskedLM` | −1,208 [−1,277, −1,139]"}.items():
        assert evidence in checklist
        assert re.sub(r"^.*[:|] ", "", evidence).replace(" [", " | [") in rows[arm]
    tokens = pd.read_csv(ROOT / "reports/plateau/tables/escape.csv").set_index("arm").tokens_difference
    assert f"on {tokens['four-times-batch'] / 1e6:.1f} million more tokens" in checklist
    assert "1,380 steps [1,340, 1,480], or 5.7 million tokens" in checklist
    assert "| 1,380 | [1,340, 1,480] | 5,652,480 |" in rows["dynamic"]


def test_arms_with_absolute_positions_drift_across_the_line():
    """docs/plateau.md: "that is rare", "0.02 nats more at step 1,340"."""
    table = pd.read_csv(ROOT / "reports/plateau/tables/escape.csv").set_index("arm")
    drifting = ["dynamic", "fast-positions", "pre-ln", "lr-third", "beta2-999", "untied", "count-embeddings"]
    assert (table.loc[drifting, "attending"] == 0).all()
    assert (table.loc[drifting, "escaped"] == 5).all()
    assert table.loc["four-times-batch", "attending"] == 1
    assert table.loc["alibi", ["attending", "attends"]].tolist() == [5, 0]
    at = {arm: [json.loads(line)["validation_nll"] for seed in (40, 41, 42, 43, 44) for line in (
        ROOT / f"runs/plateau/{arm}-{seed}/metrics.jsonl").read_text().splitlines() if '"step": 1340,' in line]
        for arm in ("beta2-999", "dynamic")}
    assert round(sum(at["beta2-999"]) / 5 - sum(at["dynamic"]) / 5, 2) == 0.02


def test_a_head_that_finds_a_neighbour_does_so_before_the_run_leaves():
    """docs/plateau.md: "in 23 runs, and in 22 of them before the run leaves", "at step 460 (median)", "at 640"."""
    cells = pd.read_csv(ROOT / "reports/plateau/tables/cells.csv").set_index(["arm", "seed"]).escape_step
    first = {}
    for (arm, seed), escape in cells.items():
        records = map(json.loads, (ROOT / f"runs/plateau/{arm}-{seed}/metrics.jsonl").read_text().splitlines())
        looks = [record["step"] for record in records if (neighbour_attention(record) or 0) >= LOOKS]
        if looks and arm not in ("alibi", "local-attention"):
            first[arm, seed] = looks[0] < escape
    assert (len(first), sum(first.values())) == (23, 22)
    table = pd.read_csv(ROOT / "reports/plateau/tables/escape.csv").set_index("arm")
    assert table.loc["relative-positions", ["attends", "median"]].tolist() == [460, 640]


def test_a_larger_batch_saves_steps_and_no_text():
    """docs/plateau.md: "460 to 540 steps", "little more than a third", "7.9 million", "5.7 million", "300 steps"."""
    table = pd.read_csv(ROOT / "reports/plateau/tables/escape.csv").set_index("arm")
    steps = pd.read_csv(ROOT / "reports/plateau/tables/cells.csv").set_index("arm").escape_step
    page = " ".join((ROOT / "docs/plateau.md").read_text().split())
    larger, baseline, beta2 = (steps.loc[arm] for arm in ("four-times-batch", "dynamic", "beta2-999"))
    assert f"after {larger.min():.0f} to {larger.max():.0f} steps, little more than a third of the baseline's" in page
    assert 1 / 3 < table.loc["four-times-batch", "median"] / table.loc["dynamic", "median"] < 0.36
    millions = (table.median_tokens / 1e6).round(1)
    theirs, ours = millions["four-times-batch"], millions["dynamic"]
    assert f"read {theirs} million tokens (median), and the baseline {ours} million" in page
    assert beta2.min() > baseline.max()
    assert f"by {table.loc['beta2-999', 'difference']:.0f} steps on average" in page
    detail = check_batch_size(None, RowSettings(32, 128, 0.15), None, stuck=True).detail
    assert "after little more than a third of the steps, which was more text" in detail


def test_the_baseline_crosses_the_line_without_looking_at_a_neighbour():
    """docs/plateau.md: "near 6.67 nats, where word frequencies alone give 6.80", "near 6.0", 1.6 % and 39 %."""
    references = json.loads((ROOT / "reports/plateau/data.json").read_text())["references"]
    assert round(math.log(references["unigram"]["validation"]), 2) == 6.8
    for arm, level, distance in (("dynamic", 6.67, 0.02), ("rotary-positions", 6.0, 0.06)):
        for seed in (40, 41, 42, 43, 44):
            records = (ROOT / f"runs/plateau/{arm}-{seed}/metrics.jsonl").read_text().splitlines()
            assert json.loads(records[-1])["validation_nll"] == pytest.approx(level, abs=distance)
    page = (ROOT / "docs/plateau.md").read_text()
    told = " ".join(page.split())
    for words in ("200 steps later they are near 6.67 nats, where word frequencies alone give 6.80",
                  "the largest share is 1.6 %, or 1/64",
                  "The runs with rotary positions are near 6.0 when they end, and a head gives 39 % of its attention"):
        assert words in told
    for arm, share in (("dynamic", 100 / 64), ("rotary-positions", 39)):
        row = next(line for line in page.splitlines() if line.startswith(f"| {arm} |"))
        assert float(row.split("|")[-3]) == pytest.approx(share, abs=0.05)


def test_a_head_finds_a_neighbour_in_three_runs_with_the_initialisation_of_pytorch():
    """docs/plateau.md: "In three of the four", "16 to 61 %", "No run of the baseline or of *untied*"."""
    steps = pd.read_csv(ROOT / "reports/plateau/tables/cells.csv").set_index(["arm", "seed"]).escape_step
    shares = {}
    for arm in ("init-torch", "dynamic", "untied"):
        for seed in (40, 41, 42, 43, 44):
            records = (ROOT / f"runs/plateau/{arm}-{seed}/metrics.jsonl").read_text().splitlines()
            shares[arm, seed] = neighbour_attention(json.loads(records[-1]))
    attentive = {cell: share for cell, share in shares.items() if share > 0.1}
    assert len(attentive) == 3
    assert all(arm == "init-torch" and steps.loc[arm, seed] > 0 for arm, seed in attentive)
    assert max(share for cell, share in shares.items() if cell not in attentive) < 0.03
    low, high = (round(100 * end(attentive.values())) for end in (min, max))
    assert f"{low} to {high} % of its attention when the run ends" in " ".join(
        (ROOT / "docs/plateau.md").read_text().split())


def test_more_masks_per_row_help_on_less_text():
    """docs/plateau.md: "after 740 to 840 steps", "3.2 million tokens (median) in place of 5.7 million"."""
    steps = pd.read_csv(ROOT / "reports/plateau/tables/cells.csv").set_index("arm").escape_step.loc["rate-40"]
    tokens = pd.read_csv(ROOT / "reports/plateau/tables/escape.csv").set_index("arm").median_tokens / 1e6
    page = " ".join((ROOT / "docs/plateau.md").read_text().split())
    assert f"every run leaves after {steps.min():.0f} to {steps.max():.0f} steps" in page
    assert f"{tokens['rate-40']:.1f} million tokens (median) in place of {tokens['dynamic']:.1f} million" in page


def test_copies_are_learnt_while_other_text_stays_on_the_plateau():
    """docs/plateau.md: "falls to 3.4", "which needs 1,380"."""
    page = " ".join((ROOT / "docs/plateau.md").read_text().split())
    assert "The training loss falls to 3.4" in page
    assert "as 1,000 steps of the baseline, which needs 1,380" in page
    for seed in (40, 41, 42, 43, 44):
        records = (ROOT / f"runs/plateau/repeated-lines-{seed}/metrics.jsonl").read_text().splitlines()
        losses = [record["loss"] for record in map(json.loads, records[-10:]) if record.get("loss")]
        assert sum(losses) / len(losses) == pytest.approx(3.4, abs=0.1)
    assert pd.read_csv(ROOT / "reports/plateau/tables/escape.csv").set_index("arm").loc["dynamic", "median"] == 1380


def test_the_doctor_states_what_the_plateau_study_measured():
    cells = pd.read_csv(ROOT / "reports/plateau/tables/cells.csv").set_index("arm").escape_step
    for arm, (low, high) in (("rotary-positions", ROTARY_TOKENS), ("dynamic", ABSOLUTE_TOKENS)):
        tokens = cells.loc[arm] * 4096
        assert low <= tokens.min() < low + 1e5
        assert high - 1e5 < tokens.max() <= high
