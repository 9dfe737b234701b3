"""The optimisers: which weights they change, how fast, and that their state survives a checkpoint."""
import pytest
import torch

from study.objectives.pretraining_model import new_model
from study.training.optimizers import Optimizers
from tests.support.models import V
from tests.support.studies import changed


def gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def optimizers_of(config, **training):
    config = changed(config, model={"positions": "absolute"}, training=training)
    model = new_model(config, V, 0)
    return model, Optimizers(model, config.training)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_is_in_one_group(config, name):
    model, optimizers = optimizers_of(config, optimizer=name, position_learning_rate=10.0)
    groups = [group for optimizer in optimizers.optimizers for group in optimizer.param_groups]
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, model.parameters()))
    first = optimizers.optimizers[0]
    assert all(group["betas"] == (config.training.adam_beta1, config.training.adam_beta2)
               and group["eps"] == config.training.adam_epsilon for group in first.param_groups)


def test_muon_changes_the_matrices_of_the_layers_alone(config):
    """Its update is orthogonal: all singular values of a matrix's change are about equal, which AdamW's are not."""
    model, optimizers = optimizers_of(config, optimizer="muon", weight_decay=0.0)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    gradients(model, 1)
    optimizers.step(0.01)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or min(parameter.shape) < 4:
            continue
        values = torch.linalg.svdvals(parameter.detach() - start[name])
        assert bool(values[-1] > 0.4 * values[0]) == name.startswith("encoder.layers."), name


def test_positions_have_their_own_learning_rate(config):
    changes = {}
    for scale in (0.0, 1.0, 10.0):
        model, optimizers = optimizers_of(config, position_learning_rate=scale, weight_decay=0.0)
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        gradients(model, 1)
        optimizers.step(0.01)
        changes[scale] = {name: p.detach() - start[name] for name, p in model.named_parameters()}
    for name, change in changes[1.0].items():
        factor = 10 if name == "encoder.position.weight" else 1
        torch.testing.assert_close(changes[10.0][name], factor * change, rtol=1e-3, atol=1e-6)
        assert bool(changes[0.0][name].any()) == (name != "encoder.position.weight")


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_state_survives_a_checkpoint(config, name):
    model, optimizers = optimizers_of(config, optimizer=name, position_learning_rate=3.0)
    for seed in (1, 2):
        gradients(model, seed)
        optimizers.step(0.01)
    other, loaded = optimizers_of(config, optimizer=name, position_learning_rate=3.0)
    other.load_state_dict(model.state_dict())
    loaded.load_tensors({key: tensor.clone() for key, tensor in optimizers.tensors().items()})
    for part, steps in ((model, optimizers), (other, loaded)):
        gradients(part, 3)
        steps.step(0.01)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
