"""How much attention goes to the nearest positions.

Shapes: B rows, T positions, A heads, D width of a head.
"""
from __future__ import annotations

import torch
from torch import Tensor

from study.model.encoder import Attention, Encoder, Order
from study.model.kernels import rotate

OFFSETS = (-2, -1, 0, 1, 2)                 # of the position that is attended to


@torch.inference_mode()
def attention_offsets(encoder: Encoder, input_ids: Tensor) -> list[list[list[float]]]:
    """Returns, for every layer and head, the share of attention that goes to each of OFFSETS.

    input_ids (B, T): rows of one segment without padding. A share is the mean over the positions of all rows for which
    the offset is inside the row. Uniform attention would give 1 / T at each offset.
    """
    encoder.eval()
    shares, order = [], encoder.order(None, input_ids.shape[1])
    states = encoder(input_ids, torch.zeros_like(input_ids), all_states=True)
    for x, layer in zip(states[:-1], encoder.layers, strict=True):
        x = layer.attention_norm(x) if layer.pre_norm else x
        probabilities = attention_probabilities(layer.attention, x, order)
        shares.append([[float(probabilities[:, head].diagonal(offset, 1, 2).mean()) for offset in OFFSETS]
                       for head in range(layer.attention.heads)])
    return shares


def attention_probabilities(module: Attention, x: Tensor, order: Order) -> Tensor:
    """Returns the attention weights (B, A, T, T) of states x (B, T, H). They see all positions."""
    qkv = module.qkv(x).view(*x.shape[:2], 3, module.heads, -1)
    if order.rotations is not None:
        qkv = rotate(qkv, order.rotations)
    query, key, _ = (part.transpose(1, 2) for part in qkv.unbind(2))            # each (B, A, T, D)
    scores = query @ key.mT / query.shape[-1]**0.5
    return (scores if order.bias is None else scores + order.bias).softmax(-1)
