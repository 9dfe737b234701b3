"""Claims about code and arithmetic."""
import re

import pytest

from study import StudyError
from study.evaluation.exact_claims import CHECKS, run_checks


@pytest.fixture(scope="module")
def outcomes(study):
    return run_checks(study, CHECKS)


def test_the_checks_have_the_known_outcomes(outcomes):
    assert {name: outcome["holds"] for name, outcome in outcomes.items()} == {
        "selected_share": True, "mix_80_10_10": True, "mix_overlapping": False, "loss_elsewhere": True,
        "masked_loss_is_full_loss": True, "padding_segment": True, "accumulation": True, "perplexity_by_tokens": True}


def test_overlapping_draws_give_81_10_9(outcomes):
    shares = re.match(r"([\d.]+) / ([\d.]+) / ([\d.]+) %", outcomes["mix_overlapping"]["measured"]).groups()
    assert [float(share) for share in shares] == pytest.approx([81, 10, 9], abs=0.3)


def test_an_unknown_check_is_named(study):
    with pytest.raises(StudyError, match=r"claims\.yaml: check: 'mix' is not one of selected_share, "):
        run_checks(study, ["mix"])
