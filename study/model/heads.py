"""Pre-training heads: masked words, and next sentence or sentence order.

Shapes: B rows, T positions, S selected positions, H hidden size, V vocabulary.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from study.model.encoder import NORM_EPSILON, Encoder, initialize
from study.schema import Cell, Model


class WordHead(nn.Module):
    """BERT's decoder: dense, GELU, norm, then a projection to the vocabulary, tied to the embeddings or its own."""

    def __init__(self, settings: Model, embedding: nn.Embedding):
        super().__init__()
        width = settings.hidden_size
        self.transform = nn.Linear(width, width) if settings.decoder_transform else None
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON) if settings.decoder_transform else None
        self.decoder = None if settings.tied_decoder else nn.Linear(width, embedding.num_embeddings, bias=False)
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))

    def forward(self, states: Tensor, embedding: nn.Embedding) -> Tensor:
        """Logits (S, V) of states (S, H)."""
        if self.transform is not None:
            states = self.norm(F.gelu(self.transform(states)))
        return F.linear(states, embedding.weight if self.decoder is None else self.decoder.weight, self.bias)


class PairHead(nn.Module):
    """Pooler (dense, tanh on [CLS]) and two classes: 0 the second segment follows, 1 it does not."""

    def __init__(self, settings: Model):
        super().__init__()
        self.pooler = nn.Linear(settings.hidden_size, settings.hidden_size)
        self.classifier = nn.Linear(settings.hidden_size, 2)

    def forward(self, states: Tensor) -> Tensor:
        """Logits (B, 2) of states (B, T, H)."""
        return self.classifier(torch.tanh(self.pooler(states[:, 0])))


@dataclass
class Loss:
    """Sums over what was predicted, so that micro-batches add up exactly."""
    words: Tensor                           # summed NLL of the targets, nats
    pairs: Tensor | None                    # summed NLL of the pair labels


class PretrainingModel(nn.Module):
    """Encoder and heads. Only selected positions are projected to the vocabulary."""

    def __init__(self, cell: Cell, vocabulary_size: int):
        super().__init__()
        self.encoder = Encoder(cell.model, vocabulary_size, cell.examples.length, cell.objective.kind == "causal")
        self.words = WordHead(cell.model, self.encoder.token)
        self.pairs = PairHead(cell.model)

    def word_logits(self, states: Tensor, positions: Tensor) -> Tensor:
        """Logits (S, V) at flat `positions` (S,) of states (B, T, H)."""
        return self.words(states.reshape(-1, states.shape[-1])[positions], self.encoder.token)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor | None, positions: Tensor,
                targets: Tensor, next_sentence_label: Tensor | None) -> Loss:
        states = self.encoder(input_ids, token_type_ids, attention_mask)
        logits = self.word_logits(states, positions).float()
        words = F.cross_entropy(logits, targets, reduction="sum")
        if next_sentence_label is None:
            return Loss(words, None)
        return Loss(words, F.cross_entropy(self.pairs(states).float(), next_sentence_label, reduction="sum"))


def new_model(cell: Cell, vocabulary_size: int, seed: int) -> PretrainingModel:
    """The model of a cell at step 0: its weights depend on settings and seed alone.

    Encoder, word head and pair head have generators of their own: arms that differ in one start alike in the others.
    """
    with torch.device("cpu"):
        model = PretrainingModel(cell, vocabulary_size)
    for number, part in enumerate((model.encoder, model.words, model.pairs)):
        initialize(part, cell.model, torch.Generator().manual_seed(seed * 3 + number))
    return model


def use_threads(cell: Cell) -> None:
    """Has torch work with as many threads as the settings say: their number is part of what makes equal bytes."""
    if cell.training.threads is not None:
        torch.set_num_threads(cell.training.threads)


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def flops_per_token(cell: Cell, vocabulary_size: int, length: int) -> float:
    """Forward and backward floating-point operations a token, padding too, in rows of `length`: matrix products only
    (2 a multiply-add, backward twice the forward) of the dense layers, attention and the decoder where it predicts."""
    model = cell.model
    layer = 4 * model.hidden_size**2 + 2 * model.hidden_size * model.intermediate_size + 2 * length * model.hidden_size
    share = 1.0 if cell.objective.kind == "causal" else cell.masking.rate * cell.objective.predicted_share
    head = model.hidden_size * vocabulary_size + (model.hidden_size**2 if model.decoder_transform else 0)
    return 6.0 * (model.num_hidden_layers * layer + share * head)
