"""The model in pre-training: the encoder with the heads of its objectives, and the losses.

Shapes: B rows, T positions, S positions with a target, H hidden size, V vocabulary.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from study.config.schema import RunConfig
from study.model.encoder import Encoder, initialize
from study.objectives import objective_of


@dataclass
class Loss:
    """Summed losses, in nats, so that those of micro-batches add up to those of the batch."""
    token: Tensor
    sentence: Tensor | None                 # None without a sentence objective


class PretrainingModel(nn.Module):
    """The encoder and its heads, `mlm_head`, `sentence_head` and that of the token objective if it has another.

    Only the positions that a head reads pass through the second half of the last layer.
    """

    def __init__(self, config: RunConfig, vocabulary_size: int):
        super().__init__()
        self.objective = objective_of(config)
        self.encoder = Encoder(config.model, vocabulary_size, config.examples.max_seq_length,
                               self.objective.token.causal, config.training.local_attention_from is not None,
                               config.training.skip_padding)
        for name, head in self.objective.new_heads(self.encoder.token).items():
            self.add_module(name, head)

    @property
    def device(self) -> torch.device:
        """Returns the device of the weights."""
        return self.encoder.token.weight.device

    def as_tensor(self, array: np.ndarray | None) -> Tensor | None:
        """Returns the array as a tensor on the model's device; None for None."""
        return None if array is None else torch.from_numpy(np.ascontiguousarray(array)).to(self.device,
                                                                                           non_blocking=True)

    def token_logits(self, input_ids: Tensor, positions: Tensor, token_type_ids: Tensor | None = None,
                     attention_mask: Tensor | None = None) -> Tensor:
        """Returns the logits (S, V) of the MLM head at flat `positions` (S,) of rows (B, T).

        token_type_ids: None for rows of one segment. attention_mask: None for rows without padding.
        """
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        return self.mlm_head(self.encoder(input_ids, types, attention_mask, positions), self.encoder.token)

    def sentence_logits(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Returns the logits (B, 2) of the sentence head for rows (B, T)."""
        return self.sentence_head(self.encoder(input_ids, token_type_ids, attention_mask, cls_positions(input_ids)))

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor | None, positions: Tensor,
                targets: Tensor, next_sentence_label: Tensor | None) -> Loss:
        """Returns the losses of rows (B, T) with targets (S,) at the first S of the flat `positions` (S or more,)."""
        objective = self.objective
        if next_sentence_label is None:
            states = self.encoder(input_ids, token_type_ids, attention_mask, positions)
            return Loss(objective.token.loss(self, states, targets), None)
        with_cls = torch.cat([positions, cls_positions(input_ids)])
        states = self.encoder(input_ids, token_type_ids, attention_mask, with_cls)      # (S + B, H)
        at_targets, at_cls = states.split([len(positions), len(input_ids)])
        return Loss(objective.token.loss(self, at_targets, targets),
                    objective.sentence.loss(self, at_cls, next_sentence_label))


def cls_positions(input_ids: Tensor) -> Tensor:
    """Returns the flat positions (B,) of [CLS] in rows (B, T)."""
    return torch.arange(len(input_ids), device=input_ids.device) * input_ids.shape[1]


def new_model(config: RunConfig, vocabulary_size: int, seed: int) -> PretrainingModel:
    """Returns the model of a cell at step 0. Its weights depend only on the settings and the seed.

    The encoder and each head have their own random generators, so that arms that differ in one of these start with
    equal weights in the others.
    """
    with torch.device("cpu"):
        model = PretrainingModel(config, vocabulary_size)
    for number, part in enumerate(model.children()):        # the encoder, mlm_head, sentence_head, any other head
        own_seed = seed * 3 + number
        if number > 2:                                      # seed * 3 + 3 is that of another cell's encoder
            own_seed = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
        initialize(part, config.model, torch.Generator().manual_seed(own_seed))
    return model
