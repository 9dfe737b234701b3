"""The book's model and losses, in tests/support/book.py, against ours with the same weights."""
import numpy as np
import pytest
import torch

from study.config.arms import resolve
from study.config.load import load_study
from study.objectives.pretraining_model import new_model
from tests.support.book import BookBert, with_weights_of
from tests.support.models import T, V, batch
from tests.support.studies import ROOT, changed

TARGETS = [[3, 9, 17], [4, 11], [1, 5, 12, 30]]         # positions in each row; they are padded to five


@pytest.fixture(scope="module")
def config():
    settings = resolve(load_study(ROOT / "experiments" / "d2l"), "d2l")
    return changed(settings, examples={"max_seq_length": T})


def losses_of_both(config):
    """(token, sentence) of our model and of the book's, with the two models."""
    ours = new_model(config, V, seed=3).eval()
    model = config.model
    theirs = with_weights_of(ours, BookBert(V, model.hidden_size, model.intermediate_size, model.num_attention_heads,
                                            model.num_hidden_layers, T))
    ids, types, mask = batch()
    labels = torch.tensor([0, 1, 1])
    flat = torch.tensor([row * T + place for row, places in enumerate(TARGETS) for place in places])
    loss = ours(ids, types, mask, flat, ids.flatten()[flat], labels)
    positions = torch.tensor([places + [0] * (5 - len(places)) for places in TARGETS])
    weights = torch.tensor([[1.0] * len(places) + [0.0] * (5 - len(places)) for places in TARGETS])
    book = theirs.losses(ids, types, mask.sum(1), positions, weights, ids.gather(1, positions), 1 - labels)
    return (loss.token / len(flat), loss.sentence / 3), book, ours, theirs


def test_the_losses_are_those_of_the_book(config):
    ours, book, _, _ = losses_of_both(config)
    for mine, theirs in zip(ours, book, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_so_are_their_gradients(config):
    ours, book, mine, theirs = losses_of_both(config)
    sum(ours).backward()
    sum(book).backward()
    pairs = [("encoder.token.weight", "token.weight"), ("mlm_head.decoder.weight", "mlm.3.weight"),
             ("encoder.layers.0.up.weight", "blocks.0.up.weight"), ("sentence_head.pooler.weight", "nsp.0.weight")]
    parameters = dict(mine.named_parameters()), dict(theirs.named_parameters())
    for name, other in pairs:
        torch.testing.assert_close(parameters[0][name].grad, parameters[1][other].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("other", [{"hidden_act": "gelu"}, {"layer_norm_eps": 0.1}])
def test_another_activation_or_epsilon_is_another_model(config, other):
    ours, book, _, _ = losses_of_both(changed(config, model=other))
    assert float((ours[0] - book[0]).detach().abs()) > 1e-4


def test_initial_weights_have_the_spread_of_pytorchs_modules(config):
    """A standard normal for embeddings of tokens, segments and positions, and uniform within 1 / sqrt(inputs)."""
    model = new_model(config, 3000, seed=0)
    width = config.model.hidden_size
    for name in ("token", "position", "segment"):
        assert float(getattr(model.encoder, name).weight.detach().std()) == pytest.approx(1, abs=0.1)
    for weight in (model.mlm_head.decoder.weight, model.encoder.layers[0].up.weight, model.sentence_head.pooler.weight):
        assert float(weight.detach().abs().max()) == pytest.approx(width**-0.5, rel=0.01)
        assert float(weight.detach().std()) == pytest.approx((3 * width)**-0.5, rel=0.02)


@pytest.mark.parametrize("applies", [True, False])
def test_dropout_of_the_embeddings_is_a_setting(config, applies):
    model = new_model(changed(config, model={"embedding_dropout": applies}), V, 0).train()
    ids, types, _ = batch()
    states = [model.encoder(ids, types, all_states=True)[0].detach().numpy() for _ in range(2)]
    assert np.array_equal(*states) != applies
    assert (states[0] == 0).mean() == pytest.approx(0.2 if applies else 0, abs=0.03)
