"""The model: losses, masks, positions, and initial weights."""
import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.functional import cross_entropy

from study.model.encoder import initialize
from study.model.heads import parameter_count
from study.objectives import objective_of
from study.objectives.pretraining_model import new_model
from tests.support.models import T, V, batch
from tests.support.studies import changed


@pytest.fixture
def config(config):
    """The tiny study's baseline with BERT's positions."""
    return changed(config, model={"positions": "absolute"})


@pytest.fixture
def model(config):
    return new_model(config, V, seed=0).eval()


def test_the_losses_equal_those_over_all_positions_and_so_do_their_gradients(config):
    with_pairs = changed(config, inputs={"format": "segment-pairs"}, objective={"sentence_objective": "nsp"})
    model = new_model(with_pairs, V, seed=0).eval()
    ids, types, mask = batch()
    positions = torch.tensor([3, 40, 41, 70])
    targets = ids.reshape(-1)[positions]
    label = torch.tensor([0, 1, 1])
    loss = model(ids, types, mask, positions, targets, label)
    loss.token.backward()
    gradients = [p.grad.clone() for p in model.encoder.parameters()]
    model.zero_grad()
    states = model.encoder(ids, types, mask)
    logits = model.mlm_head(states, model.encoder.token)
    labels = torch.full((ids.numel(),), -100)
    labels[positions] = targets
    expected = cross_entropy(logits.view(-1, V), labels, reduction="sum")
    expected.backward()
    torch.testing.assert_close(loss.token, expected)
    for gradient, parameter in zip(gradients, model.encoder.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.sentence, cross_entropy(model.sentence_head(states[:, 0]), label, reduction="sum"))


@pytest.mark.parametrize("sections", [{"norm": "pre"}, {"positions": "absolute"}, {"positions": "rotary"},
                                      {"positions": "relative"}], ids=str)
def test_padding_does_not_change_the_states_of_tokens(config, sections):
    model = new_model(changed(config, model=sections), V, 0).eval()
    ids, types, mask = batch()
    other_ids, other_types = ids.clone(), types.clone()
    other_ids[~mask], other_types[~mask] = 7, 0
    torch.testing.assert_close(model.encoder(ids, types, mask)[mask],
                               model.encoder(other_ids, other_types, mask)[mask], rtol=0, atol=1e-6)


def test_scaled_embeddings_are_those_of_larger_weights(config):
    """The scale applies to tokens only, before positions are added, and not to the weights of the decoder."""
    plain, scaled = (new_model(changed(config, model={"tied_decoder": tied, "embedding_scale": scale}), V, 0).eval()
                     for tied, scale in ((False, "one"), (False, "root-width")))
    ids, types, mask = batch()
    assert not torch.allclose(plain.encoder(ids, types, mask), scaled.encoder(ids, types, mask))
    with torch.no_grad():
        plain.encoder.token.weight.mul_(config.model.hidden_size**0.5)
    torch.testing.assert_close(plain.encoder(ids, types, mask), scaled.encoder(ids, types, mask))
    tied = new_model(changed(config, model={"embedding_scale": "root-width"}), V, 0).eval()
    states = torch.randn(4, config.model.hidden_size)
    torch.testing.assert_close(tied.mlm_head(states, tied.encoder.token), plain_head(config, states))


def plain_head(config, states):
    """The logits of the baseline's head, whose decoder has the unscaled embeddings."""
    model = new_model(config, V, 0).eval()
    return model.mlm_head(states, model.encoder.token)


def test_relu_replaces_gelu_in_the_layers(config):
    gelu, relu = (new_model(changed(config, model={"hidden_act": name}), V, 0).encoder.layers[0]
                  for name in ("gelu", "relu"))
    x = torch.randn(5, config.model.hidden_size)
    torch.testing.assert_close(relu.feedforward(x), relu.down(relu.up(x).clamp(min=0)))
    torch.testing.assert_close(gelu.feedforward(x), gelu.down(torch.nn.functional.gelu(gelu.up(x))))
    assert not torch.allclose(relu.feedforward(x), gelu.feedforward(x))


def test_a_padded_row_equals_the_row_alone(model):
    ids, types, mask = batch()
    alone = model.encoder(ids[1:2, :20], types[1:2, :20])
    torch.testing.assert_close(model.encoder(ids, types, mask)[1:2, :20], alone, rtol=0, atol=1e-6)


def test_causal_attention_does_not_look_ahead(config):
    model = new_model(changed(config, objective={"token_objective": "causal"}), V, 0).eval()
    ids, types, mask = batch()
    changed_ids = ids.clone()
    changed_ids[:, 10:] = 6
    for attention_mask in (None, mask):
        torch.testing.assert_close(model.encoder(ids, types, attention_mask)[:, :10],
                                   model.encoder(changed_ids, types, attention_mask)[:, :10], rtol=0, atol=1e-6)


def test_without_causal_attention_every_position_sees_every_other(model):
    ids, types, _ = batch()
    other = ids.clone()
    other[:, T - 1] = (ids[:, T - 1] - 4) % (V - 5) + 5
    difference = (model.encoder(ids, types) - model.encoder(other, types)).abs().amax(-1)
    assert (difference > 0).all()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_last_of_all_states_is_the_output(config, norm):
    model = new_model(changed(config, model={"norm": norm}), V, 0).eval()
    ids, types, _ = batch()
    states = model.encoder(ids, types, all_states=True)
    assert len(states) == config.model.num_hidden_layers + 1
    assert torch.equal(states[-1], model.encoder(ids, types))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_states_at_positions_are_those_of_all_positions(config, norm):
    ids, types, mask = batch()
    model = new_model(changed(config, model={"norm": norm}), V, 0).eval()
    positions = torch.tensor([3, 40, 41, 70])
    states = model.encoder(ids, types, mask)
    torch.testing.assert_close(model.encoder(ids, types, mask, positions), states.view(-1, states.shape[-1])[positions])


def test_initial_weights_are_a_function_of_the_seed(config):
    first, repeated, other = (new_model(config, V, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], repeated[name]) for name in first)
    assert not torch.equal(first["encoder.token.weight"], other["encoder.token.weight"])


def test_initial_weights_do_not_depend_on_the_global_generator(config):
    torch.manual_seed(1)
    first = new_model(config, V, 5).state_dict()
    torch.manual_seed(2)
    second = new_model(config, V, 5).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_arms_start_with_equal_weights_where_their_shapes_are_equal(config):
    pre = new_model(changed(config, model={"norm": "pre"}), V, 0).state_dict()
    post = new_model(config, V, 0).state_dict()
    assert torch.equal(pre["encoder.layers.1.up.weight"], post["encoder.layers.1.up.weight"])
    untied = new_model(changed(config, model={"tied_decoder": False}), V, 0).state_dict()
    assert torch.equal(untied["encoder.token.weight"], post["encoder.token.weight"])
    for positions in ("rotary", "relative"):
        other = new_model(changed(config, model={"positions": positions}), V, 0).state_dict()
        assert all(torch.equal(other[name], post[name]) for name in other.keys() & post.keys())
        assert post.keys() - other.keys() == {"encoder.position.weight"}


@pytest.mark.parametrize("initialization", ["bert", "width-aware", "flax"])
def test_all_weights_are_drawn_with_the_stated_deviation(config, initialization):
    wide = changed(config, model={"hidden_size": 128, "intermediate_size": 512, "initialization": initialization,
                                  "tied_decoder": False})
    for name, part in new_model(wide, 500, 3).named_modules():
        if isinstance(part, (torch.nn.Linear, torch.nn.Embedding)):
            is_linear = isinstance(part, torch.nn.Linear)
            if initialization == "bert" or (initialization == "flax" and name == "encoder.position"):
                deviation = 0.02
            elif is_linear:
                deviation = part.in_features**-0.5
            else:
                deviation = 0.1 if initialization == "width-aware" else part.embedding_dim**-0.5
            error = 5 * deviation / np.sqrt(2 * part.weight.numel())
            assert abs(part.weight.std().item() - deviation) < error, name
            assert abs(part.weight.mean().item()) < 5 * deviation / np.sqrt(part.weight.numel()), name
            assert not is_linear or part.bias is None or not part.bias.any()
        if isinstance(part, torch.nn.LayerNorm):
            assert (part.weight == 1).all()
            assert not part.bias.any()


def test_flax_draws_linear_layers_from_a_normal_that_is_cut_at_two_deviations(config):
    """Its lecun_normal: the deviation before the cut is such that the one after it is 1/sqrt(fan_in)."""
    model = new_model(changed(config, model={"hidden_size": 128, "intermediate_size": 512, "initialization": "flax"}),
                      500, 3)
    weight = model.encoder.layers[0].up.weight.detach()
    expected = stats.truncnorm(-2, 2)
    scaled = weight.flatten().numpy() * 128**0.5 * expected.std()
    assert np.abs(scaled).max() <= 2 + 1e-6
    assert stats.kstest(scaled, expected.cdf).pvalue > 0.001


def test_pytorchs_initialization_has_the_deviations_of_new_modules(config):
    wide = changed(config, model={"hidden_size": 128, "intermediate_size": 512, "initialization": "torch",
                                  "tied_decoder": False})
    torch.manual_seed(0)
    for name, part in new_model(wide, 500, 3).named_modules():
        if isinstance(part, (torch.nn.Linear, torch.nn.Embedding)):
            fresh = (torch.nn.Linear(part.in_features, part.out_features) if isinstance(part, torch.nn.Linear) else
                     torch.nn.Embedding(part.num_embeddings, part.embedding_dim))
            for key, expected in fresh.named_parameters():
                if (weight := getattr(part, key)) is not None:
                    error = 5 / np.sqrt(weight.numel())
                    assert weight.std().item() == pytest.approx(expected.std().item(), rel=max(error, 0.02)), name
                    if isinstance(part, torch.nn.Linear):
                        assert weight.abs().max() <= part.in_features**-0.5, name


def test_initialize_redraws_all_weights(config):
    wide = changed(config, model={"hidden_size": 256, "intermediate_size": 512})
    model = new_model(wide, V, 0)
    assert model.encoder.layers[0].up.weight.std().item() == pytest.approx(1 / 16, rel=0.02)
    assert model.encoder.token.weight.std().item() == pytest.approx(0.1, rel=0.03)
    bert = changed(wide, model={"initialization": "bert"})
    initialize(model, bert.model, torch.Generator().manual_seed(0))
    assert model.encoder.layers[0].up.weight.std().item() == pytest.approx(0.02, rel=0.02)


def test_the_loss_at_step_zero_is_near_that_of_guessing(config):
    ids, types, _ = batch()
    model = new_model(config, V, 0).eval()
    positions = torch.arange(ids.numel())
    loss = model(ids, types, None, positions, ids.reshape(-1), None)
    assert loss.sentence is None
    assert loss.token.item() / ids.numel() == pytest.approx(np.log(V), abs=0.6)


def test_tied_and_untied_decoders_agree_if_their_weights_do(config):
    tied = new_model(config, V, 0).eval()
    untied = new_model(changed(config, model={"tied_decoder": False}), V, 0).eval()
    with torch.no_grad():
        untied.mlm_head.decoder.weight.copy_(untied.encoder.token.weight)
    states = torch.randn(4, config.model.hidden_size, generator=torch.Generator().manual_seed(0))
    untied.mlm_head.transform.load_state_dict(tied.mlm_head.transform.state_dict())
    assert torch.equal(tied.mlm_head(states, tied.encoder.token), untied.mlm_head(states, untied.encoder.token))
    assert parameter_count(untied) - parameter_count(tied) == V * config.model.hidden_size


def test_dropout_acts_only_in_training(config):
    model = new_model(changed(config, model={"dropout": 0.3}), V, 0)
    ids, types, _ = batch()
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model.encoder(ids, types), model.encoder(ids, types))
    model.eval()
    assert torch.equal(model.encoder(ids, types), model.encoder(ids, types))


@pytest.mark.parametrize("sections", [
    {"model": {"decoder_transform": True}}, {"model": {"decoder_transform": False}},
    {"objective": {"token_objective": "causal"}}, {"objective": {"target_fraction": 0.5}}], ids=str)
def test_flops_per_token_are_those_that_torch_counts(monkeypatch, config, sections):
    from torch.utils.flop_counter import FlopCounterMode

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)   # oneDNN's operations are not counted
    ids, types, _ = batch()
    config = changed(changed(config, masking={"mlm_probability": 0.25}), **sections)
    model, objective = new_model(config, V, 0), config.objective
    spacing = 1 if objective.token_objective == "causal" else round(4 / objective.target_fraction)
    positions = torch.arange(0, ids.numel(), spacing)
    with FlopCounterMode(display=False) as counter, torch.autocast("cpu", torch.bfloat16):
        model(ids, types, None, positions, ids.reshape(-1)[positions], None).token.backward()
    expected = objective_of(config).token.flops_per_token(V, T) * ids.numel()
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-6)
