"""The model against `transformers` and against itself."""
import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from study.model import encoder, heads
from study.model.encoder import Attend, initialize
from study.model.heads import new_model, parameter_count
from tests.support.models import T, V, batch
from tests.support.studies import changed


@pytest.fixture
def model(config):
    return new_model(config, V, seed=0).eval()


def test_loss_on_selected_positions_equals_the_full_one_and_its_gradients(model):
    ids, types, mask = batch()
    positions = torch.tensor([3, 40, 41, 70])
    targets = ids.reshape(-1)[positions]
    label = torch.tensor([0, 1, 1])
    ours = model(ids, types, mask, positions, targets, label)
    ours.words.backward()
    gradients = [p.grad.clone() for p in model.encoder.parameters()]
    model.zero_grad()
    states = model.encoder(ids, types, mask)
    logits = model.words(states, model.encoder.token)
    labels = torch.full((ids.numel(),), -100)
    labels[positions] = targets
    full = torch.nn.functional.cross_entropy(logits.view(-1, V), labels, reduction="sum")
    full.backward()
    torch.testing.assert_close(ours.words, full)
    for gradient, parameter in zip(gradients, model.encoder.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.pairs, torch.nn.functional.cross_entropy(model.pairs(states[:, 0]), label,
                                                                            reduction="sum"))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_padding_says_nothing(config, norm):
    model = new_model(changed(config, model={"norm": norm}), V, 0).eval()
    ids, types, mask = batch()
    other, other_types = ids.clone(), types.clone()
    other[~mask], other_types[~mask] = 7, 0
    torch.testing.assert_close(model.encoder(ids, types, mask)[mask], model.encoder(other, other_types, mask)[mask],
                               rtol=0, atol=1e-6)


def test_causal_attention_does_not_look_ahead(config):
    model = new_model(changed(config, objective={"token_objective": "causal"}), V, 0).eval()
    ids, types, mask = batch()
    changed_ids = ids.clone()
    changed_ids[:, 10:] = 6
    for attention in (None, mask):
        torch.testing.assert_close(model.encoder(ids, types, attention)[:, :10],
                                   model.encoder(changed_ids, types, attention)[:, :10], rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_all_states_end_with_the_last(config, norm):
    model = new_model(changed(config, model={"norm": norm}), V, 0).eval()
    ids, types, _ = batch()
    states = model.encoder(ids, types, all_states=True)
    assert len(states) == config.model.num_hidden_layers + 1
    assert torch.equal(states[-1], model.encoder(ids, types))


def test_initialisation_is_a_function_of_the_seed_and_knows_the_width(config):
    first, again, other = (new_model(config, V, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.token.weight"], other["encoder.token.weight"])
    wide = changed(config, model={"hidden_size": 256, "intermediate_size": 512})
    model = new_model(wide, V, 0)
    assert model.encoder.layers[0].up.weight.std().item() == pytest.approx(1 / 16, rel=0.02)
    assert model.encoder.token.weight.std().item() == pytest.approx(0.1, rel=0.03)
    bert = changed(wide, model={"initialization": "bert"})
    initialize(model, bert.model, torch.Generator().manual_seed(0))
    assert model.encoder.layers[0].up.weight.std().item() == pytest.approx(0.02, rel=0.02)


def test_arms_share_what_their_shapes_share(config):
    pre = new_model(changed(config, model={"norm": "pre"}), V, 0).state_dict()
    post = new_model(config, V, 0).state_dict()
    assert torch.equal(pre["encoder.layers.1.up.weight"], post["encoder.layers.1.up.weight"])
    untied = new_model(changed(config, model={"tied_decoder": False}), V, 0).state_dict()
    assert torch.equal(untied["encoder.token.weight"], post["encoder.token.weight"])


def test_step_zero_loss_is_near_uniform(config):
    ids, types, _ = batch()
    model = new_model(config, V, 0).eval()
    positions = torch.arange(ids.numel())
    loss = model(ids, types, None, positions, ids.reshape(-1), None)
    assert loss.words.item() / ids.numel() == pytest.approx(np.log(V), abs=0.6)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_states_at_positions_are_those_of_all_positions(config, norm):
    ids, types, mask = batch()
    model = new_model(changed(config, model={"norm": norm}), V, 0).eval()
    positions = torch.tensor([3, 40, 41, 70])
    whole = model.encoder(ids, types, mask)
    torch.testing.assert_close(model.encoder(ids, types, mask, positions), whole.view(-1, whole.shape[-1])[positions])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_in_plain_products_equals_torchs_with_its_gradient(monkeypatch, causal, padded):
    monkeypatch.setattr(encoder, "CACHED", 2 * 3 * 7 * 7)       # so that 5 rows are two parts and a smaller one
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(5, 7, 3, 3, 4, generator=generator, requires_grad=True)
    mask = (torch.arange(7) < torch.tensor([7, 5, 7, 1, 6])[:, None])[:, None, None, :] if padded else None
    if causal:
        order = torch.ones(7, 7, dtype=torch.bool).tril()
        mask = order if mask is None else mask & order
    expected = scaled_dot_product_attention(*(part.transpose(1, 2) for part in qkv.unbind(2)), mask).transpose(1, 2)
    ours = Attend.apply(qkv, mask, 0.0)
    torch.testing.assert_close(ours, expected)
    weight = torch.randn(expected.shape, generator=generator)
    torch.testing.assert_close(torch.autograd.grad((ours * weight).sum(), qkv),
                               torch.autograd.grad((expected * weight).sum(), qkv))


@pytest.mark.parametrize("shape", [(33, 24), (3, 11, 24)])
def test_dense_layers_in_bfloat16_are_torchs_with_their_gradients(monkeypatch, shape):
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(size, generator=generator).requires_grad_() for size in (shape, (40, 24), (40,))]
    weight = torch.randn(*shape[:-1], 40, generator=generator)

    def gradients():
        with torch.autocast("cpu", torch.bfloat16):
            y = encoder.linear(*values)
        assert y.dtype == torch.bfloat16
        return y.detach(), *torch.autograd.grad((y * weight).sum(), values)

    ours = gradients()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    for one, expected in zip(ours, gradients(), strict=True):
        assert one.dtype == expected.dtype
        torch.testing.assert_close(one, expected, rtol=2 ** -7, atol=2 ** -12)       # a rounding: on some, none
    assert encoder.linear(*values).dtype == torch.float32


def test_attention_in_plain_products_drops_probabilities_as_torch_does():
    qkv = torch.randn(5, 7, 3, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
    torch.manual_seed(1)
    expected = torch.dropout((query * 4 ** -0.5 @ key.mT).softmax(-1), 0.4, True) @ value
    torch.manual_seed(1)
    ours = Attend.apply(qkv, None, 0.4)
    torch.testing.assert_close(ours, expected.transpose(1, 2))
    torch.testing.assert_close(torch.autograd.grad(ours.square().sum(), qkv),
                               torch.autograd.grad(expected.square().sum(), qkv))


def test_cross_entropy_in_place_equals_torchs_with_its_gradient(monkeypatch):
    monkeypatch.setattr(heads, "CACHED", 20 * 50)       # so that 64 rows are three parts and a smaller one
    logits = (torch.randn(64, 50, generator=torch.Generator().manual_seed(0)) * 8).requires_grad_()
    targets = torch.arange(64) % 50
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    gradient, = torch.autograd.grad(expected * 0.3, logits)
    ours = heads.summed_nll(logits * 1, targets)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(torch.autograd.grad(ours * 0.3, logits)[0], gradient)
    more = torch.cat([logits, torch.ones(7, 50)])       # rows without a target
    torch.testing.assert_close(heads.summed_nll(more * 1, targets), expected)
    torch.testing.assert_close(torch.autograd.grad(heads.summed_nll(more * 1, targets) * 0.3, logits)[0], gradient)
    torch.testing.assert_close(heads.summed_nll(more.detach(), targets), expected.detach())


def test_without_causal_order_every_position_sees_every_other(model):
    ids, types, _ = batch()
    other = ids.clone()
    other[:, T - 1] = (ids[:, T - 1] - 4) % (V - 5) + 5
    moved = (model.encoder(ids, types) - model.encoder(other, types)).abs().amax(-1)
    assert (moved > 0).all()


@pytest.mark.parametrize("initialization", ["bert", "width-aware"])
def test_all_weights_are_drawn_with_the_stated_deviation(config, initialization):
    wide = changed(config, model={"hidden_size": 128, "intermediate_size": 512, "initialization": initialization,
                                "tied_decoder": False})
    for name, part in new_model(wide, 500, 3).named_modules():
        if isinstance(part, (torch.nn.Linear, torch.nn.Embedding)):
            linear = isinstance(part, torch.nn.Linear)
            deviation = 0.02 if initialization == "bert" else part.in_features**-0.5 if linear else 0.1
            error = 5 * deviation / np.sqrt(2 * part.weight.numel())
            assert abs(part.weight.std().item() - deviation) < error, name
            assert abs(part.weight.mean().item()) < 5 * deviation / np.sqrt(part.weight.numel()), name
            assert not linear or part.bias is None or not part.bias.any()
        if isinstance(part, torch.nn.LayerNorm):
            assert (part.weight == 1).all()
            assert not part.bias.any()


def test_weights_do_not_depend_on_the_global_generator(config):
    torch.manual_seed(1)
    first = new_model(config, V, 5).state_dict()
    torch.manual_seed(2)
    second = new_model(config, V, 5).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_padded_row_equals_the_row_alone(model):
    ids, types, mask = batch()
    alone = model.encoder(ids[1:2, :20], types[1:2, :20])
    torch.testing.assert_close(model.encoder(ids, types, mask)[1:2, :20], alone, rtol=0, atol=1e-6)


def test_tied_and_untied_decoders_agree_when_their_matrices_do(config):
    tied, untied = new_model(config, V, 0).eval(), new_model(changed(config, model={"tied_decoder": False}), V, 0).eval()
    with torch.no_grad():
        untied.words.decoder.weight.copy_(untied.encoder.token.weight)
    states = torch.randn(4, config.model.hidden_size, generator=torch.Generator().manual_seed(0))
    untied.words.transform.load_state_dict(tied.words.transform.state_dict())
    assert torch.equal(tied.words(states, tied.encoder.token), untied.words(states, untied.encoder.token))
    assert parameter_count(untied) - parameter_count(tied) == V * config.model.hidden_size


def test_dropout_acts_in_training_alone(config):
    model = new_model(changed(config, model={"dropout": 0.3}), V, 0)
    ids, types, _ = batch()
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model.encoder(ids, types), model.encoder(ids, types))
    model.eval()
    assert torch.equal(model.encoder(ids, types), model.encoder(ids, types))


@pytest.mark.parametrize("transform", [True, False])
def test_operations_a_token_are_those_that_torch_counts(monkeypatch, config, transform):
    from torch.utils.flop_counter import FlopCounterMode

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)       # only torch's own are counted
    ids, types, _ = batch()
    config = changed(config, model={"decoder_transform": transform}, masking={"mlm_probability": 0.25})
    model, positions = new_model(config, V, 0), torch.arange(0, ids.numel(), 4)
    with FlopCounterMode(display=False) as counted, torch.autocast("cpu", torch.bfloat16):
        model(ids, types, None, positions, ids.reshape(-1)[positions], None).words.backward()
    expected = heads.flops_per_token(config, V, T) * ids.numel()
    assert counted.get_total_flops() == pytest.approx(expected, rel=1e-6)


def test_gradients_of_attention_in_bfloat16_are_nearer_the_exact_ones_than_with_probabilities_in_bfloat16():
    generator = torch.Generator().manual_seed(0)
    shape = (16, 2, 32, 32)
    parts = [torch.randn(shape, generator=generator).bfloat16() for _ in range(4)]

    def gradients(attention, dtype):
        query, key, value = (part.to(dtype).requires_grad_() for part in parts[:3])
        attention(query, key, value).backward(parts[3].to(dtype))
        return torch.stack([query.grad, key.grad]).double()

    def rounded(query, key, value):
        return ((query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)).softmax(-1) @ value

    exact = gradients(rounded, torch.float64)
    ours = gradients(lambda *three: Attend.apply(torch.stack(three, 2).transpose(1, 3), None, 0.0).transpose(1, 2),
                     torch.bfloat16)
    assert (ours - exact).abs().mean() < 0.9 * (gradients(rounded, torch.bfloat16) - exact).abs().mean()
