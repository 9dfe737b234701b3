"""How the encoder knows the order of the tokens (model.positions).

    absolute    a learned embedding per position is added to the token embeddings (BERT)
    rotary      queries and keys are rotated by their position (RoFormer, Su et al. 2021)
    relative    a learned bias per head and distance is added to the attention scores (T5, Raffel et al. 2020; MPNet)
    alibi       a fixed penalty per head and distance is subtracted from them (ALiBi, Press et al. 2022)

`rotary-and-absolute` has both of the first two. With rotary, relative and ALiBi positions, attention scores depend on
the distance between two tokens only.

Shapes: T positions, A heads, D width of a head.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

WITH_EMBEDDINGS = ("absolute", "rotary-and-absolute")
ROTARY_BASE = 10_000.0
LOCAL_SLOPE = 100.0                         # of local attention, in units of a score
BUCKETS = 32                                # of T5, half of them for each direction
LARGEST_DISTANCE = 128                      # farther tokens share the last bucket


def rotations(length: int, width: int) -> Tensor:
    """Returns the rotations of rotary positions, (T, D / 2) complex64: position t turns pair i of a head's numbers,
    (2 i, 2 i + 1), by the angle t / 10,000^(2 i / D)."""
    frequencies = ROTARY_BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def sinusoids(length: int, width: int) -> Tensor:
    """Returns the position encodings of Vaswani et al. (2017), (T, H): sin(t / 10,000^(2 i / H)) at 2 i, its cosine at
    2 i + 1."""
    turns = rotations(length, width + width % 2)
    return torch.view_as_real(turns).flip(-1).flatten(1)[:, :width]


def alibi_bias(length: int, heads: int) -> Tensor:
    """Returns the bias of ALiBi for attention in both directions, (A, T, T): minus the distance times the slope of the
    head, 2^(-8 h / A) for head h = 1 ... A."""
    position = torch.arange(length, dtype=torch.float32)
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
    return -slopes[:, None, None] * (position[None] - position[:, None]).abs()


def local_bias(length: int, heads: int, device: torch.device) -> Tensor:
    """Returns a bias (A, T, T) by which each head attends to one position only: the one at offset -1, 1, -2, 2, ... by
    head, or the nearest one that it sees. Every step away from there costs LOCAL_SLOPE."""
    head, position = torch.arange(heads, device=device), torch.arange(length, device=device)
    offset = torch.where(head % 2 == 0, -1, 1) * (head // 2 + 1)
    target = position + offset[:, None]                                                     # (A, T)
    return -LOCAL_SLOPE * (position - target[..., None]).abs().float()


def distance_buckets(length: int) -> Tensor:
    """Returns the bucket of each pair of positions, (T, T) int64, at [position of the query, position of the key].

    As in T5 for both directions: short distances have a bucket each, longer ones share buckets that grow with the
    logarithm of the distance.
    """
    offset = torch.arange(length)[None] - torch.arange(length)[:, None]
    half, distance = BUCKETS // 2, offset.abs()
    exact = half // 2
    share = (distance.clamp(min=1) / exact).log() / math.log(LARGEST_DISTANCE / exact)
    far = (exact + (share * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(offset > 0, half, 0) + torch.where(distance < exact, distance, far)


class RelativeBias(nn.Module):
    """The learned bias of relative positions. All layers share it."""

    def __init__(self, length: int, heads: int):
        super().__init__()
        self.bias = nn.Embedding(BUCKETS, heads)
        self.register_buffer("buckets", distance_buckets(length), persistent=False)

    def forward(self, length: int) -> Tensor:
        """Returns what is added to the attention scores of rows of `length` tokens, (A, T, T)."""
        return self.bias(self.buckets[:length, :length]).permute(2, 0, 1)
