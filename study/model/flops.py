"""The floating-point operations of training, counted from the shapes."""
from __future__ import annotations

from study.config.schema import Model


def flops_per_token(settings: Model, vocabulary_size: int, length: int, projected_fraction: float) -> float:
    """Returns the floating-point operations of training per token, padding included, in rows of `length` tokens.

    Only matrix products count: 2 operations per multiply-add, and twice the forward pass for the backward pass. The
    output and feed-forward parts of the last layer, and the decoder, are computed for `projected_fraction` of the
    tokens. Padding has none of these, but counts as if it had: the result is slightly too high where rows are padded.
    """
    width, layers = settings.hidden_size, settings.num_hidden_layers
    attention = 3 * width**2 + 2 * length * width
    rest = width**2 + 2 * width * settings.intermediate_size
    head = width * vocabulary_size + (width**2 if settings.decoder_transform else 0)
    return 6.0 * (layers * attention + (layers - 1 + projected_fraction) * rest + projected_fraction * head)
