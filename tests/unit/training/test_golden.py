"""Ten steps of the baseline and of each norm against curves that are kept: no change of the code goes unseen."""
import copy
import json

import pytest

from tests.support.golden import ARMS, KEPT, curves, differences, tiny_data


def test_curves_are_the_kept_ones(tmp_path):
    kept = json.loads(KEPT.read_text())
    assert kept.keys() == set(ARMS)
    found = curves(*tiny_data(tmp_path / "tiny"))
    assert max(differences(found, kept).values()) < 1e-4, "python -m tests.support.golden shows what moved"


def test_a_difference_is_seen():
    kept = json.loads(KEPT.read_text())
    moved = copy.deepcopy(kept)
    moved["pre-ln"]["loss"][4] *= 1.01
    assert differences(moved, kept)["pre-ln"] == pytest.approx(0.01)
