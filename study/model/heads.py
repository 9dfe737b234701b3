"""The heads of BERT: masked language model, and sentence pairs.

Shapes: B rows, S selected positions, H hidden size, V vocabulary.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from study.config.schema import Model
from study.model.encoder import ACTIVATIONS, Linear, layer_norm
from study.model.kernels import linear


class MLMHead(nn.Module):
    """Dense layer, activation, layer norm, and a projection to the vocabulary.

    The projection shares the weights of the token embeddings (`tied_decoder`) or has its own.
    """

    def __init__(self, settings: Model, embedding: nn.Embedding):
        super().__init__()
        width = settings.hidden_size
        self.transform = Linear(width, width) if settings.decoder_transform else None
        self.activation = ACTIVATIONS[settings.hidden_act]
        self.norm = layer_norm(settings) if settings.decoder_transform else None
        self.decoder = None if settings.tied_decoder else nn.Linear(width, embedding.num_embeddings, bias=False)
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))

    def forward(self, states: Tensor, embedding: nn.Embedding) -> Tensor:
        """States (..., H) to logits (..., V)."""
        if self.transform is not None:
            states = self.norm(self.activation(self.transform(states)))
        return linear(states, embedding.weight if self.decoder is None else self.decoder.weight, self.bias)


class SentenceHead(nn.Module):
    """Pooler (dense layer and tanh on [CLS]) and a classifier. Class 0: the second segment follows the first."""

    def __init__(self, settings: Model):
        super().__init__()
        self.pooler = nn.Linear(settings.hidden_size, settings.hidden_size)
        self.classifier = nn.Linear(settings.hidden_size, 2)

    def forward(self, states: Tensor) -> Tensor:
        """States (B, H) of [CLS] to logits (B, 2)."""
        return self.classifier(torch.tanh(self.pooler(states)))


def parameter_count(model: nn.Module) -> int:
    """Returns the number of parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())
