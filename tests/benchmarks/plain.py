"""The second peer: the training loop that a good engineer writes by hand, at the same shape and without a harness.

Packed rows, the decoder at the selected positions only, scaled_dot_product_attention, autocast, fused AdamW. Masks are
drawn in whole-array operations. It has no validation, no checkpoints and no resume.
"""
from __future__ import annotations

import contextlib
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.workload import LEAST, WARMUP, Shape, data_of

CLS, SEP, MASK, FIRST = 2, 3, 4, 5          # ids of the special tokens, and of the first ordinary one


class Layer(nn.Module):
    """A post-LN Transformer layer."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = self.norm1(x + self.out(y))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    """BERT with a masked-LM head. Returns the mean loss over the selected positions."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.tokens, self.positions = (nn.Embedding(size, shape.width) for size in (shape.vocabulary, shape.length))
        self.norm = nn.LayerNorm(shape.width)
        self.layers = nn.ModuleList(Layer(shape.width, shape.heads) for _ in range(shape.layers))
        self.transform = nn.Sequential(nn.Linear(shape.width, shape.width), nn.GELU(), nn.LayerNorm(shape.width))
        self.bias = nn.Parameter(torch.zeros(shape.vocabulary))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids: Tensor, selected: Tensor, targets: Tensor) -> Tensor:
        x = self.norm(self.tokens(ids) + self.positions.weight)
        for layer in self.layers:
            x = layer(x)
        return F.cross_entropy(F.linear(self.transform(x.flatten(0, 1)[selected]), self.tokens.weight, self.bias),
                               targets)


def masked(ids: Tensor, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns rows (B, T) with 15 % of the ordinary tokens corrupted 80/10/10, their positions and their targets."""
    draw, kind = torch.rand(ids.shape), torch.rand(ids.shape)
    chosen = (draw < 0.15) & (ids >= FIRST)
    shown = torch.where(chosen & (kind < 0.8), MASK, ids)
    shown = torch.where(chosen & (kind >= 0.9), torch.randint(FIRST, vocabulary, ids.shape), shown)
    return shown, chosen.flatten().nonzero().squeeze(1), ids[chosen]


def train_step(model: Bert, optimizer: torch.optim.Optimizer, rows: Tensor, vocabulary: int, precision: str) -> float:
    """Trains on rows of ids (B, T). Returns the loss before the step."""
    device = next(model.parameters()).device
    autocast = torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()
    with autocast:
        loss = model(*(part.to(device) for part in masked(rows, vocabulary)))
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def plain_speed(shape: Shape, precision: str, seconds: float) -> float:
    """Tokens per second, from the end of the warm-up to the first step that ends after `seconds`."""
    ids = torch.from_numpy(data_of(shape).train.ids.astype("int64"))
    inner = shape.length - 2
    packed = ids[:len(ids) // inner * inner].view(-1, inner)
    packed = torch.cat([torch.full((len(packed), 1), CLS), packed, torch.full((len(packed), 1), SEP)], 1)
    model = Bert(shape).to("cuda" if torch.cuda.is_available() else "cpu")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    times: list[float] = []
    while len(times) <= WARMUP + LEAST or times[-1] - times[WARMUP] <= seconds:
        train_step(model, optimizer, packed[torch.randint(len(packed), (shape.rows,))], shape.vocabulary, precision)
        times.append(time.perf_counter())
    return (len(times) - 1 - WARMUP) * shape.rows * shape.length / (times[-1] - times[WARMUP])
