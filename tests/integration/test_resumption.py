"""Runs of every recipe that stop between two records and continue from a checkpoint: the same records and bits."""
import pytest
import torch

from study.training.trainer import Trainer
from tests.support.studies import changed
from tests.support.training import equal_weights, interrupt, trained

RESUMED = {"pairs": {"inputs": {"format": "segment-pairs"}, "objective": {"sentence_objective": "nsp"}},
           "curriculum": {"training": {"curriculum": {"step_fraction": 0.5, "length_fraction": 0.5}}},
           "causal": {"objective": {"token_objective": "causal"}},
           "micro-batches": {"training": {"gradient_accumulation_steps": 2}},
           "static": {"masking": {"schedule": "static", "dupe_factor": 2}},
           "muon": {"training": {"optimizer": "muon"}},
           "fast positions": {"model": {"positions": "absolute"}, "training": {"position_learning_rate": 10.0}},
           "repeated rows": {"inputs": {"repeated_fraction": 0.5}},
           **{f"local attention from step {step}": {"training": {"local_attention_from": step}} for step in (4, 5, 6)},
           **{f"count embeddings at step {step}": {"training": {"count_embeddings_at": step}} for step in (4, 5, 6)}}


@pytest.mark.parametrize("name", RESUMED)
def test_every_recipe_resumes_bit_for_bit(config, data, tmp_path, name):
    plan = {"steps": 12, "save_steps": 5, "logging_steps": 3, "eval_steps": 6}      # records between checkpoints
    config = changed(changed(config, model={"dropout": 0.1}, training=plan), **RESUMED[name])
    uninterrupted, progress = trained(config, data)
    interrupt(config, data, tmp_path, 9)
    torch.rand(7)                                           # the state of the global generator does not matter
    resumed = Trainer(config, data, 0, tmp_path, "f")
    assert resumed.progress.step == 5
    assert resumed.train().records == progress.records
    assert equal_weights(uninterrupted, resumed)
    ours, theirs = uninterrupted.tensors(), resumed.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
