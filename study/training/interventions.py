"""What an arm does to the model in the course of training, to find out what holds a run on the unigram plateau.

Both are functions of the settings and the step, so a resumed run repeats them.
"""
from __future__ import annotations

import numpy as np
import torch

from study import StudyError
from study.config.schema import RunConfig, Training
from study.data.count_embeddings import count_embeddings
from study.model.encoder import Encoder


def check_interventions(config: RunConfig, vocabulary_size: int) -> None:
    """Raises StudyError if embeddings from counts cannot be made in the width of the model."""
    parts = (config,) if config.branch is None else (config.branch.before, config)
    at = next((part.training.count_embeddings_at for part in parts
               if part.training.count_embeddings_at is not None), None)
    width = config.model.hidden_size
    if at is not None and width >= vocabulary_size:
        raise StudyError(f"training.count_embeddings_at {at} needs model.hidden_size {width} below the vocabulary's "
                         f"{vocabulary_size} tokens; choose a smaller width, or null for training.count_embeddings_at")


@torch.no_grad()
def intervene(encoder: Encoder, training: Training, step: int, ids: np.ndarray) -> None:
    """Fixes the attention and replaces the token embeddings if this is the step to do so. ids: of the training text."""
    if training.local_attention_from is not None:
        encoder.is_local.fill_(step >= training.local_attention_from)
    if step == training.count_embeddings_at:
        weight = encoder.token.weight
        made = torch.from_numpy(count_embeddings(ids, *weight.shape)).to(weight)
        known = made.any(1)                 # tokens of the text; [MASK], [CLS] and [PAD] keep their embeddings
        size = weight[known].square().mean().sqrt() / made[known].square().mean().sqrt()
        weight[known] = made[known] * size
