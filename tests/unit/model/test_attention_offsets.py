"""The recorded shares of attention, against the model's own attention."""
import pytest
import torch

from study.model.attention_offsets import OFFSETS, attention_offsets, attention_probabilities
from study.objectives.pretraining_model import new_model
from tests.support.models import T, V, batch
from tests.support.studies import changed


@pytest.mark.parametrize("kind", ["absolute", "rotary", "rotary-and-absolute", "relative", "alibi"])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_probabilities_are_those_of_the_models_attention(config, kind, norm):
    encoder = new_model(changed(config, model={"positions": kind, "norm": norm}), V, 0).eval().encoder
    ids, types, _ = batch()
    states, order = encoder(ids, types, all_states=True), encoder.order(None, T)
    for x, layer in zip(states[:-1], encoder.layers, strict=True):
        x = layer.attention_norm(x) if layer.pre_norm else x
        attention = layer.attention
        value = attention.qkv(x).view(*x.shape[:2], 3, attention.heads, -1)[:, :, 2].transpose(1, 2)
        mixed = attention_probabilities(attention, x, order) @ value
        ours = attention.output(mixed.transpose(1, 2).reshape(x.shape))
        torch.testing.assert_close(ours, attention(x, order, None), rtol=1e-4, atol=1e-5)


def test_attention_without_preference_is_uniform_and_a_strong_bias_shows(config):
    encoder = new_model(changed(config, model={"positions": "relative"}), V, 0).encoder
    ids = batch()[0]
    with torch.no_grad():
        for layer in encoder.layers:
            layer.attention.qkv.weight.zero_()
        encoder.relative.bias.weight.zero_()
    for head in (head for layer in attention_offsets(encoder, ids) for head in layer):
        assert head == pytest.approx([1 / T] * len(OFFSETS))
    with torch.no_grad():
        encoder.relative.bias.weight[1, 0] = 50.0       # head 0 looks one position to the left
    shares = attention_offsets(encoder, ids)[0]
    assert shares[0][OFFSETS.index(-1)] == pytest.approx(1)
    assert shares[1] == pytest.approx([1 / T] * len(OFFSETS))
