"""Claims about code and arithmetic."""
import re

import pytest
import torch

from study import StudyError
from study.evaluation.exact_claims import CHECKS, run_checks


@pytest.fixture(scope="module")
def outcomes(study):
    return run_checks(study, CHECKS)


def test_the_checks_have_the_known_outcomes(outcomes):
    assert {name: outcome["holds"] for name, outcome in outcomes.items()} == {
        "selected_share": True, "mix_80_10_10": True, "mix_overlapping": False, "loss_elsewhere": True,
        "masked_loss_is_full_loss": True, "padding_segment": True, "accumulation": True, "bert_sizes": True,
        "perplexity_by_tokens": True}


def test_overlapping_draws_give_81_10_9(outcomes):
    shares = re.match(r"([\d.]+) / ([\d.]+) / ([\d.]+) %", outcomes["mix_overlapping"]["measured"]).groups()
    assert [float(share) for share in shares] == pytest.approx([81, 10, 9], abs=0.3)


def test_an_unknown_check_is_named(study):
    with pytest.raises(StudyError, match=r"claims\.yaml: check: 'mix' is not one of selected_share, "):
        run_checks(study, ["mix"])


def test_the_sizes_are_those_of_transformers(outcomes):
    from transformers import BertConfig, BertModel

    with torch.device("meta"):
        models = (BertModel(BertConfig()), BertModel(BertConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)))
    counts = [sum(parameter.numel() for parameter in model.parameters()) / 1e6 for model in models]
    assert outcomes["bert_sizes"]["measured"] == f"{counts[0]:.1f} and {counts[1]:.1f} million"
