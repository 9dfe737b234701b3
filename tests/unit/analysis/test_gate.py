"""The learning gate: what lets a run count, and what is said of one that does not."""
import json
import math

import numpy as np
import pytest

from study.analysis.comparisons import comparison_table
from study.analysis.gate import check_curve, failed_gate, shortfall
from study.analysis.learning import Curve, context_free_nll, overfits, training_curve
from study.analysis.reasons import Flag
from study.analysis.results import StudyResults
from study.analysis.tables import cell_table
from study.config.arms import resolve
from study.config.corruption import sees_mask
from study.config.fingerprint import settings_yaml
from study.config.schema import Masking
from tests.support.fake_results import TUNED, fake_study
from tests.support.studies import changed

PLATEAU, COUNTS = 4.0, 2.5                  # levels of the made-up studies, nats
FALLING = [4.2, 3.5, 3.0, 2.4, 2.2]         # a run that leaves the plateau at its second validation


@pytest.fixture
def fake(tmp_path):
    return fake_study(tmp_path)


def rewrite(study, arm, seed, nlls, steps, losses=None, every=4, **training):
    """Replaces the curve of a cell: one record for each NLL, `every` steps apart, the first one at step 0."""
    folder = study.cell(arm, seed)
    records = [{"step": every * index, "tokens": index, "loss": (losses or nlls)[index]}
               | ({} if nll is None else {"validation_nll": nll}) for index, nll in enumerate(nlls)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    path = folder / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"steps": steps} | training))


def lacks(study, arm="static", seed=1):
    """The first part of the gate that a run fails; None if it passes."""
    results = StudyResults(study)
    found = shortfall(results, results.cell(arm, seed))
    return found and found.flag


# ---- the escape step

def test_records_without_a_validation_are_no_interruption(fake):
    rewrite(fake, "static", 1, [4.2, 3.5, None, 3.4, None, None, 2.2], 40)
    table = cell_table(StudyResults(fake)).set_index(["arm", "seed"])
    assert table.escape_step["static", 1] == 4
    assert set(table.gate) == {"passed"}


# ---- the parts of the gate

def curve(nlls, count_level=COUNTS, every=4):
    return Curve([(every * index, nll) for index, nll in enumerate(nlls)], PLATEAU, count_level, "NLL")


@pytest.mark.parametrize(("nlls", "steps", "flag"), [
    (FALLING, 40, None),                    # exactly ten times the escape step
    (FALLING, 39, Flag.TRAINED_TOO_SHORT),
    ([*FALLING, 2.4999], 40, None),
    ([*FALLING, COUNTS], 40, Flag.ABOVE_COUNT_MODEL),       # as good is not better
    ([*FALLING, 3.0], 40, Flag.ABOVE_COUNT_MODEL),
    ([4.2, 4.0, 3.95], 4000, Flag.NEVER_ESCAPED),
    ([4.2, 3.5], 4000, Flag.NEVER_ESCAPED),
    ([4.2, 3.5, 3.4, 3.3], 39, Flag.TRAINED_TOO_SHORT)])    # the first part that fails is named
def test_each_part_of_the_gate(nlls, steps, flag):
    found = check_curve(curve(nlls), steps)
    assert (found and found.flag) == flag


def test_the_last_validation_decides_and_not_the_best(fake):
    rewrite(fake, "static", 1, [*FALLING, 2.55], 40)        # no overfitting: the training loss is as high
    assert lacks(fake) == Flag.ABOVE_COUNT_MODEL


def test_untrained_runs_pass_and_diverged_ones_fail(fake):
    """A diverged run, scored at the unigram level, would else decide what a finished one at that level does not."""
    rewrite(fake, "static", 1, [4.2], 0)
    assert lacks(fake) is None
    rewrite(fake, "static", 1, [4.2, 4.0, 9.0], 40)
    assert lacks(fake) == Flag.NEVER_ESCAPED
    rewrite(fake, "static", 1, [4.2, 4.0, 9.0], 40, status="diverged")
    assert lacks(fake) == Flag.RUN_DIVERGED
    rewrite(fake, "static", 1, [4.2, 4.0, None], 9, losses=[4.2, 4.0, None], status="diverged")
    assert lacks(fake) == Flag.RUN_DIVERGED
    failure = failed_gate(StudyResults(fake), ["static"])
    assert "1 of 2 runs of static diverged" in failure.reason


# ---- overfitting

MEMORISING = [4.2, 3.0, 2.0, 1.0, 0.1]      # training losses


@pytest.mark.parametrize(("last", "loss", "expected"), [
    (4.11, 0.1, True), (4.1, 0.1, False), (4.0, 0.1, False),    # the lowest NLL is 4.0
    (9.0, 1.9, True),                       # below half of the unigram level
    (9.0, 2.0, True), (9.0, 3.9, False)])   # below the best count model, and above it
def test_a_run_overfits_if_its_validation_nll_rises_while_its_training_loss_is_low(fake, last, loss, expected):
    rewrite(fake, "static", 1, [4.2, 4.0, 4.1, 4.1, last], 40, losses=[4.2, 3.0, 2.0, 1.0, loss])
    results = StudyResults(fake)
    cell = results.cell("static", 1)
    assert 2.0 < training_curve(results, cell).count_level < 3.0
    assert overfits(results, cell) == expected


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_an_overfitted_run_passes_by_its_training_loss(fake, status):
    rewrite(fake, "static", 1, [4.2, 4.1, 4.5, 6.0, 9.0], 40, losses=MEMORISING, status=status)
    assert lacks(fake) is None
    rewrite(fake, "static", 1, [4.2, 4.1, 4.5, 6.0, 9.0], 39, losses=MEMORISING, status=status)
    assert lacks(fake) == Flag.TRAINED_TOO_SHORT
    rewrite(fake, "static", 1, [4.2, 4.1, 4.5, 6.0, 9.0], 40, losses=[4.2, 4.2, 4.2, 1.0, 0.1], status=status)
    assert lacks(fake) == Flag.NEVER_ESCAPED


# ---- arms without [MASK]

def masking(mask, random, keep):
    return Masking(mlm_probability=0.15, mask=mask, random=random, keep=keep, selection="token", span_mean=3.0,
                   schedule="dynamic", dupe_factor=1)


@pytest.mark.parametrize("mix", [(1.0, 0.0, 0.0), (0.8, 0.1, 0.1), (0.0, 0.2, 0.8), (0.0, 0.8, 0.2), (0.0, 1.0, 0.0)])
def test_the_level_without_context_is_that_of_bayes_rule(mix):
    mask, random, keep = mix
    p = np.array([0.5, 0.25, 0.15, 0.1])
    shown = np.vstack([keep * np.eye(4) + random / 4, np.full((1, 4), mask)])   # P(shown | token); the last: [MASK]
    joint = shown * p
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = -np.nansum(joint * np.log(joint / joint.sum(1, keepdims=True)))
    assert context_free_nll(np.array([0.0, *p]), masking(*mix)) == pytest.approx(expected)


def test_overlapping_draws_have_the_level_of_the_mix_that_they_give():
    p = np.array([0.5, 0.25, 0.15, 0.1])
    overlapping = masking(0.8, 0.1, 0.1).model_copy(update={"draws": "overlapping"})
    assert context_free_nll(p, overlapping) == pytest.approx(context_free_nll(p, masking(0.81, 0.1, 0.09)))
    assert context_free_nll(p, overlapping) > context_free_nll(p, masking(0.8, 0.1, 0.1)) + 1e-3


def test_what_is_always_kept_is_known_and_what_is_never_kept_is_not():
    p = np.array([0.5, 0.3, 0.2])
    entropy = -(p * np.log(p)).sum()
    assert context_free_nll(p, masking(0, 0, 1)) == pytest.approx(0)
    assert context_free_nll(p, masking(0, 1, 0)) == pytest.approx(entropy)
    assert context_free_nll(p, masking(1, 0, 0)) == pytest.approx(entropy)


def change(study, **sections):
    """Gives the arm static other settings."""
    config = resolve(study, "static", TUNED)
    config = config.model_copy(update={name: getattr(config, name).model_copy(update=values)
                                       for name, values in sections.items()})
    for seed in study.settings.seeds:
        (study.cell("static", seed) / "settings.yaml").write_bytes(settings_yaml(config))
    return config


def test_an_arm_that_never_sees_mask_is_judged_by_its_training_loss(fake):
    assert not sees_mask(change(fake, masking={"mask": 0.0, "random": 1.0, "keep": 0.0}))
    stuck = [4.2] * 5                       # its NLL on [MASK] means nothing
    rewrite(fake, "static", 1, stuck, 40, losses=FALLING)
    assert lacks(fake) is None
    rewrite(fake, "static", 1, stuck, 40, losses=[4.2, 3.95, 3.95, 3.95, 3.95])     # ln 55 = 4.007
    assert lacks(fake) == Flag.NEVER_ESCAPED
    rewrite(fake, "static", 1, stuck, 40, losses=[4.2, 3.5, 3.0, 2.8, math.log(55) - 1.5])
    assert lacks(fake) == Flag.ABOVE_COUNT_MODEL            # it gains no more than counts do
    rewrite(fake, "static", 1, stuck, 40, losses=[4.2, 3.5, 3.0, 2.8, math.log(55) - 1.51])
    assert lacks(fake) is None


def test_kept_tokens_lower_the_level_of_an_arm_without_mask(fake):
    change(fake, masking={"mask": 0.0, "random": 0.2, "keep": 0.8})
    rewrite(fake, "static", 1, [4.2] * 5, 40, losses=[4.2, *[2.0] * 4])     # a copier gets that far
    assert lacks(fake) == Flag.NEVER_ESCAPED


def test_a_causal_arm_has_no_count_model_to_beat(fake):
    change(fake, objective={"token_objective": "causal"})
    rewrite(fake, "static", 1, [None] * 5, 40, losses=[4.2, 3.5, 3.4, 3.3, 3.3])
    assert lacks(fake) is None
    rewrite(fake, "static", 1, [None] * 5, 39, losses=[4.2, 3.5, 3.4, 3.3, 3.3])
    assert lacks(fake) == Flag.TRAINED_TOO_SHORT


# ---- what is said

def test_the_reason_names_arms_runs_parts_and_numbers(fake):
    assert failed_gate(StudyResults(fake), ("static", "dynamic")) is None
    rewrite(fake, "static", 0, [4.2, 4.1, 3.9], 40)
    rewrite(fake, "static", 1, [4.2, 4.1, *FALLING], 79)
    for seed, last in ((0, 2.6), (1, 2.7)):
        rewrite(fake, "dynamic", seed, [*FALLING, last], 4000)
    failure = failed_gate(StudyResults(fake), ("static", "dynamic"))
    assert failure.reason == (
        "1 of 2 runs of static never left the unigram plateau; 1 of 2 runs of static trained for less than 10 times "
        "the escape step (escape at step 12 of 79; it would take 120 steps); 2 of 2 runs of dynamic ended above the "
        "best count model (NLL 2.70 against 2.50 nats)")
    assert failure.flags == {Flag.NEVER_ESCAPED, Flag.TRAINED_TOO_SHORT, Flag.ABOVE_COUNT_MODEL}
    assert failure.runs == {"static": 2, "dynamic": 2}


def test_the_tables_say_which_runs_fail(fake):
    rewrite(fake, "static", 1, FALLING, 39)
    results = StudyResults(fake)
    rows = comparison_table(results).to_dict("records")
    assert all((row["gated_runs"], row["baseline_gated_runs"]) == (1, 0) for row in rows)
    assert all(row["gate"].startswith("1 of 2 runs of static trained for less than 10 times") for row in rows)
    gates = cell_table(results).set_index(["arm", "seed"]).gate
    assert gates["static", 1] == Flag.TRAINED_TOO_SHORT
    assert set(gates.drop(("static", 1))) == {"passed"}


def test_an_arm_on_segment_pairs_is_judged_in_its_own_format(fake):
    results = StudyResults(fake)
    cell = results.cell("static", 1)
    on_pairs = changed(cell.settings, inputs={"format": "segment-pairs"})
    (cell.folder / "settings.yaml").write_bytes(settings_yaml(on_pairs))
    for own, expected in ((2.4, None), (2.6, Flag.ABOVE_COUNT_MODEL)):
        records = [record | {"validation_nll": 4.2, "own_format_nll": max(own, 4.2 - record["step"] / 6)}
                   for record in cell.records]
        (cell.folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        assert lacks(fake) == expected
