"""Layers that leave out padding give what layers with padding give."""
import pytest
import torch

from study.config.schema import RunConfig
from study.objectives.pretraining_model import new_model
from study.training.pretrain import _outcome
from study.training.schedule import phases
from study.training.trainer import Trainer, batches, drawn_source
from tests.support.models import V, batch
from tests.support.studies import changed
from tests.support.training import trained, weights

VARIANTS = [{"positions": "absolute"}, {"positions": "rotary"}, {"positions": "relative"}, {"norm": "pre"},
            {"num_hidden_layers": 1}]


def both(config: RunConfig, seed: int = 0):
    """The model with padding and, with the same weights, the one without."""
    return [new_model(changed(config, training={"skip_padding": skips}), V, seed).eval() for skips in (False, True)]


@pytest.mark.parametrize("sections", VARIANTS, ids=str)
def test_states_of_tokens_are_equal_and_those_of_padding_are_zero(config, sections):
    (ids, types, mask), (padded, packed) = batch(), both(changed(config, model=sections))
    expected, states = (model.encoder(ids, types, mask) for model in (padded, packed))
    torch.testing.assert_close(states[mask], expected[mask], rtol=0, atol=1e-6)
    assert states.shape == expected.shape
    assert not states[~mask].any()
    torch.testing.assert_close(packed.encoder(ids, types), padded.encoder(ids, types), rtol=0, atol=0)
    for one, other in zip(packed.encoder(ids, types, mask, all_states=True),
                          padded.encoder(ids, types, mask, all_states=True), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("sections", VARIANTS, ids=str)
def test_losses_and_gradients_are_equal(config, sections):
    config = changed(config, model=sections, inputs={"format": "segment-pairs"},
                     objective={"sentence_objective": "nsp"})
    ids, types, mask = batch()
    positions, label = torch.tensor([3, 31, 33, 50, 70]), torch.tensor([0, 1, 1])      # of all rows; 50 is in row 1
    targets, models = ids.reshape(-1)[positions], both(config)
    losses = [model(ids, types, mask, positions, targets, label) for model in models]
    torch.testing.assert_close(losses[1].token, losses[0].token)
    torch.testing.assert_close(losses[1].sentence, losses[0].sentence)
    for loss in losses:
        (loss.token + loss.sentence).backward()
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_only_tokens_pass_through_the_layers_in_training(config, data, precision):
    config = changed(config, inputs={"format": "paragraphs"},
                     training={"skip_padding": True, "precision": precision})
    trainer, seen = Trainer(config, data, 0), []
    trainer.model.encoder.layers[0].register_forward_pre_hook(lambda layer, given: seen.append(given[0].shape))
    first = next(batches(config, data, 0, 0))
    trainer.train_step(first)
    assert first.tokens < first.input_ids.size
    assert seen == [(first.tokens, config.model.hidden_size)]


def test_a_run_ends_where_one_with_padding_does_and_counts_fewer_operations(config, data):
    config = changed(config, inputs={"format": "paragraphs"}, training={"steps": 12})
    (padded, progress), (packed, _) = runs = [trained(changed(config, training={"skip_padding": skips}), data)
                                              for skips in (False, True)]
    for (name, one), other in zip(weights(padded).items(), weights(packed).values(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-3, msg=name)
    sources = [(drawn_source(data, 0, phase), phase.end - phase.begin) for phase in phases(config)]
    counted = [_outcome(sources, data, trainer.model, done)["flops"] for trainer, done in runs]
    assert counted[1] / counted[0] == pytest.approx(progress.tokens / progress.positions)
    assert progress.tokens < progress.positions


def test_it_does_not_go_with_compile(config):
    with pytest.raises(ValueError, match="skip_padding with compile: the number of tokens differs"):
        changed(config, training={"skip_padding": True, "compile": True})
