"""Effects along training: read at fractions of each arm's own steps, and classed by how they develop."""
import json
import math

import numpy as np
import pytest

from study.analysis.along_training import FRACTIONS, Course, along_training_table, course, nll_at, summary
from study.analysis.results import StudyResults
from tests.support.fake_results import UNIGRAM_NLL, fake_study


@pytest.fixture
def fake(tmp_path):
    return fake_study(tmp_path)


def rewrite(study, arm, seed, validations, **training):
    """Replaces the curve of a cell. validations: step -> NLL; None for a step without a validation."""
    folder = study.cell(arm, seed)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(
        {"step": step, "tokens": step, "loss": 3.0} | ({} if nll is None else {"validation_nll": nll})) + "\n"
        for step, nll in validations.items()))
    path = folder / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | training))


def rows(study):
    table = along_training_table(StudyResults(study))
    return table.set_index("fraction")


def test_effects_and_intervals_by_hand(fake):
    """Differences of 0.3 and 0.1 at a quarter: mean 0.2, standard error 0.1, and t(0.975, 1) = 12.7062."""
    for seed, start in ((0, 3.0), (1, 3.1)):
        rewrite(fake, "dynamic", seed, {0: 4.2, 10: start, 20: 2.8, 40: 2.2})
    rewrite(fake, "static", 0, {0: 4.2, 10: 3.3, 20: 2.9, 40: 2.2})
    rewrite(fake, "static", 1, {0: 4.2, 10: 3.2, 20: 2.9, 40: 2.3})
    table = rows(fake)
    assert set(table.index) == set(FRACTIONS)
    assert set(table.treatment) == {"static"}
    assert set(table.baseline) == {"dynamic"}
    quarter, half, end = (table.loc[fraction] for fraction in (0.25, 0.5, 1.0))
    assert (quarter.step, quarter.baseline_step, quarter.n) == (10, 10, 2)
    assert (quarter.effect, quarter.low, quarter.high) == pytest.approx((0.2, 0.2 - 1.27062, 0.2 + 1.27062), abs=1e-5)
    assert (half.effect, half.low, half.high) == pytest.approx((0.1, 0.1, 0.1))
    assert (end.effect, end.low, end.high) == pytest.approx((0.05, 0.05 - 0.635310, 0.05 + 0.635310), abs=1e-5)


def test_each_arm_is_read_at_fractions_of_its_own_steps(fake):
    for seed in (0, 1):
        rewrite(fake, "static", seed, {0: 4.2, 20: 3.6, 40: 3.0, 80: 2.5}, steps=80)
    half = rows(fake).loc[0.5]
    assert (half.step, half.baseline_step) == (40, 20)
    assert half.effect == pytest.approx(3.0 - 2.2)


@pytest.mark.parametrize(("fraction", "expected"), [
    (0.25, (8, 3.0)),                       # step 10: nearer to 8 than to 16
    (0.3, (8, 3.0)),                        # step 12: as near to both
    (0.35, (16, 2.9)), (1.0, (38, 2.2)), (0.05, (0, 4.2))])
def test_the_nearest_validation_is_read(fake, fraction, expected):
    rewrite(fake, "static", 0, {0: 4.2, 8: 3.0, 12: None, 16: 2.9, 38: 2.2, 40: None})
    results = StudyResults(fake)
    assert nll_at(results, results.cell("static", 0), fraction) == expected


def test_a_diverged_run_scores_no_worse_than_unigram_frequencies(fake):
    results = StudyResults(fake)
    steps = results.cell("static", 0).settings.training.steps
    rewrite(fake, "static", 0, {0: 5.0, steps // 4: 3.0, steps // 4 + 1: None}, steps=steps // 4 + 1, status="diverged")
    results = StudyResults(fake)
    cell = results.cell("static", 0)
    assert nll_at(results, cell, 0.05)[1] == UNIGRAM_NLL
    assert nll_at(results, cell, 0.25)[1] == 3.0
    assert nll_at(results, cell, 0.5)[1] == UNIGRAM_NLL      # it had stopped


def test_arms_without_validations_are_left_out(fake):
    rewrite(fake, "static", 1, {0: 4.2}, steps=0)
    table = along_training_table(StudyResults(fake))
    assert table.empty
    assert summary(table) == []


def at(effect, half=0.1):
    return {"effect": effect, "low": effect - half, "high": effect + half}


@pytest.mark.parametrize(("quarter", "end", "expected"), [
    (at(0.05), at(0.05), Course.NONE), (at(0.0, 0.0), at(0.0, 0.0), Course.NONE),
    (at(0.5), at(0.05), Course.HEAD_START), (at(-0.5), at(0.05), Course.HEAD_START),
    (at(0.5), at(0.5), Course.LASTING), (at(0.5), at(0.25), Course.LASTING), (at(-0.5), at(-0.9), Course.LASTING),
    (at(0.5), at(0.24), Course.SHRINKING), (at(0.5), at(1.0), Course.GROWING), (at(0.05), at(0.5), Course.GROWING),
    (at(-0.05), at(0.5), Course.GROWING), (at(0.0, 0.0), at(0.5), Course.GROWING),
    (at(0.3, 0.4), at(0.2), Course.LASTING),                # not clear at a quarter, but as large
    (at(0.5), at(-0.5), Course.SIGN_CHANGED), (at(0.5, math.nan), at(0.5, math.nan), Course.UNKNOWN)])
def test_how_an_effect_develops(quarter, end, expected):
    assert course(quarter, end) == expected


def test_the_summary_has_an_entry_per_comparison(fake):
    entry, = summary(along_training_table(StudyResults(fake)))
    assert (entry["treatment"], entry["baseline"], entry["n"], entry["course"]) == ("static", "dynamic", 2, Course.NONE)
    assert [entry[name]["fraction"] for name in ("quarter", "half", "end")] == [0.25, 0.5, 1.0]
    assert np.isfinite([entry[name]["low"] for name in ("quarter", "half", "end")]).all()
