"""Ten steps of some arms against recorded learning curves: no change of the results goes unnoticed."""
import copy
import json

import pytest

from study.training.pretrain import load_data
from tests.support.golden import ARMS, RECORDED, curves, differences


def test_curves_equal_the_recorded_ones(tiny):
    recorded = json.loads(RECORDED.read_text())
    assert recorded.keys() == set(ARMS)
    now = curves(tiny, load_data(tiny))
    assert {arm: now[arm].keys() for arm in now} == {arm: recorded[arm].keys() for arm in recorded}
    assert max(differences(now, recorded).values()) < 1e-4, "see `python -m tests.support.golden`"


def test_a_difference_is_noticed():
    recorded = json.loads(RECORDED.read_text())
    changed = copy.deepcopy(recorded)
    changed["pre-ln"]["loss"][4] *= 1.01
    assert differences(changed, recorded)["pre-ln"] == pytest.approx(0.01)
