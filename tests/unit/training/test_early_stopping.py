"""Early stopping: `patience` and `stop_after_escape`."""
import math

import pytest

from study.training.trainer import Trainer
from tests.support.studies import changed
from tests.support.training import trained

VALIDATION = "study.objectives.masked_lm.MaskedLM.validation_nll"


@pytest.mark.parametrize(("values", "patience", "last", "status"), [
    ([3.0, 2.9, 2.95, 2.8, 2.85, 2.9, 2.7], 2, 5, "finished"),
    ([3.0, 2.9, 2.95, 2.8, 2.85, 2.9, 2.7], 3, 6, "finished"),
    ([3.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0], 1, 1, "finished"), ([3.0, 90.0, 2.0, 2.0, 2.0, 2.0, 2.0], 1, 1, "diverged"),
    ([3.0, math.inf, 2.0, 2.0, 2.0, 2.0, 2.0], 1, 1, "diverged")])
def test_patience_counts_validations_since_the_best(config, data, monkeypatch, values, patience, last, status):
    measured = iter(values)
    monkeypatch.setattr(VALIDATION, lambda *_: next(measured))
    patient = changed(config, training={"steps": 6, "logging_steps": 1, "eval_steps": 1, "patience": patience})
    _, progress = trained(patient, data)
    assert (progress.step, progress.status) == (last, status)


@pytest.mark.parametrize(("values", "last"), [
    ([3.0, *[2.0] * 6, 2.5, 2.6, 2.6, 2.4], 9),             # the short rows count neither as stale nor as the best
    ([3.0, *[2.0] * 6, 2.5, 2.4, 2.3, 2.2], 10)])
def test_patience_begins_with_the_full_rows_of_a_curriculum(config, data, monkeypatch, values, last):
    measured = iter(values)
    monkeypatch.setattr(VALIDATION, lambda *_: next(measured))
    patient = changed(config, training={
        "steps": 10, "logging_steps": 1, "eval_steps": 1, "patience": 2,
        "curriculum": {"step_fraction": 0.6, "length_fraction": 0.5}})
    assert trained(patient, data)[1].step == last


@pytest.mark.parametrize(("escape", "limit", "last"), [(3, 4, 7), (3, 1, 5), (None, 1, 12), (9, 4, 12)])
def test_a_run_can_stop_some_steps_after_it_has_left_the_plateau(config, data, monkeypatch, escape, limit, last):
    """An escape is known only after three validations, and the last step comes first."""
    level = data.validation.unigram_nll
    values = iter([level - (0.2 if escape is not None and step >= escape else 0.05) for step in range(13)])
    monkeypatch.setattr(VALIDATION, lambda *_: next(values))
    stopping = changed(config, training={"steps": 12, "warmup_steps": 0, "logging_steps": 1, "eval_steps": 1,
                                         "stop_after_escape": limit})
    assert trained(stopping, data)[1].step == last


def test_patience_ignores_early_validations(config, data, monkeypatch):
    measured = {0: 3.0, 1: 3.1, 2: 3.2, 4: 3.3, 5: 2.9, 10: 2.95, 15: 1.0}
    monkeypatch.setattr(VALIDATION, lambda *_: measured[trainer.progress.step])
    trainer = Trainer(changed(config, training={"steps": 15, "eval_steps": 5, "patience": 1}), data, 0)
    assert trainer.train().step == 10
