"""Our encoders against `transformers`: the same weights give the same states, logits, losses and gradients."""
import numpy as np
import pytest
import torch

from study import StudyError
from study.data.tokenizer import _wordpiece, save
from study.model.heads import PretrainingModel, new_model
from study.model.huggingface import export, from_transformers, kind_of, names, new_transformers, to_transformers
from tests.support.models import T, V, batch
from tests.support.studies import changed

SHAPES = {
    "post": {}, "post, untied": {"model": {"tied_decoder": False}}, "pre": {"model": {"norm": "pre"}},
    "pre, untied": {"model": {"norm": "pre", "tied_decoder": False}},
    "pre, no embedding norm": {"model": {"norm": "pre", "embedding_norm": False}},
    "left to right": {"objective": {"token_objective": "causal"}},
    "pre, left to right": {"model": {"norm": "pre"}, "objective": {"token_objective": "causal"}},
}
KINDS = {"post": "BertForPreTraining", "pre": "RobertaPreLayerNormForMaskedLM", "left to right": "BertLMHeadModel",
         "pre, no embedding norm": "MegatronBertForPreTraining"}
POSITIONS = torch.tensor([3, 17, 40, 41, 70])
PAIR = torch.tensor([0, 1, 1])


@pytest.fixture(params=SHAPES)
def shape(request, config):
    return changed(config, **SHAPES[request.param])


def perturbed(config, seed=0):
    """A model whose biases and norms are not 0 and 1, so that a wrong name shows."""
    model, generator = new_model(config, V, seed), torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def run_theirs(theirs, ids, types, mask, **more):
    return theirs(input_ids=ids, token_type_ids=types, attention_mask=mask.long(), output_hidden_states=True, **more)


def assert_same(model, theirs, config):
    ids, types, mask = batch()
    found, states = run_theirs(theirs, ids, types, mask), model.encoder(ids, types, mask, all_states=True)
    assert len(found.hidden_states) == len(states)
    for ours, other in zip(states[:-1], found.hidden_states[:-1], strict=True):
        torch.testing.assert_close(ours[mask], other[mask], rtol=0, atol=1e-5)
    last = theirs.base_model(input_ids=ids, token_type_ids=types, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(states[-1][mask], last[mask], rtol=0, atol=1e-5)
    logits = found.prediction_logits if kind_of(config).pairs else found.logits
    torch.testing.assert_close(model.words(states[-1], model.encoder.token)[mask], logits[mask], rtol=0, atol=1e-5)
    if kind_of(config).pairs:
        torch.testing.assert_close(model.pairs(states[-1][:, 0]), found.seq_relationship_logits, rtol=0, atol=1e-5)


def test_states_and_logits_are_equal(shape):
    model = perturbed(shape)
    assert_same(model, to_transformers(model, shape), shape)


def test_and_back(shape):
    theirs = new_transformers(shape, V)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    model = new_model(shape, V, 1).eval()
    missing, unexpected = model.load_state_dict(from_transformers(theirs, shape), strict=False)
    assert not unexpected
    assert all(name.startswith("pairs.") for name in missing)
    assert bool(missing) != kind_of(shape).pairs
    assert_same(model, theirs, shape)


@pytest.mark.parametrize("name", ["post", "post, untied", "pre", "pre, no embedding norm"])
def test_losses_and_gradients_are_equal(config, name):
    shape = changed(config, **SHAPES[name])
    model, (ids, types, mask) = perturbed(shape), batch()
    theirs, pairs = to_transformers(model, shape), kind_of(shape).pairs
    targets = torch.tensor([8, 9, 10, 11, 12])
    ours = model(ids, types, mask, POSITIONS, targets, PAIR if pairs else None)
    loss = ours.words / len(targets) + (ours.pairs / len(PAIR) if pairs else 0)
    labels = torch.full((ids.numel(),), -100)
    labels[POSITIONS] = targets
    more = {"next_sentence_label": PAIR} if pairs else {}
    other = run_theirs(theirs, ids, types, mask, labels=labels.view_as(ids), **more).loss
    torch.testing.assert_close(loss, other, rtol=0, atol=1e-5)
    loss.backward()
    other.backward()
    theirs, own = dict(theirs.named_parameters(remove_duplicate=False)), dict(model.named_parameters())
    for here, there in names(shape).items():
        gradient = torch.cat([theirs[name].grad for name in there])
        if here == "encoder.position.weight":
            gradient = gradient[kind_of(shape).position_offset:]
        torch.testing.assert_close(own[here].grad, gradient, rtol=1e-4, atol=1e-5, msg=here)


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_an_export_is_what_from_pretrained_and_pipelines_load(config, backend, tmp_path, name, kind):
    from transformers import AutoConfig, AutoModel, AutoTokenizer, pipeline

    shape = changed(config, **SHAPES[name])
    model = new_model(shape, backend.get_vocab_size(), 0).eval()
    save(backend, tmp_path / "tokenizer")
    assert export(model, shape, tmp_path / "tokenizer", tmp_path / "out") == kind
    assert AutoConfig.from_pretrained(tmp_path / "out").architectures == [kind]
    assert (tmp_path / "out" / "model.safetensors").exists()
    tokenizer, loaded = AutoTokenizer.from_pretrained(tmp_path / "out"), AutoModel.from_pretrained(tmp_path / "out")
    encoded = tokenizer("bade figo", "lu mane", return_tensors="pt")
    assert encoded.input_ids[0].tolist() == backend.encode("bade figo", "lu mane").ids
    assert tokenizer.model_max_length == T
    with torch.inference_mode():
        ours = model.encoder(encoded.input_ids, encoded.token_type_ids)
        theirs = loaded.eval()(**encoded).last_hidden_state
    np.testing.assert_allclose(theirs.numpy(), ours.numpy(), atol=1e-5)
    if name != "left to right":
        filled = pipeline("fill-mask", model=str(tmp_path / "out"), device="cpu")("bade [MASK] lu")
        ids = torch.tensor([backend.encode("bade [MASK] lu").ids])
        at = (ids[0] == backend.token_to_id("[MASK]")).nonzero()[0]
        with torch.inference_mode():
            best = model.word_logits(ids, torch.zeros_like(ids), None, at).softmax(-1)[0].max(0)
        assert filled[0]["token"] == int(best.indices)
        assert filled[0]["score"] == pytest.approx(float(best.values), abs=1e-5)


@pytest.mark.parametrize(("sections", "said"), [
    ({"model": {"decoder_transform": False}}, "decoder_transform"),
    ({"model": {"embedding_norm": False}}, "embedding_norm"),
    ({"model": {"norm": "pre", "embedding_norm": False}, "objective": {"token_objective": "causal"}}, "left to right"),
    ({"model": {"norm": "pre"}, "inputs": {"format": "segment-pairs"}, "objective": {"sentence_objective": "nsp"}}, "nsp")])
def test_what_transformers_lacks_is_refused_with_the_reason(config, sections, said, tmp_path):
    shape = changed(config, **sections)
    with pytest.raises(StudyError, match=said) as error:
        to_transformers(new_model(shape, V, 0), shape)
    assert "no equal in transformers" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_an_export_overwrites_nothing_and_needs_pad_first(config, backend, tmp_path):
    model = new_model(config, backend.get_vocab_size(), 0)
    save(backend, tmp_path / "tokenizer")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("mine")
    with pytest.raises(StudyError, match="not empty"):
        export(model, config, tmp_path / "tokenizer", tmp_path / "out")
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "a"]
    save(_wordpiece({word: index for index, word in enumerate(words)}, True), tmp_path / "other")
    with pytest.raises(StudyError, match=r"\[PAD\] has id 1"):
        export(model, config, tmp_path / "other", tmp_path / "new")


BERT_SIZES = {"tiny": (2, 128, 2, 512), "compact": (6, 256, 8, 1024), "base": (12, 768, 12, 3072)}


@pytest.mark.parametrize("size", BERT_SIZES)
def test_published_sizes_have_the_parameters_of_theirs(config, size):
    layers, width, heads, wide = BERT_SIZES[size]
    shape = changed(config, model={"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
                                 "intermediate_size": wide})
    with torch.device("meta"):
        theirs = new_transformers(shape, V)
        ours = PretrainingModel(shape, V)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
