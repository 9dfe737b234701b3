"""The token-identity probe: a linear map finds what is linear in the states, and only that; and the section of
evaluation.json counts the right tokens."""
import numpy as np
import pytest
import torch

from study.data.evaluation_sets import EvaluationSet
from study.evaluation import token_identity as module
from study.evaluation.token_identity import nearest, states_at, token_identity
from study.objectives.pretraining_model import new_model
from tests.support.studies import changed

H, V = 16, 200                              # more tokens than dimensions


@pytest.fixture
def vectors():
    """Embeddings, tokens of training and of test positions, and a linear map of the embeddings to states."""
    rng = np.random.default_rng(0)
    embedding, mixing = rng.normal(size=(V, H)), rng.normal(size=(H, H))
    train, test = rng.integers(V // 2, size=1000), rng.integers(V, size=1000)

    def states(ids, noise: float = 0.05) -> np.ndarray:
        return (3 + embedding[ids] @ mixing + noise * rng.normal(size=(len(ids), H))).astype(np.float32)
    return embedding, train, test, states


def share(vectors, states, test_states=None) -> float:
    embedding, train, test, _ = vectors
    found = nearest(states(train), (test_states or states)(test), embedding[train], embedding)
    return float((found == test).mean())


def test_a_linear_image_of_the_embeddings_is_read_even_for_tokens_that_training_lacks(vectors):
    _, train, test, states = vectors
    assert set(test) - set(train)
    assert share(vectors, states) > 0.98


def test_states_without_the_token_are_not_read(vectors):
    rng = np.random.default_rng(1)
    assert share(vectors, lambda ids: rng.normal(size=(len(ids), H))) < 0.03
    assert share(vectors, lambda ids: np.ones((len(ids), H))) < 0.03


def test_what_depends_on_the_token_alone_but_not_linearly_is_read_less(vectors):
    *_, states = vectors
    assert share(vectors, lambda ids: np.abs(states(ids) - 3)) < 0.5 * share(vectors, states)


def test_a_loud_direction_does_not_hide_the_others(vectors):
    rng, states = np.random.default_rng(2), vectors[-1]

    def loud(ids):
        result = states(ids)
        return np.concatenate([result, 1000 * rng.normal(size=(len(ids), 1)).astype(np.float32)], 1)
    assert share(vectors, loud) > 0.98


def test_frequent_tokens_do_not_attract_states_by_the_length_of_their_embeddings(vectors):
    embedding, train, test, states = vectors
    stretched = np.where(np.arange(V)[:, None] < 5, 50.0, 1.0) * (embedding - embedding.mean(0))
    found = nearest(states(train), states(test), stretched[train], stretched)
    others = test >= 5
    assert (found[others] < 5).mean() < 0.02


def test_states_that_are_not_finite_are_never_right(vectors):
    _, _, test, states = vectors
    broken = states(test)
    broken[0, 0] = np.nan
    assert share(vectors, states, lambda ids: broken) == 0


# ---- the section of evaluation.json

@pytest.fixture
def model(config, tokenizer):
    return new_model(config, tokenizer.vocabulary_size, seed=0).eval()


@pytest.fixture
def text(tokenizer):
    """Rows of random tokens between [CLS] and [SEP], three to a document; one token is unknown."""
    ids = np.random.default_rng(0).choice(tokenizer.ordinary, size=(60, 32))
    ids[:, 0], ids[:, -1], ids[40, 5] = tokenizer.cls_id, tokenizer.sep_id, tokenizer.unk_id
    return EvaluationSet(ids, {}, {}, np.zeros(tokenizer.vocabulary_size), "hash", np.arange(60) // 3)


def test_shares_are_those_of_the_right_tokens_by_row(model, text, tokenizer):
    section, arrays = token_identity({"trained": model, "untrained": model}, text, tokenizer, 30 * 30, 7)
    tokens = arrays["token_identity/tokens"]
    assert section["train_tokens"] == 900
    assert section["tokens"] == tokens.sum() == 899                     # without the unknown one
    assert tokens[10] == 29
    assert section["layers"]["trained"] == section["layers"]["untrained"]
    for layer, read in enumerate(section["layers"]["trained"]):
        right = arrays[f"token_identity/trained/layer-{layer}"]
        assert (right <= tokens).all()
        assert right.sum() / tokens.sum() == pytest.approx(read)
    assert arrays["token_identity/documents"].tolist() == (np.arange(30, 60) // 3).tolist()


def test_embeddings_tell_every_token_and_layers_that_erase_it_tell_none(model, text, tokenizer):
    with torch.no_grad():
        last = model.encoder.layers[-1].feedforward_norm
        last.weight.zero_()
    shares = token_identity({"trained": model}, text, tokenizer, 900, 7)[0]["layers"]["trained"]
    assert shares[0] == 1.0
    assert shares[1] > 0.9
    assert shares[2] < 0.05


def test_a_diverged_encoder_reads_nothing(model, text, tokenizer):
    with torch.no_grad():
        model.encoder.layers[0].up.weight.fill_(float("nan"))
    section, _ = token_identity({"trained": model}, text, tokenizer, 900, 7)
    assert section["layers"]["trained"] == [1.0, 0.0, 0.0]
    model.encoder.token.weight.data[0] = float("nan")       # [PAD], which is not compared
    assert token_identity({"trained": model}, text, tokenizer, 900, 7)[0] == section


def test_positions_set_how_many_rows_are_used_and_the_two_parts_do_not_meet(model, text, tokenizer, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "states_at", lambda model, ids, *more: seen.append(ids) or states_at(model, ids, *more))
    section, _ = token_identity({"trained": model}, text, tokenizer, 291, 7)
    assert (seen[0] == text.ids[:10]).all()
    assert (seen[1] == text.ids[10:20]).all()
    assert section["train_tokens"] == 300
    token_identity({"trained": model}, text, tokenizer, 10**6, 7)
    assert [len(ids) for ids in seen[2:]] == [30, 30]


def test_states_are_those_of_each_wanted_position(model, text):
    wanted = np.random.default_rng(0).random(text.ids.shape) < 0.1
    layers = states_at(model, text.ids, wanted, 7)
    with torch.inference_mode():
        ids = torch.from_numpy(text.ids)
        expected = model.encoder(ids, torch.zeros_like(ids), all_states=True)
    assert len(layers) == 3
    for states, layer in zip(layers, expected, strict=True):
        np.testing.assert_allclose(states, layer[torch.from_numpy(wanted)].numpy(), atol=1e-5)


def test_a_norm_before_the_layers_is_followed_by_the_final_norm(config, tokenizer, text):
    pre = new_model(changed(config, model={"norm": "pre"}), tokenizer.vocabulary_size, seed=0).eval()
    last = states_at(pre, text.ids[:2], np.ones_like(text.ids[:2], bool), 2)[-1]
    np.testing.assert_allclose(last.std(1), 1, atol=1e-3)
