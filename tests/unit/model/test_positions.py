"""Kinds of positions: gradients, distances, and the code paths for each precision."""
import itertools
import math

import pytest
import torch

from study.config.schema.model import WITH_POSITION_EMBEDDINGS
from study.model import kernels, positions
from study.model.kernels import ChunkedAttention, attention, rotate
from study.model.positions import (
    BUCKETS,
    LARGEST_DISTANCE,
    RelativeBias,
    alibi_bias,
    distance_buckets,
    local_bias,
    rotations,
    sinusoids,
)
from study.objectives.pretraining_model import new_model
from tests.support.models import T, V, batch
from tests.support.studies import changed

ROWS, LENGTH, HEADS, WIDTH = 5, 7, 3, 8
KINDS = ("absolute", "rotary", "rotary-and-absolute", "relative", "alibi")
BY_DISTANCE = ("rotary", "relative", "alibi")


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def rotated_by_the_formula(qkv):
    """Rotary positions one pair at a time, as in Su et al. 2021, equation 15."""
    result = qkv.clone()
    for t in range(qkv.shape[1]):
        for i in range(qkv.shape[-1] // 2):
            angle = t * 10_000 ** (-2 * i / qkv.shape[-1])
            x, y = qkv[:, t, :2, :, 2 * i], qkv[:, t, :2, :, 2 * i + 1]
            result[:, t, :2, :, 2 * i] = x * math.cos(angle) - y * math.sin(angle)
            result[:, t, :2, :, 2 * i + 1] = x * math.sin(angle) + y * math.cos(angle)
    return result


@pytest.fixture(params=["in place", "out of place"])
def path(request, monkeypatch):
    if request.param == "out of place":     # as on a GPU and in compiled models
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_queries_and_keys_are_rotated_by_the_formula(path, dtype):
    qkv = draw(ROWS, LENGTH, 3, HEADS, WIDTH, dtype=dtype)
    expected = rotated_by_the_formula(qkv.double())
    result = rotate(qkv.clone(), rotations(LENGTH, WIDTH))
    assert result.dtype == dtype
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(result.double(), expected, rtol=tolerance, atol=tolerance)
    assert torch.equal(result[:, :, 2], qkv[:, :, 2])


@pytest.mark.parametrize("padded", [False, True])
def test_the_gradient_through_rotation_and_attention_is_autograds(path, padded):
    weight, turn = draw(ROWS, LENGTH, HEADS, WIDTH, seed=1, dtype=torch.float64), rotations(LENGTH, WIDTH)
    mask = (torch.arange(LENGTH) < torch.tensor([7, 5, 7, 1, 6])[:, None])[:, None, None, :] if padded else None
    qkv = draw(ROWS, LENGTH, 3, HEADS, WIDTH, dtype=torch.float64).requires_grad_()
    expected = (attention(rotated_by_the_formula(qkv), mask, 0.0, False) * weight).sum()
    gradient, = torch.autograd.grad(expected, qkv)
    for function in (attention, lambda qkv, mask, dropout, _: ChunkedAttention.apply(qkv, mask, dropout)):
        result = (function(rotate(qkv * 1, turn), mask, 0.0, False) * weight).sum()
        torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(torch.autograd.grad(result, qkv)[0], gradient, rtol=1e-5, atol=1e-6)


def test_the_scores_of_rotated_queries_and_keys_depend_on_the_distance_alone():
    query, key = draw(WIDTH, dtype=torch.float64), draw(WIDTH, seed=1, dtype=torch.float64)
    qkv = torch.stack([query, key, key])[None, None, :, None].repeat(1, LENGTH, 1, 1, 1)
    rotated = rotate(qkv, rotations(LENGTH, WIDTH))[0, :, :, 0]
    scores = rotated[:, 0] @ rotated[:, 1].T
    for offset in range(1 - LENGTH, LENGTH):
        diagonal = scores.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand(len(diagonal)), rtol=0, atol=1e-6)
    assert scores[0].diff().abs().min() > 1e-3


def test_buckets_are_those_of_t5():
    from transformers.models.t5.modeling_t5 import T5Attention

    theirs = T5Attention._relative_position_bucket(
        torch.arange(300)[None] - torch.arange(300)[:, None], bidirectional=True, num_buckets=BUCKETS,
        max_distance=LARGEST_DISTANCE)
    assert torch.equal(distance_buckets(300), theirs)


@pytest.mark.parametrize("padded", [False, True])
def test_the_bias_is_added_to_the_scores_with_the_gradient_of_autograd(monkeypatch, padded):
    monkeypatch.setattr(kernels, "CACHED", 2 * HEADS * LENGTH * LENGTH)          # chunks of two rows and of one
    qkv = draw(ROWS, LENGTH, 3, HEADS, WIDTH).requires_grad_()
    bias = draw(HEADS, LENGTH, LENGTH, seed=1).requires_grad_()
    mask = (torch.arange(LENGTH) < torch.tensor([7, 5, 7, 1, 6])[:, None])[:, None, None, :] if padded else None
    query, key, value = (part.transpose(1, 2) for part in qkv.double().unbind(2))     # the reference is in float64
    scores = query @ key.mT / WIDTH**0.5 + bias.double()
    expected = (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1) @ value
    expected = torch.autograd.grad(expected.square().sum(), (qkv, bias))
    for result in (attention(qkv, mask, 0.0, False, bias), ChunkedAttention.apply(qkv, mask, 0.0, bias)):
        for gradient, other in zip(torch.autograd.grad(result.square().sum(), (qkv, bias)), expected, strict=True):
            torch.testing.assert_close(gradient, other, rtol=1e-4, atol=5e-6)


def test_the_bias_depends_on_the_distance_alone():
    torch.manual_seed(0)
    bias = RelativeBias(20, HEADS)(12).detach()
    for offset in range(-11, 12):
        diagonal = bias.diagonal(offset, dim1=1, dim2=2)
        assert torch.equal(diagonal, diagonal[:, :1].expand_as(diagonal))
    assert not torch.equal(bias[:, 0, 1], bias[:, 1, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_only_absolute_positions_tell_where_a_row_begins(config, kind):
    """With positions that count by distance, states do not change when the row is moved."""
    model = new_model(changed(config, model={"positions": kind}), V, 0).eval()
    ids, types, _ = batch()
    padding = torch.zeros(3, 4, dtype=torch.long)
    moved, seen = torch.cat([padding, ids[:, :-4]], 1), torch.cat([padding, torch.ones_like(ids[:, :-4])], 1).bool()
    difference = (model.encoder(moved, types, seen)[:, 4:T - 4] - model.encoder(ids[:, :-4], types[:, 4:])[:, :T - 8])
    assert (difference.abs().max() < 1e-5) == (kind in BY_DISTANCE)


def test_alibi_subtracts_the_distance_times_the_slope_of_the_head():
    """Slopes of Press et al. 2022, section 3: for 8 heads, 1/2, 1/4, ..., 1/256."""
    bias = alibi_bias(LENGTH, 8)
    for head, query, key in itertools.product(range(8), range(LENGTH), range(LENGTH)):
        assert bias[head, query, key] == -abs(query - key) / 2 ** (head + 1)


def test_local_attention_leaves_each_head_one_position():
    bias = local_bias(LENGTH, 4, torch.device("cpu"))
    for head, offset in enumerate((-1, 1, -2, 2)):
        for position in range(LENGTH):
            target = min(max(position + offset, 0), LENGTH - 1)
            assert bias[head, position].argmax() == target
    assert bias.softmax(-1).max(-1).values.min() == 1


def test_local_attention_ends_at_the_last_token_of_a_padded_row(config):
    """A row has the same states alone and in a batch with longer rows."""
    encoder = new_model(changed(config, training={"local_attention_from": 0}), V, 0).eval().encoder
    encoder.is_local.fill_(True)
    ids, types, _ = batch()
    mask = torch.arange(T) < torch.tensor([T, T - 5, 4])[:, None]
    together = encoder(ids, types * 0, mask)
    for row, length in enumerate((T, T - 5, 4)):
        alone = encoder(ids[row:row + 1, :length], types[row:row + 1, :length] * 0)
        torch.testing.assert_close(together[row:row + 1, :length], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "local"])
def test_a_causal_encoder_sees_no_later_token(config, kind, padded):
    changes = ({"training": {"local_attention_from": 0}} if kind == "local" else {"model": {"positions": kind}})
    model = new_model(changed(config, objective={"token_objective": "causal"}, **changes), V, 0).eval()
    if kind == "local":
        model.encoder.is_local.fill_(True)
    ids, types, mask = batch()
    other = ids.clone()
    other[:, T // 2] = (other[:, T // 2] + 1) % V
    states = [model.encoder(row, types * 0, mask if padded else None) for row in (ids, other)]
    difference = (states[0] - states[1]).abs().amax((0, 2))
    assert difference[:T // 2].max() == 0
    assert difference[T // 2] > 0


def test_attention_is_local_only_while_it_is_fixed(config):
    """A token then reaches the positions that the heads attend to, one layer after another, and no others."""
    encoder = new_model(changed(config, training={"local_attention_from": 3}), V, 0).eval().encoder
    layers, reach = len(encoder.layers), (encoder.heads + 1) // 2
    ids, types, _ = batch()
    other = ids.clone()
    other[:, T // 2] = (other[:, T // 2] + 1) % V
    for fixed in (False, True):
        encoder.is_local.fill_(fixed)
        difference = (encoder(ids, types) - encoder(other, types)).abs().amax((0, 2))
        far = (torch.arange(T) - T // 2).abs() > layers * reach
        assert bool((difference[far] == 0).all()) == fixed
        assert difference[T // 2] > 0
    assert "is_local" in encoder.state_dict()
    assert "is_local" not in new_model(config, V, 0).encoder.state_dict()


def test_sinusoids_follow_the_formula():
    """Vaswani et al. 2017, section 3.5."""
    waves = sinusoids(LENGTH, WIDTH)
    for t, i in itertools.product(range(LENGTH), range(WIDTH // 2)):
        angle = t / 10_000 ** (2 * i / WIDTH)
        assert waves[t, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
        assert waves[t, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)
    assert sinusoids(LENGTH, 5).shape == (LENGTH, 5)


@pytest.mark.parametrize(("start", "deviation"), [("bert", 0.02), ("width-aware", 0.1), ("torch", 1.0),
                                                 ("flax", 0.02)])
def test_sinusoidal_positions_have_the_size_of_other_embeddings(config, start, deviation):
    settings = {"positions": "absolute", "initialization": start}
    normal = new_model(changed(config, model=settings), V, 0).state_dict()
    waves = new_model(changed(config, model=settings | {"position_initialization": "sinusoidal"}), V, 0).state_dict()
    position = waves.pop("encoder.position.weight")
    assert float(position.square().mean().sqrt()) == pytest.approx(deviation)
    ratio = position / sinusoids(*position.shape)
    torch.testing.assert_close(ratio[1:], ratio[1, 0].expand_as(ratio[1:]), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(weight, normal[name]) for name, weight in waves.items())


@pytest.mark.parametrize("kind", ["rotary", "relative", "alibi"])
def test_the_order_of_the_tokens_counts(config, kind):
    model = new_model(changed(config, model={"positions": kind}), V, 0).eval()
    ids, types, _ = batch()
    swapped = ids[:, [0, 2, 1, *range(3, T)]]
    assert (model.encoder(ids, types * 0) - model.encoder(swapped, types * 0))[:, 3:].abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padded", [False, True])
def test_bfloat16_agrees_with_float32(config, kind, padded):
    model = new_model(changed(config, model={"positions": kind}), V, 0)
    ids, types, mask = batch()
    at = torch.tensor([3, 17, 40, 41, 70])

    def gradients():
        model.zero_grad()
        model(ids, types, mask if padded else None, at, ids.reshape(-1)[at], None).token.backward()
        return torch.cat([p.grad.flatten() for p in model.encoder.parameters()])

    expected = gradients()
    with torch.autocast("cpu", torch.bfloat16):
        result = gradients()
    assert torch.nn.functional.cosine_similarity(result, expected, dim=0) > 0.999


@pytest.mark.parametrize("changes", [
    {"model": {"positions": "rotary", "position_initialization": "sinusoidal"}},
    {"model": {"positions": "alibi"}, "training": {"position_learning_rate": 3.0}},
    {"objective": {"token_objective": "causal"}, "training": {"stop_after_escape": 5}},
    {"inputs": {"format": "segment-pairs"}, "training": {"stop_after_escape": 5}},
    {"masking": {"mask": 0.0, "random": 0.5, "keep": 0.5}, "training": {"patience": 5}},
    {"masking": {"mask": 0.0, "random": 0.5, "keep": 0.5}, "training": {"stop_after_escape": 5}}])
def test_settings_that_have_no_effect_are_refused(config, changes):
    with pytest.raises(ValueError, match=f"{list(list(changes.values())[-1])[-1]}.* needs"):
        changed(config, **changes)


def test_settings_and_model_agree_on_which_positions_have_embeddings(config):
    assert positions.WITH_EMBEDDINGS == WITH_POSITION_EMBEDDINGS
    for kind in KINDS:
        has = new_model(changed(config, model={"positions": kind}), V, 0).encoder.position is not None
        assert has == (kind in WITH_POSITION_EMBEDDINGS)


def test_rotary_positions_need_an_even_width_of_a_head(config):
    with pytest.raises(ValueError, match="even width per head"):
        changed(config, model={"positions": "rotary", "hidden_size": 18, "num_attention_heads": 2})
    assert positions.ROTARY_BASE == 10_000
