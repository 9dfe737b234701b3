"""Survival statistics of the plateau, against their definitions and SciPy."""
import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from study.analysis.claims import DirectionClaim, EqualClaim, RangeClaim, SpreadClaim
from study.analysis.comparisons import compare_arms
from study.analysis.difference_claims import ClaimTest, decide_families
from study.analysis.escape import (
    Escapes,
    _log_rank,
    _median,
    escape_table,
    escapes,
    log_rank_p,
    restricted_estimate,
)
from study.analysis.number_claims import decide_number
from study.analysis.reasons import Flag
from study.analysis.results import StudyResults
from study.analysis.statistics import t_estimate
from study.analysis.verdicts import decide_all
from tests.support.fake_results import fake_cell, fake_study


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


@pytest.mark.parametrize("steps", [
    (200, 180, 220, -900, -300), (200, 200, -200, 200, 180), (-900, -900, -900, 40, 900)])
def test_the_statistic_of_every_deal_is_scipys(steps):
    deals = np.array(list(itertools.permutations(steps)))
    expected = [log_rank(runs(*deal[:2]), runs(*deal[2:])).statistic for deal in deals]
    assert _log_rank(np.array(steps))(deals[:, :2], deals[:, 2:], axis=-1).tolist() == expected


def test_without_an_escape_there_is_no_difference():
    stuck, together = runs(-900, -900, -900), runs(60, 60, 60)
    assert log_rank_p(stuck, stuck) == log_rank_p(together, together) == 1
    limit, *_, estimate = restricted_estimate(stuck, stuck)
    assert limit == 900
    assert all(map(math.isnan, (estimate.mean, estimate.low, estimate.high)))


def test_one_run_an_arm_gives_no_test_and_no_interval():
    assert math.isnan(log_rank_p(runs(200), runs(-900)))
    estimate = restricted_estimate(runs(200), runs(-900))[-1]
    assert estimate.mean == -700
    assert math.isnan(estimate.low)


def test_a_study_with_one_seed_has_a_table(fake):
    one = fake.model_copy(update={"settings": fake.settings.model_copy(update={"seeds": [0]})})
    table = escape_table(StudyResults(one)).set_index("arm")
    assert table.escaped.tolist() == [0, 1]
    assert table.p.isna().all()
    assert table.p_holm.isna().all()


def test_the_difference_is_within_the_steps_that_are_known_of_every_run():
    early, late = runs(200, 180, 220), runs(700, -1000, -900)
    limit, first, second, estimate = restricted_estimate(early, late)
    assert limit == 900
    assert (first - second).tolist() == [200 - 700, 180 - 900, 220 - 900]
    assert estimate.mean == pytest.approx(np.mean([-500, -720, -680]))
    interval = stats.t.interval(0.95, 2, estimate.mean, stats.sem([-500, -720, -680]))
    assert (estimate.low, estimate.high) == pytest.approx(interval)


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


def test_medians_have_the_intervals_of_statsmodels(fake):
    """The fourth of five escapes bounds the interval of the median from above (Brookmeyer and Crowley)."""
    row = _median(runs(100, 120, 150, 170, -300))
    assert row["median"] == 150
    assert row["median_low"] == 100
    assert row["median_high"] == math.inf
    assert math.isnan(_median(runs(60, 60, 60))["median_high"])


def test_p_is_adjusted_over_the_arms_of_a_factor(tmp_path):
    study = fake_study(tmp_path)
    more = ["dynamic", "static", "static-10", "all-mask"]
    study = study.model_copy(update={"settings": study.settings.model_copy(update={"arms": more})})
    for arm in more:
        for seed in study.settings.seeds:
            fake_cell(study, arm, seed, 2.0)
    table = escape_table(StudyResults(study)).set_index("arm")
    assert table.p[["static", "static-10", "all-mask"]].tolist() == [1, 1, 1]
    records = [{"step": step, "tokens": 100 * step, "loss": 4.0, "validation_nll": 4.2} for step in range(0, 41, 4)]
    for seed in study.settings.seeds:
        for arm in more[1:]:
            (study.cell(arm, seed) / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    table = escape_table(StudyResults(study)).set_index("arm")
    assert table.p_holm["all-mask"] == table.p["all-mask"] == pytest.approx(1 / 3)
    assert table.p_holm["static"] == table.p_holm["static-10"] == pytest.approx(2 / 3)


def test_a_diverged_run_counts_to_the_end_of_its_steps(fake):
    path = fake.cell("dynamic", 0) / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "diverged", "steps": 7}))
    planned = StudyResults(fake).cell("dynamic", 0).settings.training.steps
    assert escapes(StudyResults(fake), StudyResults(fake).of_arm("dynamic")).step.tolist() == [planned, 40]


@pytest.mark.parametrize(("arm", "high", "outcome", "flag"), [
    ("dynamic", 20, "reversed", Flag.ABOVE_BAND), ("dynamic", 100, "undecided", Flag.NEVER_ESCAPED),
    ("static", 20, "holds", Flag.INSIDE_BAND)])
@pytest.mark.parametrize("metric", ["escape_step", "escape_tokens"])
def test_a_run_that_never_escapes_can_only_exceed_a_band(fake, metric, arm, high, outcome, flag):
    """The runs of dynamic are on the plateau at their last step, 40; those of static leave it at step 8."""
    training = StudyResults(fake).cell(arm, 0).training
    band = RangeClaim(statement="", source="", published="", claim_type="range", arm=arm, metric=metric, min_seeds=2,
                      high=high * (training["tokens"] / training["steps"] if metric == "escape_tokens" else 1),
                      fidelity="same question", differs="")
    verdict = decide_number(StudyResults(fake), band)
    assert (verdict.outcome, verdict.flags) == (outcome, {flag})
    assert verdict.measured == ("0 of 2 runs of dynamic leave the plateau within 40 steps" if arm == "dynamic" else "")
    assert decide_number(StudyResults(fake), band.model_copy(update={"min_seeds": 3})).flags == {Flag.TOO_FEW_SEEDS}


def test_a_run_that_never_escapes_leaves_a_claim_undecided_and_is_not_called_unmeasured(fake):
    """Else whether a claim is shown would depend on what came out."""
    shared = {"statement": "", "source": "", "published": "", "fidelity": "proxy", "differs": "", "min_seeds": 2}
    claims = {"tokens": DirectionClaim(**shared, claim_type="direction", treatment="static", baseline="dynamic",
                                       metric="escape_tokens", direction="lower", margin=10, family="masking"),
              "spread": SpreadClaim(**shared, claim_type="spread", arm="dynamic", metric="escape_step", margin=10)}
    for verdict in decide_all(StudyResults(fake), claims, {}).values():
        assert (verdict.outcome, verdict.flags) == ("undecided", {Flag.NEVER_ESCAPED})
        assert verdict.reason == "2 of 2 runs of dynamic never left the unigram plateau"
    for seed in (0, 1):                     # an arm that is not trained has no escape to wait for
        path = fake.cell("dynamic", seed) / "training.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"steps": 0}))
    for verdict in decide_all(StudyResults(fake), claims, {}).values():
        assert (verdict.outcome, verdict.flags) == ("not testable here", {Flag.NOT_MEASURED})


def test_a_claim_about_escape_steps_is_decided_by_the_log_rank_test(fake):
    """Four of four runs differ, but with two seeds an arm no exact test is below 0.05."""
    comparison = compare_arms(StudyResults(fake), "static", "dynamic", "escape_step")
    assert comparison.p == pytest.approx(2 / 6)
    assert comparison.first.tolist() == [8, 8]
    assert comparison.second.tolist() == [40, 40]
    assert comparison.estimate.mean == -32
    claim = DirectionClaim(statement="", source="", published="", claim_type="direction", treatment="static",
                           baseline="dynamic", metric="escape_step", direction="lower", margin=10, min_seeds=2,
                           family="masking", fidelity="same question", differs="")
    verdicts = decide_families({"X": ClaimTest(claim, comparison)}, {})
    assert (verdicts["X"].outcome, verdicts["X"].p) == ("undecided", pytest.approx(2 / 6))
    assert verdicts["X"].flags == {Flag.NOT_TOLD_APART}
    assert np.isnan(verdicts["X"].smallest_detectable_effect)       # a t test would detect something else
    nowhere = compare_arms(StudyResults(fake), "dynamic", "dynamic", "escape_step")
    assert decide_families({"X": ClaimTest(claim, nowhere)}, {})["X"].flags == {Flag.NONE_ESCAPED}
    clear = dataclasses.replace(comparison, survival_p=0.008)
    assert decide_families({"X": ClaimTest(claim, clear)}, {})["X"].outcome == "holds"
    other = claim.model_copy(update={"direction": "higher"})
    assert decide_families({"X": ClaimTest(other, clear)}, {})["X"].outcome == "reversed"
    equal = EqualClaim(**claim.model_dump(exclude={"direction", "claim_type"}), claim_type="equal")
    wide = equal.model_copy(update={"margin": 50})
    for one, tested, outcome in ((equal, clear, "reversed"), (wide, clear, "undecided"),
                                 (equal, comparison, "undecided")):
        assert decide_families({"X": ClaimTest(one, tested)}, {})["X"].outcome == outcome
    zero = dataclasses.replace(clear, estimate=t_estimate([0.0, 0.0]))
    stuck = dataclasses.replace(zero, survival_p=1.0)
    for undecided in (zero, stuck):
        assert decide_families({"X": ClaimTest(claim, undecided)}, {})["X"].outcome == "undecided"
