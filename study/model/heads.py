"""Pre-training heads: masked words, and next sentence or sentence order.

Shapes: B rows, T positions, S selected positions, H hidden size, V vocabulary.
"""
from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from study.config.schema import Model, RunConfig
from study.model.encoder import CACHED, NORM_EPSILON, Encoder, Linear, in_place_softmax, initialize, linear


class WordHead(nn.Module):
    """BERT's decoder: dense, GELU, norm, then a projection to the vocabulary, tied to the embeddings or its own."""

    def __init__(self, settings: Model, embedding: nn.Embedding):
        super().__init__()
        width = settings.hidden_size
        self.transform = Linear(width, width) if settings.decoder_transform else None
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON) if settings.decoder_transform else None
        self.decoder = None if settings.tied_decoder else nn.Linear(width, embedding.num_embeddings, bias=False)
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))

    def forward(self, states: Tensor, embedding: nn.Embedding) -> Tensor:
        """Logits (S, V) of states (S, H)."""
        if self.transform is not None:
            states = self.norm(F.gelu(self.transform(states)))
        return linear(states, embedding.weight if self.decoder is None else self.decoder.weight, self.bias)


class PairHead(nn.Module):
    """Pooler (dense, tanh on [CLS]) and two classes: 0 the second segment follows, 1 it does not."""

    def __init__(self, settings: Model):
        super().__init__()
        self.pooler = nn.Linear(settings.hidden_size, settings.hidden_size)
        self.classifier = nn.Linear(settings.hidden_size, 2)

    def forward(self, states: Tensor) -> Tensor:
        """Logits (B, 2) of the states (B, H) of [CLS]."""
        return self.classifier(torch.tanh(self.pooler(states)))


@dataclass
class Loss:
    """Sums over what was predicted, so that micro-batches add up exactly."""
    words: Tensor                           # summed NLL of the targets, nats
    pairs: Tensor | None                    # summed NLL of the pair labels


class PretrainingModel(nn.Module):
    """Encoder and heads. Only what is predicted, and [CLS] for a pair, goes through the last layer's second half and
    to the vocabulary."""

    def __init__(self, config: RunConfig, vocabulary_size: int):
        super().__init__()
        self.encoder = Encoder(config.model, vocabulary_size, config.examples.max_seq_length, config.objective.token_objective == "causal")
        self.words = WordHead(config.model, self.encoder.token)
        self.pairs = PairHead(config.model)

    def word_logits(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor | None,
                    positions: Tensor) -> Tensor:
        """Logits (S, V) at flat `positions` (S,) of rows (B, T)."""
        return self.words(self.encoder(input_ids, token_type_ids, attention_mask, positions), self.encoder.token)

    def pair_logits(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Logits (B, 2) of rows (B, T)."""
        return self.pairs(self.encoder(input_ids, token_type_ids, attention_mask, first_positions(input_ids)))

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor | None, positions: Tensor,
                targets: Tensor, next_sentence_label: Tensor | None) -> Loss:
        """Losses of rows (B, T) whose targets (S,) are at the first S of flat `positions`."""
        if next_sentence_label is None:
            return Loss(summed_nll(self.word_logits(input_ids, token_type_ids, attention_mask, positions), targets),
                        None)
        both = torch.cat([positions, first_positions(input_ids)])
        states = self.encoder(input_ids, token_type_ids, attention_mask, both)
        words, first = states.split([len(positions), len(input_ids)])
        return Loss(summed_nll(self.words(words, self.encoder.token), targets),
                    F.cross_entropy(self.pairs(first).float(), next_sentence_label, reduction="sum"))


def first_positions(input_ids: Tensor) -> Tensor:
    """Flat positions (B,) of [CLS] in rows (B, T)."""
    return torch.arange(len(input_ids), device=input_ids.device) * input_ids.shape[1]


def summed_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy, nats, of logits (S or more, V), which are overwritten, and targets (S,)."""
    if logits.requires_grad:
        return SummedNll.apply(logits, targets)
    return F.cross_entropy(logits[:len(targets)].float(), targets, reduction="sum")


class SummedNll(torch.autograd.Function):
    """Cross-entropy whose gradient is left where the logits were, some rows at a time: the vocabulary's axis is gone
    over while it is in the cache and no second array of its size is made. The softmax is in float32 at any precision.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), device=logits.device)
        size = max(16, len(logits) if logits.is_cuda else CACHED // logits.shape[1])
        exact = logits.dtype == torch.float32
        scratch = None if exact else logits.new_empty(min(size, len(targets)), logits.shape[1], dtype=torch.float32)
        for part, target in zip(logits[:len(targets)].split(size), targets.split(size), strict=True):
            scores = part if exact else scratch[:len(part)].copy_(part)
            index = target[:, None]
            top, wanted = scores.amax(-1, keepdim=True), scores.gather(1, index)
            share = in_place_softmax(scores)                                     # (S, V), as the gradient
            total += (top - share.amax(-1, keepdim=True).log() - wanted).sum()
            share.scatter_add_(1, index, torch.full_like(index, -1, dtype=share.dtype))
            part.copy_(share)
        logits[len(targets):] = 0
        ctx.save_for_backward(logits)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0].mul_(gradient), None


def new_model(config: RunConfig, vocabulary_size: int, seed: int) -> PretrainingModel:
    """The model of a cell at step 0: its weights depend on settings and seed alone.

    Encoder, word head and pair head have generators of their own: arms that differ in one start alike in the others.
    """
    with torch.device("cpu"):
        model = PretrainingModel(config, vocabulary_size)
    for number, part in enumerate((model.encoder, model.words, model.pairs)):
        initialize(part, config.model, torch.Generator().manual_seed(seed * 3 + number))
    return model


def use_processor(config: RunConfig) -> None:
    """Has torch work with as many threads as the settings say (their number is part of what makes equal bytes), and
    glibc keep the memory that it has: a step frees and asks for the same large arrays over and over."""
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    with contextlib.suppress(OSError, AttributeError):      # another C library: slower, no different
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4       # malloc.h


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def flops_per_token(config: RunConfig, vocabulary_size: int, length: int) -> float:
    """Forward and backward floating-point operations a token, padding too, in rows of `length`: matrix products only
    (2 a multiply-add, backward twice the forward) of the dense layers and attention; the last layer's output and
    feed-forward parts and the decoder are done only where a word is predicted."""
    model = config.model
    attention = 3 * model.hidden_size**2 + 2 * length * model.hidden_size
    rest = model.hidden_size**2 + 2 * model.hidden_size * model.intermediate_size
    share = 1.0 if config.objective.token_objective == "causal" else config.masking.mlm_probability * config.objective.target_fraction
    head = model.hidden_size * vocabulary_size + (model.hidden_size**2 if model.decoder_transform else 0)
    layers = model.num_hidden_layers
    return 6.0 * (layers * attention + (layers - 1 + share) * rest + share * head)
