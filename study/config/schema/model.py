"""Settings of the encoder and its heads."""
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from study.config.schema.base import Settings

WITH_POSITION_EMBEDDINGS = ("absolute", "rotary-and-absolute")      # values of model.positions


class Model(Settings):
    """The encoder and its heads. Names follow `transformers.BertConfig` where it has one."""

    hidden_size: PositiveInt
    """Width of the encoder."""

    num_hidden_layers: PositiveInt
    """Number of layers."""

    num_attention_heads: PositiveInt
    """Attention heads per layer. It must divide `hidden_size`."""

    intermediate_size: PositiveInt
    """Width of the feed-forward layers."""

    norm: Literal["post", "pre"]
    """Layer norm after each residual connection (BERT), or before each sublayer and after the last layer."""

    embedding_norm: bool
    """Whether the embeddings are normalised before the first layer."""

    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Dropout probability of the embeddings, the attention weights and the output of every sublayer."""

    embedding_scale: Literal["one", "root-width"] = "one"
    """What token embeddings are multiplied by before positions are added: 1, or the square root of the width (Vaswani
    et al. 2017)."""

    positions: Literal["absolute", "rotary", "rotary-and-absolute", "relative", "alibi"] = "absolute"
    """`absolute`: an embedding per position (BERT). `rotary`: queries and keys are rotated by their position
    (RoFormer). `rotary-and-absolute`: both. `relative`: a learned bias per distance is added to the attention scores
    (T5). `alibi`: a fixed penalty that grows with the distance is subtracted from them (ALiBi, in both directions)."""

    position_initialization: Literal["normal", "sinusoidal"] = "normal"
    """Position embeddings at the start: drawn like the other embeddings, or sines and cosines (Vaswani et al. 2017)
    with the same root mean square. Both are trained."""

    hidden_act: Literal["gelu", "relu"] = "gelu"
    """Activation of the feed-forward layers and of the dense layer before the decoder."""

    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-12
    """Added to the variance in every layer norm."""

    embedding_dropout: bool = True
    """Whether dropout applies to the embeddings too."""

    initialization: Literal["width-aware", "bert", "torch", "flax"]
    """`width-aware`: standard deviation 1/sqrt(fan_in) for linear layers, 0.1 for embeddings. `bert`: 0.02.
    `torch`, `flax`: the defaults of these libraries."""

    tied_decoder: bool
    """Whether the decoder shares its weights with the token embeddings."""

    decoder_transform: bool
    """Whether BERT's dense layer, its activation and a layer norm precede the decoder."""

    @model_validator(mode="after")
    def _heads_divide_width(self):
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                             f"{self.num_attention_heads}")
        if self.positions.startswith("rotary") and self.hidden_size // self.num_attention_heads % 2:
            raise ValueError(f"positions {self.positions} needs an even width per head, not hidden_size "
                             f"{self.hidden_size} / num_attention_heads {self.num_attention_heads}")
        if self.position_initialization != "normal" and self.positions not in WITH_POSITION_EMBEDDINGS:
            raise ValueError(f"position_initialization {self.position_initialization} needs positions "
                             f"{' or '.join(WITH_POSITION_EMBEDDINGS)}, not {self.positions}")
        return self
