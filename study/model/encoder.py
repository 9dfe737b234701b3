"""The encoder of BERT (Devlin et al. 2019), with layer norm after or before each sublayer.

Shapes: B rows, T positions, H hidden size, A heads, S selected positions.
"""
from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from study.config.schema import Model

NORM_EPSILON = 1e-12                        # as BERT


class Linear(nn.Linear):
    """torch's, through `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.linear of x (..., I), weight (O, I), bias (O,). Autocast on a processor that multiplies in bfloat16, oneDNN
    adds the bias within the product: the same numbers, but torch first writes the bias to every row of the result, a
    pass over memory of its own. (What torch compiles is left to it.)"""
    if (not torch.compiler.is_compiling() and x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return Affine.apply(x.bfloat16(), weight.bfloat16(), bias.bfloat16())
    return F.linear(x, weight, bias)


class Affine(torch.autograd.Function):
    """x (..., I) times weight (O, I) transposed, plus bias (O,), by oneDNN; the gradient is that of torch's addmm."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        flat = gradient.flatten(0, -2)
        return gradient @ weight, flat.T @ x.flatten(0, -2), flat.sum(0)


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, settings: Model, causal: bool):
        super().__init__()
        self.heads, self.dropout, self.causal = settings.num_attention_heads, settings.dropout, causal
        self.qkv = Linear(settings.hidden_size, 3 * settings.hidden_size)
        self.output = Linear(settings.hidden_size, settings.hidden_size)

    def forward(self, x: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
        rows, length, width = x.shape
        qkv = self.qkv(x).view(rows, length, 3, self.heads, width // self.heads)
        dropout = self.dropout if self.training else 0.0
        plain = qkv.dtype == torch.bfloat16 and qkv.device.type == "cpu"
        if self.causal and (plain or mask is not None):
            order = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
            mask = order if mask is None else mask & order
        if plain:
            y = Attend.apply(qkv, mask, dropout)
        else:
            query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))     # each (B, A, T, H/A)
            y = F.scaled_dot_product_attention(query, key, value, mask, dropout, self.causal and mask is None)
            y = y.transpose(1, 2)
        return self.output(at(y.reshape(rows, length, width), positions))


class Attend(torch.autograd.Function):
    """What scaled_dot_product_attention gives, (B, T, A, H/A), of queries, keys and values (B, T, 3, A, H/A) and a
    mask that spreads to (B, 1, T, T), as plain products of some rows at a time whose scores stay in the cache: in
    bfloat16 on a processor torch's own takes several times as long forward and back. The probabilities that the
    gradient is made of stay in float32: with bfloat16 ones a model of WikiText-2 (one seed) left the unigram plateau
    some hundred steps later."""

    @staticmethod
    def forward(ctx, qkv: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
        rows, length, _, heads, width = qkv.shape
        size, scale = max(1, CACHED // (heads * length**2)), width**-0.5
        masks = itertools.repeat(None) if mask is None else mask.expand(rows, 1, length, length).split(size)
        y, kept = qkv.new_empty(rows, length, heads, width), []
        for part, visible, into in zip(qkv.split(size), masks, y.split(size), strict=False):
            part = part.permute(2, 0, 3, 1, 4).clone(memory_format=torch.contiguous_format).flatten(1, 2)
            query, key, value = part                                                 # each (B A, T, H/A)
            scores = query.mul_(scale) @ key.mT
            if visible is not None:
                scores.unflatten(0, (-1, heads)).masked_fill_(~visible, -torch.inf)
            shares = in_place_softmax(scores.float())
            left = F.dropout(torch.ones_like(scores), dropout) if dropout else None
            into.copy_((dropped(scores.copy_(shares), left) @ value).unflatten(0, (-1, heads)).transpose(1, 2))
            kept += [part, shares, left]
        ctx.save_for_backward(*kept)
        ctx.size, ctx.scale = size, scale
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, length, heads, width = gradient.shape
        found, kept = gradient.new_empty(rows, length, 3, heads, width), iter(ctx.saved_tensors)
        for ours, into in zip(gradient.split(ctx.size), found.split(ctx.size), strict=True):
            (query, key, value), shares, left = itertools.islice(kept, 3)
            ours = ours.transpose(1, 2).flatten(0, 1)
            of_shares = dropped(ours @ value.mT, left)
            exact = of_shares.float()
            torch._softmax_backward_data(exact, shares, -1, torch.float32, grad_input=exact)
            of_scores = of_shares.copy_(exact)
            # of_scores.mT @ query, the same, takes 1.6 times as long in rows of 128
            three = ((of_scores @ key).mul_(ctx.scale), (query.mT @ of_scores).mT,
                     (ours.mT @ dropped(shares.to(value.dtype), left)).mT)
            for number, one in enumerate(three):
                into[:, :, number] = one.unflatten(0, (-1, heads)).transpose(1, 2)
        return found, None, None


def dropped(x: Tensor, left: Tensor | None) -> Tensor:
    """x as it is, or times what dropout left of ones."""
    return x if left is None else x * left


def in_place_softmax(x: Tensor) -> Tensor:
    """Softmax over the last axis, on a processor left where x was: another array of its size would not be in the
    cache."""
    return torch.softmax(x, -1, out=x) if x.device.type == "cpu" else x.softmax(-1)


CACHED = 1 << 21                            # float32 numbers that stay in a processor's cache


def at(x: Tensor, positions: Tensor | None) -> Tensor:
    """States (B, T, H) as they are, or those (S, H) at flat `positions` (S,)."""
    return x if positions is None else x.reshape(-1, x.shape[-1]).index_select(0, positions)


def plus(x: Tensor, y: Tensor) -> Tensor:
    """x + y in x's type, where y was cast to it if it had another."""
    return x + y if x.dtype == y.dtype else y.to(x.dtype).add_(x)


class Layer(nn.Module):
    """post: x = norm(x + f(x)), as BERT. pre: x = x + f(norm(x)), as Xiong et al. (2020)."""

    def __init__(self, settings: Model, causal: bool):
        super().__init__()
        self.pre = settings.norm == "pre"
        self.attention = Attention(settings, causal)
        self.attention_norm = nn.LayerNorm(settings.hidden_size, eps=NORM_EPSILON)
        self.up = Linear(settings.hidden_size, settings.intermediate_size)
        self.down = Linear(settings.intermediate_size, settings.hidden_size)
        self.feedforward_norm = nn.LayerNorm(settings.hidden_size, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(settings.dropout)

    def feedforward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))

    def forward(self, x: Tensor, mask: Tensor | None, positions: Tensor | None = None) -> Tensor:
        """States (B, T, H), or (S, H) at flat `positions` (S,): what follows the attention is done for these alone."""
        if self.pre:
            x = plus(at(x, positions), self.dropout(self.attention(self.attention_norm(x), mask, positions)))
            return plus(x, self.dropout(self.feedforward(self.feedforward_norm(x))))
        x = self.attention_norm(plus(at(x, positions), self.dropout(self.attention(x, mask, positions))))
        return self.feedforward_norm(plus(x, self.dropout(self.feedforward(x))))


class Encoder(nn.Module):
    """Token, position and segment embeddings, then the layers; a last norm when norms come first."""

    def __init__(self, settings: Model, vocabulary_size: int, length: int, causal: bool = False):
        super().__init__()
        self.token = nn.Embedding(vocabulary_size, settings.hidden_size)
        self.position = nn.Embedding(length, settings.hidden_size)
        self.segment = nn.Embedding(2, settings.hidden_size)
        norm = settings.embedding_norm
        self.embedding_norm = nn.LayerNorm(settings.hidden_size, eps=NORM_EPSILON) if norm else nn.Identity()
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(Layer(settings, causal) for _ in range(settings.num_hidden_layers))
        pre = settings.norm == "pre"
        self.final_norm = nn.LayerNorm(settings.hidden_size, eps=NORM_EPSILON) if pre else nn.Identity()

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor | None = None,
                positions: Tensor | None = None, all_states: bool = False) -> Tensor | list[Tensor]:
        """Hidden states of the last layer: (B, T, H), or (S, H) at flat `positions` (S,) in B T, which costs less;
        with all_states those of every layer from the embeddings on, (B, T, H) each.

        input_ids, token_type_ids (B, T) int64; attention_mask (B, T) bool, true at tokens, None when nothing is
        padded.
        """
        mask = None if attention_mask is None else attention_mask[:, None, None, :]      # (B, 1, 1, T)
        x = self.token(input_ids) + self.position.weight[:input_ids.shape[1]] + self.segment(token_type_ids)
        x = self.dropout(self.embedding_norm(x))                                         # (B, T, H)
        states = [x]
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, mask, positions if number == len(self.layers) else None)
            states.append(x)
        states[-1] = self.final_norm(x)
        return states if all_states else states[-1]


@torch.no_grad()
def initialize(module: nn.Module, settings: Model, generator: torch.Generator) -> None:
    """Draws all weights. bert: normal, std 0.02. width-aware: linear 1/sqrt(fan_in), embeddings 0.1. Biases are 0.

    At widths of 64 to 256 a std of 0.02 shrinks the signal of every layer and keeps a model on the unigram plateau
    for most of a short run; 1/sqrt(fan_in) keeps it at any width.
    """
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            wide = 1 / math.sqrt(part.in_features) if isinstance(part, nn.Linear) else 0.1
            part.weight.normal_(0.0, 0.02 if settings.initialization == "bert" else wide, generator=generator)
        if isinstance(part, nn.Linear) and part.bias is not None:
            part.bias.zero_()
