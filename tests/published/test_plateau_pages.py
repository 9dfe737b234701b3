"""What is said of the plateau study elsewhere, against its results."""
import json
import math

import pandas as pd
import pytest

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
    rates = table.loc[["lr-tenth", "lr-third", "lr-3x"]]        # "the baseline's rate is the best of four"
    assert (rates.difference > 0).all()
    assert (rates.p_holm < 0.05).all()
    assert rates.escaped.to_dict() == {"lr-tenth": 0, "lr-third": 5, "lr-3x": 0}
    assert (table.loc[["four-times-batch", "beta2-999"], "p_holm"] < 0.05).all()
    assert (table.loc[["untied", "init-torch"], "p_holm"] >= 0.05).all()     # "five seeds do not show"
    assert table.loc[["untied", "init-torch"], "escaped"].tolist() == [5, 4]
    local, counted = (table.loc[name, "median"] for name in ("local-attention", "count-embeddings"))
    assert 300 < local <= 340 < counted < table.loc["dynamic", "median"]        # "at once", "but later"


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
    """docs/plateau.md: "near 6.7 nats, where word frequencies alone give 6.8", "near 6.0", 1.6 % and 39 %."""
    references = json.loads((ROOT / "reports/plateau/data.json").read_text())["references"]
    assert round(math.log(references["unigram"]["validation"]), 1) == 6.8
    for arm, level in (("dynamic", 6.7), ("rotary-positions", 6.0)):
        for seed in (40, 41, 42, 43, 44):
            records = (ROOT / f"runs/plateau/{arm}-{seed}/metrics.jsonl").read_text().splitlines()
            assert json.loads(records[-1])["validation_nll"] == pytest.approx(level, abs=0.06)
    page = (ROOT / "docs/plateau.md").read_text()
    told = " ".join(page.split())
    for words in ("200 steps later they are near 6.7 nats, where word frequencies alone give 6.8",
                  "the largest share is 1.6 %, or 1/64",
                  "The runs with rotary positions are near 6.0 when they end, and a head gives 39 % of its attention"):
        assert words in told
    for arm, share in (("dynamic", 100 / 64), ("rotary-positions", 39)):
        row = next(line for line in page.splitlines() if line.startswith(f"| {arm} |"))
        assert float(row.split("|")[-2]) == pytest.approx(share, abs=0.05)


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
