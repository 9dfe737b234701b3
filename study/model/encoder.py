"""The encoder of BERT (Devlin et al. 2019), with layer norm after or before each sublayer.

Shapes: B rows, T positions, H hidden size, A heads, D = H / A, S selected positions, N tokens (positions of all rows
that are not padding).
"""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from study.config.schema import Model
from study.model.kernels import Dropout, attention, linear, rotate
from study.model.positions import WITH_EMBEDDINGS, RelativeBias, alibi_bias, local_bias, rotations, sinusoids

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}
CUT_NORMAL_DEVIATION = 0.87962566103423978          # of a standard normal that is cut at 2 standard deviations


class Linear(nn.Linear):
    """nn.Linear, computed by kernels.linear."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        return linear(x, self.weight, self.bias)


def layer_norm(settings: Model) -> nn.LayerNorm:
    """Returns a layer norm over the hidden states."""
    return nn.LayerNorm(settings.hidden_size, eps=settings.layer_norm_eps)


def gather_positions(x: Tensor, positions: Tensor | None) -> Tensor:
    """Returns the states (S, H) of x (B, T, H) at flat `positions` (S,) into B T; all of x if `positions` is None."""
    return x if positions is None else x.reshape(-1, x.shape[-1]).index_select(0, positions)


def residual_add(x: Tensor, y: Tensor) -> Tensor:
    """Returns x + y in the dtype of x. Under autocast the residual stream is float32 and y may be bfloat16."""
    return x + y if x.dtype == y.dtype else y.to(x.dtype).add_(x)


class Order(NamedTuple):
    """What attention knows of the row apart from the states: which positions it sees, and their order."""
    mask: Tensor | None                     # bool, true at tokens, (B, 1, 1, T)
    rotations: Tensor | None                # of rotary positions, (T, D / 2)
    bias: Tensor | None                     # of relative positions and ALiBi, (A, T, T)
    packing: Packing | None = None          # where the states leave out padding


class Packing(NamedTuple):
    """Where the tokens of padded rows are. Without padding, the states of rows are (N, H) in place of (B, T, H), and
    only attention computes padding."""
    tokens: Tensor                          # their flat positions into B T, (N,)
    places: Tensor                          # flat position of a token -> its place among the tokens, (B T,)
    rows: int                               # B

    @classmethod
    def of(cls, attention_mask: Tensor) -> Packing:
        """attention_mask (B, T) bool: true at tokens."""
        flat = attention_mask.flatten()
        return cls(flat.nonzero().flatten(), flat.cumsum(0) - 1, len(attention_mask))

    def padded(self, x: Tensor) -> Tensor:
        """(N, W) to (B, T, W), with zeros at padding."""
        rows = x.new_zeros(len(self.places), x.shape[-1]).index_copy(0, self.tokens, x)
        return rows.view(self.rows, -1, x.shape[-1])


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017)."""

    def __init__(self, settings: Model, causal: bool):
        super().__init__()
        self.heads, self.dropout, self.causal = settings.num_attention_heads, settings.dropout, causal
        self.qkv = Linear(settings.hidden_size, 3 * settings.hidden_size)       # queries, keys and values at once
        self.output = Linear(settings.hidden_size, settings.hidden_size)

    def forward(self, x: Tensor, order: Order, positions: Tensor | None) -> Tensor:
        """(B, T, H) to (B, T, H), or to (S, H) at flat `positions`. Without padding, (N, H) in place of (B, T, H)."""
        qkv = self.qkv(x)
        if order.packing is not None:
            qkv = order.packing.padded(qkv)
            positions = order.packing.tokens if positions is None else positions
        rows, length, width = *qkv.shape[:2], x.shape[-1]
        qkv = qkv.view(rows, length, 3, self.heads, width // self.heads)                    # (B, T, 3, A, D)
        if order.rotations is not None:
            qkv = rotate(qkv, order.rotations)
        y = attention(qkv, order.mask, self.dropout if self.training else 0.0, self.causal, order.bias)
        return self.output(gather_positions(y.reshape(rows, length, width), positions))


class Layer(nn.Module):
    """Attention and feed-forward. Post-LN (BERT): x = norm(x + f(x)). Pre-LN (Xiong et al. 2020): x + f(norm(x))."""

    def __init__(self, settings: Model, causal: bool):
        super().__init__()
        self.pre_norm = settings.norm == "pre"
        self.attention = Attention(settings, causal)
        self.attention_norm = layer_norm(settings)
        self.up = Linear(settings.hidden_size, settings.intermediate_size)
        self.down = Linear(settings.intermediate_size, settings.hidden_size)
        self.feedforward_norm = layer_norm(settings)
        self.dropout = Dropout(settings.dropout)
        self.activation = ACTIVATIONS[settings.hidden_act]

    def feedforward(self, x: Tensor) -> Tensor:
        """(..., H) to (..., H)."""
        return self.down(self.activation(self.up(x)))

    def forward(self, x: Tensor, order: Order, positions: Tensor | None = None) -> Tensor:
        """(B, T, H) to (B, T, H), or to (S, H) at flat `positions`. Everything after the attention is then computed
        at these positions only. Without padding, (N, H) in place of (B, T, H)."""
        places = positions
        if order.packing is not None and positions is not None:
            places = order.packing.places.index_select(0, positions)
        if self.pre_norm:
            y = self.dropout(self.attention(self.attention_norm(x), order, positions))
            x = residual_add(gather_positions(x, places), y)
            return residual_add(x, self.dropout(self.feedforward(self.feedforward_norm(x))))
        y = self.dropout(self.attention(x, order, positions))
        x = self.attention_norm(residual_add(gather_positions(x, places), y))
        return self.feedforward_norm(residual_add(x, self.dropout(self.feedforward(x))))


class Encoder(nn.Module):
    """Embeddings of tokens, segments and (absolute) positions, the layers, and with pre-LN a final norm."""

    def __init__(self, settings: Model, vocabulary_size: int, length: int, causal: bool = False,
                 can_be_local: bool = False, skip_padding: bool = False):
        """can_be_local: whether attention may be fixed to near positions, as `is_local` says. skip_padding: whether the
        states of the layers leave out padding."""
        super().__init__()
        self.skip_padding = skip_padding
        self.token = nn.Embedding(vocabulary_size, settings.hidden_size)
        self.segment = nn.Embedding(2, settings.hidden_size)
        self.token_scale = math.sqrt(settings.hidden_size) if settings.embedding_scale == "root-width" else 1.0
        self.embedding_norm = layer_norm(settings) if settings.embedding_norm else nn.Identity()
        self.dropout = Dropout(settings.dropout if settings.embedding_dropout else 0.0)
        self.layers = nn.ModuleList(Layer(settings, causal) for _ in range(settings.num_hidden_layers))
        self.final_norm = layer_norm(settings) if settings.norm == "pre" else nn.Identity()
        # positions come last, so that arms that differ in them start with equal weights elsewhere
        kind, heads = settings.positions, settings.num_attention_heads
        self.heads = heads
        self.position = nn.Embedding(length, settings.hidden_size) if kind in WITH_EMBEDDINGS else None
        self.relative = RelativeBias(length, heads) if kind == "relative" else None
        self.register_buffer("rotations", rotations(length, settings.hidden_size // heads)
                             if kind.startswith("rotary") else None, persistent=False)
        self.register_buffer("is_local", torch.tensor(False) if can_be_local else None)
        self.register_buffer("alibi", alibi_bias(length, heads) if kind == "alibi" else None, persistent=False)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor | None = None,
                positions: Tensor | None = None, all_states: bool = False) -> Tensor | list[Tensor]:
        """Returns the hidden states of the last layer: (B, T, H), or (S, H) at flat `positions` (S,) into B T, which
        is faster. With `all_states`, returns the states of the embeddings and of every layer, each (B, T, H).

        input_ids, token_type_ids (B, T) int64. attention_mask (B, T) bool: true at tokens; None without padding.
        With `skip_padding`, `positions` must be those of tokens, and without them the states at padding are 0.
        """
        order, length = self.order(attention_mask, input_ids.shape[1]), input_ids.shape[1]
        if self.skip_padding and attention_mask is not None and not all_states:
            order = order._replace(packing=Packing.of(attention_mask))
        x = self.token(input_ids)
        if self.token_scale != 1:
            x = x * self.token_scale
        if self.position is not None:
            x = x + self.position.weight[:length]
        x = x + self.segment(token_type_ids)
        if order.packing is not None:
            x = gather_positions(x, order.packing.tokens)                                   # (N, H)
        x = self.dropout(self.embedding_norm(x))                                            # (B, T, H) or (N, H)
        states = [x]
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, order, positions if number == len(self.layers) else None)
            states.append(x)
        states[-1] = self.final_norm(x)                                         # (B, T, H), (N, H) or (S, H)
        if order.packing is not None and positions is None:
            return order.packing.padded(states[-1])
        return states if all_states else states[-1]

    def order(self, attention_mask: Tensor | None, length: int) -> Order:
        """Returns what attention knows of rows of `length` tokens. attention_mask (B, T) bool."""
        bias = None if self.alibi is None else self.alibi[:, :length, :length]
        bias = bias if self.relative is None else self.relative(length)
        if self.is_local is not None and self.is_local:
            local = local_bias(length, self.heads, self.is_local.device)
            bias = local if bias is None else bias + local
        return Order(mask=None if attention_mask is None else attention_mask[:, None, None, :],
                     rotations=None if self.rotations is None else self.rotations[:length],
                     bias=bias)


@torch.no_grad()
def initialize(module: nn.Module, settings: Model, generator: torch.Generator) -> None:
    """Draws all weights of linear layers and embeddings.

        bert            normal, standard deviation 0.02; biases 0
        width-aware     normal, standard deviation 1/sqrt(fan_in) in linear layers and 0.1 in embeddings; biases 0
        torch           PyTorch's defaults: uniform within 1/sqrt(fan_in) in linear layers, biases included (but the
                        decoder's bias stays 0); standard normal in embeddings
        flax            Flax's defaults: truncated normal, standard deviation 1/sqrt(fan_in), in linear layers; normal,
                        1/sqrt(width), in embeddings; biases 0. Flax has no default for position embeddings; they have
                        0.02, as in Dive into Deep Learning

    `position_initialization: sinusoidal` replaces the position embeddings by sines and cosines of the same root mean
    square.

    With 0.02 and a width of 64 to 256, every layer shrinks its input, and the model stays on the unigram plateau for
    most of a short run. 1/sqrt(fan_in) keeps the scale at any width.
    """
    for part in module.modules():
        if not isinstance(part, (nn.Linear, nn.Embedding)):
            continue
        scale = 1 / math.sqrt(part.in_features) if isinstance(part, nn.Linear) else 0.1
        bias = part.bias if isinstance(part, nn.Linear) else None
        if settings.initialization == "torch":
            _as_torch(part, scale, generator)
            continue
        if settings.initialization == "flax":
            _as_flax(part, scale, generator)
        else:
            part.weight.normal_(0.0, 0.02 if settings.initialization == "bert" else scale, generator=generator)
        if bias is not None:
            bias.zero_()
    if isinstance(module, Encoder) and settings.initialization == "flax" and module.position is not None:
        module.position.weight.normal_(0.0, 0.02, generator=generator)
    if isinstance(module, Encoder) and settings.position_initialization == "sinusoidal":
        deviation = {"bert": 0.02, "width-aware": 0.1, "torch": 1.0, "flax": 0.02}[settings.initialization]
        waves = sinusoids(*module.position.weight.shape)
        module.position.weight.copy_(waves * (deviation / waves.square().mean().sqrt()))


def _as_torch(part: nn.Linear | nn.Embedding, scale: float, generator: torch.Generator) -> None:
    if isinstance(part, nn.Embedding):
        part.weight.normal_(generator=generator)
        return
    part.weight.uniform_(-scale, scale, generator=generator)
    if part.bias is not None:
        part.bias.uniform_(-scale, scale, generator=generator)


def _as_flax(part: nn.Linear | nn.Embedding, scale: float, generator: torch.Generator) -> None:
    if isinstance(part, nn.Embedding):
        part.weight.normal_(0.0, part.embedding_dim**-0.5, generator=generator)
    else:
        deviation = scale / CUT_NORMAL_DEVIATION
        nn.init.trunc_normal_(part.weight, 0.0, deviation, -2 * deviation, 2 * deviation, generator)
