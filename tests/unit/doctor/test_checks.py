"""Findings about text and runs: each threshold is met by what it is meant for, and what was not checked is named."""
from dataclasses import replace
from pathlib import Path

import pytest

from study.doctor.checks import SEVERITIES, check_copies, check_rows, check_unknown, sorted_findings
from study.doctor.curve import position_of
from study.doctor.ladder import Ladder, Level
from study.doctor.lines import RowShares, count_copies
from study.doctor.log_checks import RowSettings, check_run
from study.doctor.logs import TrainingLog, read_log
from tests.support.studies import ROOT

# What `study doctor` measures on the text and the tokenizer of the two committed logs, in rows of 64
# (tests/benchmarks/trainer_logs.py).
LADDER = Ladder([Level("uniform", 9.01, 9.01, 0.0), Level("unigram", 6.94, 6.33, 0.03),
                 Level("neighbours-mixture", 4.96, 4.50, 0.04), Level("neighbours-product", 4.56, 4.14, 0.04),
                 Level("two-neighbours-product", 4.27, 3.87, 0.04)], 2_144_333, 7709, 8187)
ROWS = RowShares(padding=0.5, cut=0.0, mean=32.0)
SETTINGS = RowSettings(None, 64, 0.15)
ROWS_KNOWN = RowSettings(32, 64, 0.15)


def found(log=None, loss=None, settings=SETTINGS, rows=ROWS) -> dict:
    """Findings about a run by title."""
    position = position_of(log, loss, LADDER) if log is not None or loss is not None else None
    return {finding.title: finding for finding in check_run(position, log, settings, rows)}


def log_of(losses, rates=(), evaluations=(), diverged=None, batch_size=32, planned=None) -> TrainingLog:
    return TrainingLog(Path("log.json"), list(losses), list(evaluations), False, list(rates), diverged, batch_size,
                       max(step for step, _ in [*losses, *evaluations]), planned)


def stuck_at(loss=6.5, steps=1000) -> list[tuple[int, float]]:
    return [(step, loss) for step in range(0, steps + 1, 100)]


def test_the_stuck_run_of_the_trainer_is_on_the_plateau_with_its_reasons():
    log = read_log(ROOT / "tests/support/trainer_stuck.json")
    position = position_of(log, None, LADDER)
    assert (position.state, position.escaped, position.measure) == ("plateau", None, "evaluation loss")
    assert position.reached == 100
    findings = found(log, settings=ROWS_KNOWN)
    assert findings["absolute positions"].severity == "note"
    assert "was not checked" in findings["absolute positions"].detail
    assert "docs/plateau.md" in findings["absolute positions"].remedy
    assert findings["fewer steps than the escape needs"].detail.startswith("The log ends at step 600: 1.23 million")
    assert "307 tokens are predicted per step: 32 rows" in findings["predicted tokens per step"].detail
    assert findings["predicted tokens per step"].severity == "note"
    assert "at step 60" in findings["learning rate"].detail
    assert "10% of 600 steps" in findings["warm-up"].detail
    assert "schedule has ended" in findings


def test_the_run_of_the_trainer_that_learns_has_left_the_plateau():
    log = read_log(ROOT / "tests/support/trainer_learning.json")
    position = position_of(log, None, LADDER)
    assert position.state == "learning"
    assert 200 < position.escaped < 800
    assert LADDER["unigram"].own - 0.1 >= dict(position.points)[position.escaped]
    findings = found(log)
    assert "absolute positions" not in findings
    assert findings["steps"].severity == "fine"


def test_without_a_log_its_checks_are_listed_as_not_checked():
    findings = found(loss=6.5)
    assert findings["learning rate, warm-up, steps"].severity == "not checked"
    assert findings["predicted tokens per step"].severity == "not checked"
    assert findings["absolute positions"].severity == "note"


@pytest.mark.parametrize(("rate", "severity"), [(2e-5, "note"), (1e-4, "fine"), (5e-3, "fine"), (0.1, "note")])
def test_the_largest_learning_rate_is_judged(rate, severity):
    rates = [(0, rate / 10), (100, rate), (200, rate / 2)]
    finding = found(log_of(stuck_at(), rates))["learning rate"]
    assert finding.severity == severity
    assert f"{rate:.2g}, at step 100" in finding.detail


@pytest.mark.parametrize(("rates", "severity"), [
    ([(10, 1e-3), (20, 9e-4), (30, 8e-4)], "note"), ([(10, 1e-4), (20, 9e-5), (30, 8e-5)], "fine"),
    ([(10, 1e-4), (20, 2e-4), (900, 1e-3)], "note"), ([(10, 1e-4), (100, 1e-3), (900, 1e-4)], "fine")])
def test_a_missing_and_a_long_warm_up_are_pointed_out(rates, severity):
    assert found(log_of(stuck_at(), rates, planned=1000))["warm-up"].severity == severity


def warming_up(top: float) -> list[tuple[int, float]]:
    """Rates that rise up to the last step, 1,000."""
    return [(step, top * step / 1000) for step in range(100, 1001, 100)]


@pytest.mark.parametrize("planned", [None, 100_000])
def test_a_rate_that_still_rises_is_not_judged(planned):
    findings = found(log_of(stuck_at(), warming_up(2e-5), planned=planned))
    for title in ("learning rate", "warm-up"):
        assert findings[title].severity == "not checked"
        assert findings[title].detail == ("The rate was still rising at the end of the log: it was 2e-05 at step "
                                          "1,000.")


def test_a_rate_that_still_rises_is_judged_where_the_rest_of_the_run_changes_nothing():
    assert found(log_of(stuck_at(), warming_up(0.1)))["learning rate"].severity == "note"      # above 1e-2 already
    assert found(log_of(stuck_at(), warming_up(1e-3), planned=1500))["warm-up"].severity == "note"
    ended = found(log_of(stuck_at(), warming_up(2e-5), planned=1000))
    assert ended["learning rate"].severity == ended["warm-up"].severity == "note"


def test_the_schedule_has_ended_only_if_the_rate_is_low_and_the_run_is_stuck():
    low, high = [(10, 1e-4), (100, 1e-3), (1000, 1e-6)], [(10, 1e-4), (100, 1e-3), (1000, 5e-4)]
    assert "schedule has ended" in found(log_of(stuck_at(), low))
    assert "schedule has ended" not in found(log_of(stuck_at(), high))
    assert "schedule has ended" not in found(log_of(stuck_at(5.0), low))


def test_a_log_without_learning_rates_is_not_judged_by_them():
    assert found(log_of(stuck_at()))["learning rate, warm-up"].severity == "not checked"


def test_predicted_tokens_are_rows_times_length_times_rate():
    finding = found(log_of(stuck_at()), settings=RowSettings(16, 128, 0.25))["predicted tokens per step"]
    assert finding.detail.startswith("About 512 tokens are predicted per step: 16 rows x 128 tokens x 25%")
    assert "128 if each line is a row" in finding.detail
    assert "one device" not in finding.detail
    assert finding.severity == "note"       # the run is on the plateau
    few = found(log_of(stuck_at(), batch_size=4))["predicted tokens per step"]
    assert few.severity == "note"
    assert "one device" in few.detail


@pytest.mark.parametrize(("rows", "loss", "severity"), [(16, 6.5, "note"), (150, 6.5, "fine"), (16, 5.0, "fine")])
def test_a_batch_is_small_for_a_run_on_the_plateau_if_a_larger_one_was_shown_to_help(rows, loss, severity):
    """Four times 64 rows of 64 were the largest batch of the study: 2,458 predicted tokens."""
    finding = found(log_of(stuck_at(loss)), settings=RowSettings(rows, 128, 0.15))["predicted tokens per step"]
    assert finding.severity == severity
    assert ("four times the rows" in finding.detail) == bool(finding.remedy) == (severity == "note")


def test_a_long_run_is_not_said_to_be_too_short():
    assert "fewer steps than the escape needs" in found(log_of(stuck_at()), settings=ROWS_KNOWN)
    assert found(log_of(stuck_at(steps=10_000)), settings=ROWS_KNOWN)["steps"].severity == "fine"
    assert "cannot be compared" in found(log_of(stuck_at(), batch_size=None))["steps"].detail


@pytest.mark.parametrize(("loss", "steps", "severity"), [(6.5, 1000, "not checked"), (6.5, 10_000, "fine"),
                                                         (5.0, 1000, "fine")])
def test_with_rows_per_device_alone_a_run_is_not_said_to_be_too_short(loss, steps, severity):
    findings = found(log_of(stuck_at(loss, steps)))
    assert "fewer steps than the escape needs" not in findings
    assert findings["steps"].severity == severity
    assert f"at least {steps * 32 * 64 / 1e6:.2f} million tokens" in findings["steps"].detail
    assert "32 rows per device" in findings["steps"].detail
    assert ("--batch-size" in findings["steps"].remedy) == (severity == "not checked")


def test_divergence_says_since_when_and_why():
    assert "From step 300 on, a loss or gradient norm" in found(log_of(stuck_at(), diverged=300))["diverged"].detail
    points = [(0, 9.0), (100, 7.0), (200, 9.5), (300, 11.0)]
    assert "From step 200 on, the loss is above that of a uniform" in found(log_of(points))["diverged"].detail


def test_numbers_that_are_not_finite_but_do_not_last_are_a_note():
    findings = found(replace(log_of(stuck_at()), not_finite=3))
    assert findings["numbers that are not finite"].severity == "note"
    assert findings["numbers that are not finite"].detail.startswith("At 3 of the logged steps")
    assert "diverged" not in findings
    assert "numbers that are not finite" not in found(log_of(stuck_at()))


def test_a_rising_evaluation_loss_is_pointed_out():
    evaluations = [(100, 5.0), (200, 4.6), (300, 4.8)]
    finding = found(log_of(stuck_at(4.0), evaluations=evaluations))["evaluation loss rises"]
    assert "lowest at step 200, 4.60, and is 4.80" in finding.detail


def test_a_training_loss_that_rises_is_not_called_an_evaluation_loss():
    losses = [*stuck_at(4.0), (1100, 4.5)]
    assert "evaluation loss rises" not in found(log_of(losses, evaluations=[(0, 9.0)]))


def test_a_loss_near_zero_points_to_labels_at_visible_tokens():
    finding = found(loss=0.02)["loss too low"]
    assert finding.severity == "problem"
    assert "labels probably include tokens that the model can see" in finding.detail
    assert "near 0.95" in finding.detail                 # 15 % of the unigram level
    assert "loss too low" not in found(loss=2.0)


@pytest.mark.parametrize(("loss", "is_far"), [(2.0, True), (2.8, True), (3.0, False), (6.5, False)])
def test_a_loss_far_below_the_count_models_is_pointed_out(loss, is_far):
    assert ("far below the count models" in found(loss=loss)) == is_far


@pytest.mark.parametrize(("copies", "severity"), [(0, "fine"), (8, "note"), (50, "problem")])
def test_copies_are_judged_by_the_characters_that_they_hold(copies, severity):
    lines = [f"line {number:04d}".encode() for number in range(100)]
    finding = check_copies(count_copies(lines + lines[:copies], True))
    assert finding.severity == severity
    assert finding.detail.startswith(f"{copies / (100 + copies):.1%} of {100 + copies} lines are copies")
    assert "lower bound" in check_copies(count_copies(lines, False)).detail


def test_short_copies_such_as_headings_do_no_harm():
    lines = [f"line {number:04d} ".encode() * 20 for number in range(100)] + [b"= A ="] * 50
    assert check_copies(count_copies(lines, True)).severity == "fine"


def test_the_literal_unknown_word_is_pointed_out(vocabulary):
    titles = [finding.title for finding in check_unknown(1000, 0, 0.05, vocabulary)]
    assert titles == ["unknown tokens", "literal <unk>"]
    assert len(check_unknown(1000, 0, 0.0, vocabulary)) == 1


def test_padding_and_cut_lines_are_judged():
    much, cut = check_rows(RowShares(0.6, 0.4, 50.0), 128)
    assert (much.severity, cut.title) == ("note", "cut lines")
    (little,) = check_rows(RowShares(0.1, 0.0, 115.0), 128)
    assert little.severity == "fine"


def test_the_worst_findings_come_first():
    findings = sorted_findings([*found(loss=0.02).values(), *found(log_of(stuck_at())).values()])
    order = [SEVERITIES.index(finding.severity) for finding in findings]
    assert order == sorted(order)
