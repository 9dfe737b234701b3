"""Training one classifier, and the classes that it predicts.

Shapes: N texts, B texts in a batch, C classes.
"""
from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from study import randomness
from study.config.schema import FinetuneRecipe, RunConfig, Training
from study.finetuning.classifier import Classifier
from study.finetuning.texts import DROPOUT, Texts, epoch_batches, ordered_batches
from study.training.optimizers import Optimizers
from study.training.schedule import learning_rate

PREDICTION_ROWS = 128                       # texts per batch without gradients


@dataclass(frozen=True)
class Fit:
    """What training a classifier took: optimiser steps and tokens, padding excluded. diverged: whether a loss or
    gradient was not finite; training then stops without an update."""
    steps: int
    tokens: int
    diverged: bool


def optimisation(config: RunConfig, recipe: FinetuneRecipe, rows: int, rate: float) -> Training:
    """Returns the settings of training on so many rows at a learning rate: those of the recipe. Only the precision and
    the threads are those of the cell."""
    steps = recipe.epochs * math.ceil(rows / recipe.batch_size)
    return config.training.model_copy(update={
        "steps": steps, "warmup_steps": round(recipe.warmup_fraction * steps), "learning_rate": rate,
        "optimizer": "adamw", "position_learning_rate": 1.0, "warmup_from_zero": False,
        "decay_biases_and_norms": False,
        **{key: getattr(recipe, key) for key in ("batch_size", "lr_scheduler_type", "adam_beta1", "adam_beta2",
                                                 "adam_epsilon", "weight_decay", "max_grad_norm")}})


def fit(classifier: Classifier, texts: Texts, training: Training, recipe: FinetuneRecipe, seed: int, run: int) -> Fit:
    """Trains a classifier on texts for the epochs of the recipe.

    training: see `optimisation`. Order and dropout depend on the seed of the cell, the number of the run, the epoch and
    the step, and not on the learning rate.
    """
    optimizers, step, tokens = Optimizers(classifier, training), 0, 0
    pad_id = classifier.layout_ids[0]
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    classifier.train()
    for epoch in range(recipe.epochs):
        for batch in epoch_batches(texts, training.batch_size, pad_id, seed, run, epoch):
            if recipe.dropout:
                torch.manual_seed(int(randomness.integers(seed, DROPOUT, run, step) >> 1))
            with precision(training, classifier.device):
                logits = classifier.logits(batch)                                           # (B, C)
            loss = F.cross_entropy(logits, torch.from_numpy(batch.labels).to(logits.device))
            loss.backward()
            norm = nn.utils.clip_grad_norm_(trained, training.max_grad_norm or math.inf)
            if not (math.isfinite(loss.item()) and math.isfinite(norm)):
                return Fit(step, tokens, diverged=True)
            optimizers.step(learning_rate(step, training))
            classifier.zero_grad(set_to_none=True)
            step += 1
            tokens += int(batch.ids.size if batch.mask is None else batch.mask.sum())
    return Fit(step, tokens, diverged=False)


def precision(training: Training, device: torch.device):
    """Returns the context in which matrix products have the precision of the settings."""
    if training.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@torch.inference_mode()
def predict(classifier: Classifier, texts: Texts, training: Training) -> np.ndarray:
    """Returns the logits (N, C) float32 of texts."""
    classifier.eval()
    logits = np.empty((len(texts.ids), classifier.classifier.out_features), np.float32)
    for index, batch in ordered_batches(texts, PREDICTION_ROWS, classifier.layout_ids[0]):
        with precision(training, classifier.device):
            logits[index] = classifier.logits(batch).cpu().numpy()
    return logits
