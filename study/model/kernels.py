"""Processor-specific code: torch's operations, computed in a faster way where torch's own are slow.

Each function equals one of torch's and calls it where torch is fastest; dropout draws other random numbers. The
faster ways are for bfloat16 on a processor with bfloat16 instructions, for dropout on a processor, and for the loss
over a large vocabulary.

Shapes: B rows, T positions, A heads, D width of a head, I and O input and output width, S positions, V vocabulary.
"""
from __future__ import annotations

import contextlib
import ctypes
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

CACHED = 1 << 21                            # float32 numbers that fit into a processor's cache
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4       # malloc.h


def configure_processor(threads: int | None) -> None:
    """Sets torch's number of threads (None: torch's choice) and makes glibc keep freed memory.

    The number of threads is part of what determines the bytes of a result. A training step frees and allocates the
    same large arrays again and again; returning them to the system each time is slow.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    with contextlib.suppress(OSError, AttributeError):      # another C library: slower, but the results are the same
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def has_bfloat16() -> bool:
    """Returns whether the GPU, or without one the processor, computes matrix products in bfloat16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns F.linear(x, weight, bias): x (..., I), weight (O, I), bias (O,), result (..., O)."""
    if (not torch.compiler.is_compiling() and x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return FusedBiasLinear.apply(x.bfloat16(), weight.bfloat16(), bias.bfloat16())
    return F.linear(x, weight, bias)


class FusedBiasLinear(torch.autograd.Function):
    """F.linear in bfloat16 by oneDNN, which adds the bias within the matrix product.

    F.linear first copies the bias to every row of the result, which is a separate pass over memory.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)                                           # (rows, O)
        return gradient @ weight, rows.T @ x.flatten(0, -2), rows.sum(0)


def rotate(qkv: Tensor, rotations: Tensor) -> Tensor:
    """Returns qkv (B, T, 3, A, D) with queries and keys rotated by their position (positions.rotations, (T, D / 2)).

    On a processor, qkv is overwritten.
    """
    if qkv.device.type == "cpu" and not torch.compiler.is_compiling():
        return RotateInPlace.apply(qkv, rotations)
    rotated = qkv[:, :, :2].float().unflatten(-1, (-1, 2))                       # (B, T, 2, A, D / 2, 2)
    cos, sin = rotations.real[:, None, None], rotations.imag[:, None, None]
    first, second = rotated.unbind(-1)
    rotated = torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2)
    return torch.cat([rotated.to(qkv.dtype), qkv[:, :, 2:]], 2)


class RotateInPlace(torch.autograd.Function):
    """Rotary positions as one product of complex numbers, which overwrites queries and keys.

    The gradient is rotated back in the same way. torch's own operations would pass over memory several times.
    """

    @staticmethod
    def forward(ctx, qkv: Tensor, rotations: Tensor) -> Tensor:
        ctx.rotations = rotations[:, None, None]                                 # (T, 1, 1, D / 2)
        # detached: autograd would otherwise copy the gradient of a tensor that is a view and was overwritten
        return multiply_pairs(qkv.detach(), ctx.rotations)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return multiply_pairs(gradient.contiguous(), ctx.rotations.conj()), None


def multiply_pairs(qkv: Tensor, factors: Tensor) -> Tensor:
    """Multiplies the pairs of numbers of queries and keys, as complex numbers, by factors (T, 1, 1, D / 2). Returns qkv
    (B, T, 3, A, D), which is overwritten."""
    part = qkv[:, :, :2]
    pairs = part.float() if part.dtype == torch.bfloat16 else part
    torch.view_as_complex(pairs.unflatten(-1, (-1, 2))).mul_(factors)
    if pairs is not part:
        part.copy_(pairs)
    return qkv


def attention(qkv: Tensor, mask: Tensor | None, dropout: float, causal: bool, bias: Tensor | None = None) -> Tensor:
    """Returns scaled dot-product attention (B, T, A, D) of queries, keys and values qkv (B, T, 3, A, D).

    mask: bool, true where a position may be seen, broadcast to (B, 1, T, T); None allows all. causal: positions also
    see no later position. bias: added to the scores, (A, T, T).
    """
    length = qkv.shape[1]
    in_chunks = qkv.device.type == "cpu" and (qkv.dtype == torch.bfloat16 or dropout > 0)
    if causal and (in_chunks or mask is not None or bias is not None):
        earlier = torch.ones(length, length, dtype=torch.bool, device=qkv.device).tril()
        mask = earlier if mask is None else mask & earlier
    if in_chunks:
        return ChunkedAttention.apply(qkv, mask, dropout, bias)
    query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))         # each (B, A, T, D)
    if bias is not None:
        mask = bias.to(qkv.dtype) if mask is None else torch.where(mask, bias, -torch.inf).to(qkv.dtype)
    y = F.scaled_dot_product_attention(query, key, value, mask, dropout, causal and mask is None)
    return y.transpose(1, 2)                                                     # (B, T, A, D)


class ChunkedAttention(torch.autograd.Function):
    """F.scaled_dot_product_attention on a processor, as matrix products of a few rows at a time.

    The scores of a chunk of rows stay in the cache. In bfloat16, torch's own kernel takes several times as long,
    forward and backward; with dropout, it is slow in every precision. The probabilities that the gradient uses stay in
    float32: with bfloat16 probabilities, a model of WikiText-2 (one seed) left the unigram plateau some hundred steps
    later.
    """

    @staticmethod
    def forward(ctx, qkv: Tensor, mask: Tensor | None, dropout: float, bias: Tensor | None = None) -> Tensor:
        """qkv (B, T, 3, A, D) to (B, T, A, D); mask broadcasts to (B, 1, T, T); bias (A, T, T)."""
        rows, length, _, heads, width = qkv.shape
        size, scale = max(1, CACHED // (heads * length**2)), width**-0.5
        masks = itertools.repeat(None) if mask is None else mask.expand(rows, 1, length, length).split(size)
        y, saved = qkv.new_empty(rows, length, heads, width), []
        for chunk, visible, result in zip(qkv.split(size), masks, y.split(size), strict=False):
            chunk = chunk.permute(2, 0, 3, 1, 4).clone(memory_format=torch.contiguous_format).flatten(1, 2)
            query, key, value = chunk                                            # each (rows A, T, D)
            scores = query.mul_(scale) @ key.mT                                  # (rows A, T, T)
            if bias is not None:
                scores.unflatten(0, (-1, heads)).add_(bias)
            if visible is not None:
                scores.unflatten(0, (-1, heads)).masked_fill_(~visible, -torch.inf)
            probabilities = in_place_softmax(scores.float())
            keep = dropout_mask(scores, dropout) if dropout else None
            weighted = apply_dropout(scores.copy_(probabilities), keep) @ value
            result.copy_(weighted.unflatten(0, (-1, heads)).transpose(1, 2))
            saved += [chunk, probabilities, keep]
        ctx.save_for_backward(*saved)
        ctx.size, ctx.scale, ctx.has_bias = size, scale, bias is not None
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, Tensor | None]:
        rows, length, heads, width = gradient.shape
        bias_gradient = gradient.new_zeros(heads, length, length, dtype=torch.float32) if ctx.has_bias else None
        qkv_gradient, saved = gradient.new_empty(rows, length, 3, heads, width), iter(ctx.saved_tensors)
        for chunk, result in zip(gradient.split(ctx.size), qkv_gradient.split(ctx.size), strict=True):
            (query, key, value), probabilities, keep = itertools.islice(saved, 3)
            chunk = chunk.transpose(1, 2).flatten(0, 1)                          # (rows A, T, D)
            probability_gradient = apply_dropout(chunk @ value.mT, keep)
            scores_gradient = probability_gradient.float()
            torch._softmax_backward_data(scores_gradient, probabilities, -1, torch.float32, grad_input=scores_gradient)
            if bias_gradient is not None:
                bias_gradient += scores_gradient.unflatten(0, (-1, heads)).sum(0)
            scores_gradient = probability_gradient.copy_(scores_gradient)
            # scores_gradient.mT @ query would be the same, but takes 1.6 times as long with rows of 128 tokens
            parts = ((scores_gradient @ key).mul_(ctx.scale), (query.mT @ scores_gradient).mT,
                     (chunk.mT @ apply_dropout(probabilities.to(value.dtype), keep)).mT)
            for index, part in enumerate(parts):
                result[:, :, index] = part.unflatten(0, (-1, heads)).transpose(1, 2)
        return qkv_gradient, None, None, bias_gradient


def apply_dropout(x: Tensor, keep: Tensor | None) -> Tensor:
    """Returns x times `keep`, a dropout mask; x itself without one."""
    return x if keep is None else x * keep


class Dropout(nn.Module):
    """nn.Dropout with the masks of `dropout_mask` on a processor, where torch's take several times as long to draw."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.probability)
        return x * dropout_mask(x, self.probability)


def dropout_mask(x: Tensor, probability: float) -> Tensor:
    """Returns a tensor like x, in float32 or bfloat16: 0 with this probability, otherwise 1 / (1 - probability).

    16 random bits decide on a number, so the probability is rounded to a multiple of 2**-16. The bits are those of
    NumPy's SFC64, whose seed is drawn from torch's generator. A compiled model has torch's own mask.
    """
    if torch.compiler.is_compiling():
        return F.dropout(torch.ones_like(x), probability)
    threshold = min(round(probability * 2**16), 2**16 - 1)
    scale = torch.tensor(2**16 / (2**16 - threshold), dtype=x.dtype)
    if x.dtype == torch.bfloat16:           # NumPy has no bfloat16: the same bits as integers
        scale = scale.view(torch.int16)
    seed = int(torch.randint(2**63 - 1, ()))
    bits = np.random.SFC64(seed).random_raw(-(-x.numel() // 4)).view(np.uint16)[:x.numel()]
    return torch.from_numpy((bits >= threshold) * scale.numpy()).view(x.dtype).view(x.shape)


def in_place_softmax(x: Tensor) -> Tensor:
    """Returns the softmax over the last axis. On a processor it overwrites x: a second array of that size would not
    fit into the cache."""
    return torch.softmax(x, -1, out=x) if x.device.type == "cpu" else x.softmax(-1)


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the summed cross-entropy, in nats, of targets (S,) and the first S rows of logits (S or more, V).

    The logits are overwritten if they require a gradient.
    """
    if logits.requires_grad:
        return InPlaceCrossEntropy.apply(logits, targets)
    return F.cross_entropy(logits[:len(targets)].float(), targets, reduction="sum")


class InPlaceCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy that writes its gradient over the logits, a few rows at a time.

    The row of a vocabulary is processed while it is in the cache, and no second array of the size of the logits is
    needed. The softmax is computed in float32 for logits of any precision.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), device=logits.device)
        size = max(16, len(logits) if logits.is_cuda else CACHED // logits.shape[1])
        in_float32 = logits.dtype == torch.float32
        scratch = None if in_float32 else logits.new_empty(min(size, len(targets)), logits.shape[1],
                                                           dtype=torch.float32)
        for chunk, target in zip(logits[:len(targets)].split(size), targets.split(size), strict=True):
            scores = chunk if in_float32 else scratch[:len(chunk)].copy_(chunk)
            index = target[:, None]
            largest, true_score = scores.amax(-1, keepdim=True), scores.gather(1, index)
            probabilities = in_place_softmax(scores)
            # the largest probability is 1 / sum(exp(score - largest))
            total += (largest - probabilities.amax(-1, keepdim=True).log() - true_score).sum()
            probabilities.scatter_add_(1, index, torch.full_like(index, -1, dtype=probabilities.dtype))
            chunk.copy_(probabilities)      # probabilities minus one at the target: the gradient
        logits[len(targets):] = 0
        ctx.save_for_backward(logits)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0].mul_(gradient), None
