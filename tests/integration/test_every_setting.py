"""Every setting of an arm trains and has an effect: a run of twelve steps with it and one without."""
import math

import pytest
import torch

from study.config.arms import resolve
from study.training.trainer import Trainer
from tests.support.studies import changed
from tests.support.training import trained, weights

SWITCHES = {
    "pre-norm": {"model": {"norm": "pre"}}, "no embedding norm": {"model": {"embedding_norm": False}},
    "absolute positions": {"model": {"positions": "absolute"}},
    "relative positions": {"model": {"positions": "relative"}},
    "rotary and absolute positions": {"model": {"positions": "rotary-and-absolute"}},
    "alibi": {"model": {"positions": "alibi"}},
    "sinusoidal positions": {"model": {"positions": "absolute", "position_initialization": "sinusoidal"}},
    "fast positions": {"model": {"positions": "absolute"}, "training": {"position_learning_rate": 10.0}},
    "fixed positions": {"model": {"positions": "absolute"}, "training": {"position_learning_rate": 0.0}},
    "scaled embeddings": {"model": {"embedding_scale": "root-width"}},
    "overlapping draws": {"masking": {"draws": "overlapping"}},
    "repeated rows": {"inputs": {"repeated_fraction": 0.5}},
    "local attention": {"training": {"local_attention_from": 5}},
    "count embeddings": {"training": {"count_embeddings_at": 5}},
    "muon": {"training": {"optimizer": "muon"}},
    "bert init": {"model": {"initialization": "bert"}},
    "torch init": {"model": {"initialization": "torch", "tied_decoder": False}},
    "untied": {"model": {"tied_decoder": False}}, "relu": {"model": {"hidden_act": "relu"}},
    "layer norm epsilon": {"model": {"layer_norm_eps": 0.01}},
    "no transform": {"model": {"decoder_transform": False}}, "dropout": {"model": {"dropout": 0.2}},
    "static": {"masking": {"schedule": "static", "dupe_factor": 2}},
    "whole words": {"masking": {"selection": "whole-word"}},
    "fixed count": {"masking": {"selection": "fixed-count"}},
    "spans": {"masking": {"selection": "span"}}, "all mask": {"masking": {"mask": 1.0, "random": 0.0, "keep": 0.0}},
    "documents": {"inputs": {"format": "document-sentences"}}, "paragraphs": {"inputs": {"format": "paragraphs"}},
    "pairs": {"inputs": {"format": "segment-pairs"}},
    "nsp": {"inputs": {"format": "segment-pairs"}, "objective": {"sentence_objective": "nsp"}},
    "nsp weight": {"inputs": {"format": "segment-pairs"},
                   "objective": {"sentence_objective": "nsp", "sentence_weight": 0.1}},
    "nsp on paragraph pairs": {"inputs": {"format": "paragraph-pairs"}, "objective": {"sentence_objective": "nsp"}},
    "nsp on sentences": {"inputs": {"format": "sentence-pairs"}, "objective": {"sentence_objective": "nsp"}},
    "sop": {"inputs": {"format": "segment-pairs"}, "objective": {"sentence_objective": "sop"}},
    "causal": {"objective": {"token_objective": "causal"}},
    "target fraction": {"objective": {"target_fraction": 0.25}},
    "sparse causal": {"objective": {"token_objective": "causal", "target_fraction": 0.25}},
    "random ids": {"masking": {"random_from": "vocabulary"}},
    "decay on all": {"training": {"decay_biases_and_norms": True, "weight_decay": 0.5}},
    "warm-up from 0": {"training": {"warmup_from_zero": True, "warmup_steps": 4}},
    "cosine": {"training": {"lr_scheduler_type": "cosine"}},
    "constant": {"training": {"lr_scheduler_type": "constant"}},
    "inverse square root": {"training": {"lr_scheduler_type": "inverse-sqrt", "warmup_steps": 4}},
    "no clip": {"training": {"max_grad_norm": None}}, "bfloat16": {"training": {"precision": "bfloat16"}},
    "part of the data": {"training": {"data_fraction": 0.5}}, "patience": {"training": {"patience": 1}},
    "no padding": {"inputs": {"format": "paragraphs"}, "training": {"skip_padding": True}},
    "prepared rows": {"inputs": {"prepared": True}, "masking": {"schedule": "static", "dupe_factor": 1}},
    "curriculum": {"training": {"curriculum": {"step_fraction": 0.5, "length_fraction": 0.5}}},
}
NO_EFFECT_YET = {"static", "patience"}      # no third epoch, and no validation was worse


@pytest.fixture(scope="module")
def base(study):
    budget = {"steps": 12, "warmup_steps": 0, "logging_steps": 6, "eval_steps": 6, "max_grad_norm": 0.1}
    return changed(resolve(study, "dynamic"), training=budget)


@pytest.fixture(scope="module")
def weights_of_base(base, data):
    return weights(trained(base, data)[0])


@pytest.mark.parametrize("name", SWITCHES)
def test_every_setting_trains_and_has_an_effect(base, weights_of_base, data, name):
    switched = changed(base, **SWITCHES[name])
    assert switched != base
    trainer, progress = trained(switched, data)
    assert progress.status == "finished"
    assert all(math.isfinite(record["loss"]) for record in progress.records if "loss" in record)
    key = "encoder.layers.0.up.weight"
    assert not torch.equal(weights(Trainer(switched, data, 0))[key], weights(trainer)[key])
    assert torch.equal(weights_of_base[key], weights(trainer)[key]) == (name in NO_EFFECT_YET)
