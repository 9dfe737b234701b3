"""Survival statistics of the plateau, against their definitions and SciPy."""
import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from study.analysis.claims import DirectionClaim
from study.analysis.comparisons import compare_arms
from study.analysis.escape import Escapes, escape_table, log_rank_p, restricted_difference
from study.analysis.results import StudyResults
from study.analysis.verdicts import ClaimTest, decide_families
from tests.support.fake_results import fake_study


def runs(*steps):
    """Escape steps; a negative number is the last step of a run that never left the plateau."""
    return Escapes(np.abs(steps), np.array(steps) > 0)


def log_rank(first, second):
    return stats.logrank(*(stats.CensoredData(uncensored=part.step[part.escaped], right=part.step[~part.escaped])
                           for part in (first, second)))


@pytest.mark.parametrize(("first", "second"), [
    ((200, 180, 220, 190), (-900, -900, -900, -900)), ((200, 180, 500, 190), (300, 210, -900, 400)),
    ((200, -900, -900, 190), (-900, 210, -900, 400))])
def test_the_exact_log_rank_test_counts_all_ways_to_deal_the_runs_out(first, second):
    pooled = [*first, *second]
    observed, more, total = abs(log_rank(runs(*first), runs(*second)).statistic), 0, 0
    for chosen in itertools.combinations(range(8), 4):
        rest = [pooled[i] for i in range(8) if i not in chosen]
        more += abs(log_rank(runs(*(pooled[i] for i in chosen)), runs(*rest)).statistic) >= observed - 1e-9
        total += 1
    assert log_rank_p(runs(*first), runs(*second)) == pytest.approx(more / total)


def test_the_exact_test_agrees_with_scipys_for_many_runs():
    rng = np.random.default_rng(0)
    first, second = (runs(*rng.permutation(np.arange(10, 17) * scale).tolist()) for scale in (10, 13))
    assert log_rank_p(first, second) == pytest.approx(log_rank(first, second).pvalue, abs=0.02)


def test_without_an_escape_there_is_no_difference():
    stuck, together = runs(-900, -900, -900), runs(60, 60, 60)
    assert log_rank_p(stuck, stuck) == log_rank_p(together, together) == 1
    assert restricted_difference(stuck, stuck) == {"limit": 900, "difference": 0, "low": 0, "high": 0}


def test_the_difference_is_within_the_steps_that_are_known_of_every_run():
    early, late = runs(200, 180, 220), runs(700, -1000, -900)
    difference = restricted_difference(early, late)
    assert difference["limit"] == 900
    assert difference["difference"] == pytest.approx(np.mean([200 - 700, 180 - 900, 220 - 900]))
    interval = stats.t.interval(0.95, 2, difference["difference"], stats.sem([-500, -720, -680]))
    assert (difference["low"], difference["high"]) == pytest.approx(interval)


@pytest.fixture
def fake(tmp_path):
    """dynamic never leaves the plateau of 4 nats; static leaves it at step 8."""
    study = fake_study(tmp_path)
    for (arm, seed), level in zip(study.cells, (4.2, 4.2, 3.0, 3.0), strict=True):
        records = [{"step": step, "tokens": 100 * step, "loss": 4.0, "learning_rate": 0.1, "gradient_norm": 1.0,
                    "validation_nll": 4.2 if step < 8 else level} for step in range(0, 41, 4)]
        (study.cell(arm, seed) / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    return study


def test_the_table_has_medians_and_censored_arms(fake):
    table = escape_table(StudyResults(fake)).set_index("arm")
    assert table.escaped.to_dict() == {"dynamic": 0, "static": 2}
    assert table.loc["dynamic", "median"] == math.inf
    assert table.loc["static", "median"] == 8
    assert table.loc["static", "median_tokens"] == 800
    assert table.loc["static", "median_seconds"] == pytest.approx(8 * 1.5 / 40)
    assert table.loc["static", ["limit", "difference"]].tolist() == [40, -32]
    assert table.loc["static", "p"] == pytest.approx(2 / 6)
    assert table.loc["static", "p_holm"] == table.loc["static", "p"]
    assert math.isnan(table.loc["dynamic", "p"])


def test_a_claim_about_escape_steps_is_decided_by_the_log_rank_test(fake):
    """Four of four runs differ, but with two seeds an arm no exact test is below 0.05."""
    comparison = compare_arms(StudyResults(fake), "static", "dynamic", "escape_step")
    assert comparison.p == pytest.approx(2 / 6)
    assert comparison.first.tolist() == [8, 8]
    assert comparison.second.tolist() == [40, 40]
    assert comparison.estimate.mean == -32
    claim = DirectionClaim(statement="", source="", published="", claim_type="direction", treatment="static",
                           baseline="dynamic", metric="escape_step", direction="lower", margin=10, min_seeds=2,
                           family="masking")
    verdicts = decide_families({"X": ClaimTest(claim, comparison)})
    assert (verdicts["X"].verdict, verdicts["X"].p) == ("inconclusive", pytest.approx(2 / 6))
    clear = dataclasses.replace(comparison, survival_p=0.008)
    assert decide_families({"X": ClaimTest(claim, clear)})["X"].verdict == "supported"
