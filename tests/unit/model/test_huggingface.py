"""Models against their equivalents in `transformers`: the same weights give the same states, logits and gradients."""
import numpy as np
import pytest
import torch

from study import StudyError
from study.data.wordpiece import save, wordpiece
from study.model.huggingface import (
    export,
    from_transformers,
    new_transformers,
    tensor_names,
    to_transformers,
    transformers_class,
)
from study.objectives.pretraining_model import PretrainingModel, new_model
from tests.support.models import T, V, batch
from tests.support.studies import changed

PAIRS = {"inputs": {"format": "segment-pairs"}, "objective": {"sentence_objective": "nsp"}}
SHAPES = {
    "post": {}, "post, untied": {"model": {"tied_decoder": False}}, "pre": {"model": {"norm": "pre"}},
    "pre, untied": {"model": {"norm": "pre", "tied_decoder": False}},
    "pre, no embedding norm": {"model": {"norm": "pre", "embedding_norm": False}},
    "post, pairs": PAIRS, "pre, no embedding norm, pairs": {"model": {"norm": "pre", "embedding_norm": False}, **PAIRS},
    "causal": {"objective": {"token_objective": "causal"}},
    "pre, causal": {"model": {"norm": "pre"}, "objective": {"token_objective": "causal"}},
    "rotary": {"model": {"positions": "rotary"}},
    "rotary, untied": {"model": {"positions": "rotary", "tied_decoder": False}},
    "relu": {"model": {"hidden_act": "relu", "layer_norm_eps": 1e-3}},
    "rotary, causal": {"model": {"positions": "rotary"}, "objective": {"token_objective": "causal"}},
}
CLASSES = {"post": "BertForMaskedLM", "pre": "RobertaPreLayerNormForMaskedLM", "causal": "BertLMHeadModel",
           "pre, no embedding norm": "MegatronBertForMaskedLM", "rotary": "RoFormerForMaskedLM",
           "post, pairs": "BertForPreTraining", "pre, no embedding norm, pairs": "MegatronBertForPreTraining"}
POSITIONS = torch.tensor([3, 17, 40, 41, 70])
LABELS = torch.tensor([0, 1, 1])            # of the pairs


@pytest.fixture
def config(config):
    """The tiny study's baseline with BERT's positions."""
    return changed(config, model={"positions": "absolute"})


@pytest.fixture(params=SHAPES)
def settings(request, config):
    return changed(config, **SHAPES[request.param])


def perturb(model, generator):
    """Changes biases and norms from 0 and 1, so that tensors that are mixed up make a difference."""
    with torch.no_grad():
        for parameter in (parameter for parameter in model.parameters() if parameter.requires_grad):
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def our_model(settings):
    return perturb(new_model(settings, V, seed=0), torch.Generator().manual_seed(9))


def run_theirs(theirs, ids, types, mask, **more):
    return theirs(input_ids=ids, token_type_ids=types, attention_mask=mask.long(), output_hidden_states=True, **more)


def assert_same(model, theirs, settings):
    ids, types, mask = batch()
    result, states = run_theirs(theirs, ids, types, mask), model.encoder(ids, types, mask, all_states=True)
    assert len(result.hidden_states) == len(states)
    for our_states, their_states in zip(states[:-1], result.hidden_states[:-1], strict=True):
        torch.testing.assert_close(our_states[mask], their_states[mask], rtol=0, atol=1e-5)
    last = theirs.base_model(input_ids=ids, token_type_ids=types, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(states[-1][mask], last[mask], rtol=0, atol=1e-5)
    has_sentence_head = transformers_class(settings).has_sentence_head
    their_logits = result.prediction_logits if has_sentence_head else result.logits
    our_logits = model.mlm_head(states[-1], model.encoder.token)
    torch.testing.assert_close(our_logits[mask], their_logits[mask], rtol=0, atol=1e-5)
    if has_sentence_head:
        torch.testing.assert_close(model.sentence_head(states[-1][:, 0]), result.seq_relationship_logits, rtol=0,
                                   atol=1e-5)


def test_states_and_logits_are_equal_after_export(settings):
    model = our_model(settings)
    assert_same(model, to_transformers(model, settings), settings)


def test_states_and_logits_are_equal_after_import(settings):
    theirs = perturb(new_transformers(settings, V), torch.Generator().manual_seed(9))
    model = new_model(settings, V, 1).eval()
    missing, unexpected = model.load_state_dict(from_transformers(theirs, settings), strict=False)
    assert not unexpected
    assert all(name.startswith("sentence_head.") for name in missing)
    assert bool(missing) != transformers_class(settings).has_sentence_head
    assert_same(model, theirs, settings)


@pytest.mark.parametrize("name", ["post", "post, untied", "post, pairs", "pre", "pre, no embedding norm",
                                  "pre, no embedding norm, pairs", "rotary"])
def test_losses_and_gradients_are_equal(config, name):
    settings = changed(config, **SHAPES[name])
    target = transformers_class(settings)
    model, (ids, types, mask) = our_model(settings), batch()
    theirs, targets = to_transformers(model, settings), torch.tensor([8, 9, 10, 11, 12])
    result = model(ids, types, mask, POSITIONS, targets, LABELS if target.has_sentence_head else None)
    loss = result.token / len(targets) + (result.sentence / len(LABELS) if target.has_sentence_head else 0)
    labels = torch.full((ids.numel(),), -100)
    labels[POSITIONS] = targets
    more = {"next_sentence_label": LABELS} if target.has_sentence_head else {}
    their_loss = run_theirs(theirs, ids, types, mask, labels=labels.view_as(ids), **more).loss
    torch.testing.assert_close(loss, their_loss, rtol=0, atol=1e-5)
    loss.backward()
    their_loss.backward()
    their_parameters = dict(theirs.named_parameters(remove_duplicate=False))
    our_parameters = dict(model.named_parameters())
    for our_name, their_names in tensor_names(settings).items():
        gradient = torch.cat([their_parameters[name].grad for name in their_names])
        if our_name == "encoder.position.weight":
            gradient = gradient[target.position_offset:]
        torch.testing.assert_close(our_parameters[our_name].grad, gradient, rtol=1e-4, atol=1e-5, msg=our_name)


@pytest.mark.parametrize(("name", "class_name"), CLASSES.items())
def test_an_export_loads_in_from_pretrained_and_in_pipelines(config, backend, tmp_path, name, class_name):
    from transformers import AutoConfig, AutoModel, AutoTokenizer, pipeline

    settings = changed(config, **SHAPES[name])
    model = new_model(settings, backend.get_vocab_size(), 0).eval()
    save(backend, tmp_path / "tokenizer")
    assert export(model, settings, tmp_path / "tokenizer", tmp_path / "out") == class_name
    assert AutoConfig.from_pretrained(tmp_path / "out").architectures == [class_name]
    assert (tmp_path / "out" / "model.safetensors").exists()
    tokenizer, loaded = AutoTokenizer.from_pretrained(tmp_path / "out"), AutoModel.from_pretrained(tmp_path / "out")
    encoded = tokenizer("bade figo", "lu mane", return_tensors="pt")
    assert encoded.input_ids[0].tolist() == backend.encode("bade figo", "lu mane").ids
    assert tokenizer.model_max_length == T
    with torch.inference_mode():
        states = model.encoder(encoded.input_ids, encoded.token_type_ids)
        their_states = loaded.eval()(**encoded).last_hidden_state
    np.testing.assert_allclose(their_states.numpy(), states.numpy(), atol=1e-5)
    if name != "causal":
        predictions = pipeline("fill-mask", model=str(tmp_path / "out"), device="cpu")("bade [MASK] lu")
        ids = torch.tensor([backend.encode("bade [MASK] lu").ids])
        position = (ids[0] == backend.token_to_id("[MASK]")).nonzero()[0]
        with torch.inference_mode():
            best = model.token_logits(ids, position).softmax(-1)[0].max(0)
        assert predictions[0]["token"] == int(best.indices)
        assert predictions[0]["score"] == pytest.approx(float(best.values), abs=1e-5)


@pytest.mark.parametrize("name", [name for name in CLASSES if "pairs" not in name])
def test_an_export_has_no_weights_that_were_not_trained(config, backend, tmp_path, name):
    from safetensors import safe_open
    from transformers import AutoModelForMaskedLM

    settings = changed(config, **SHAPES[name])
    model = new_model(settings, backend.get_vocab_size(), 0).eval()
    save(backend, tmp_path / "tokenizer")
    export(model, settings, tmp_path / "tokenizer", tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as file:
        assert [key for key in file.keys() if "pooler" in key or "seq_relationship" in key] == []   # noqa: SIM118
    if name != "causal":
        loaded, report = AutoModelForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
        assert type(loaded).__name__ == CLASSES[name]
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]


@pytest.mark.parametrize(("sections", "reason"), [
    ({"model": {"decoder_transform": False}}, "decoder_transform"),
    ({"model": {"embedding_norm": False}}, "embedding_norm"),
    ({"model": {"norm": "pre", "embedding_norm": False}, "objective": {"token_objective": "causal"}}, "causal"),
    ({"model": {"norm": "pre"}, **PAIRS}, "nsp"),
    ({"model": {"positions": "rotary"}, **PAIRS}, "RoFormerForMaskedLM has no head for .*nsp"),
    ({"model": {"positions": "rotary", "norm": "pre"}}, "positions is rotary and model.norm is pre"),
    ({"model": {"positions": "relative"}}, "positions is relative"),
    ({"model": {"embedding_scale": "root-width"}}, "model.embedding_scale is root-width")])
def test_a_model_without_an_equivalent_is_rejected_with_the_reason(config, sections, reason):
    settings = changed(config, **sections)
    with pytest.raises(StudyError, match=f"no equivalent in transformers: .*{reason}"):
        to_transformers(new_model(settings, V, 0), settings)


def test_an_export_overwrites_nothing_and_needs_pad_first(config, backend, tmp_path):
    model = new_model(config, backend.get_vocab_size(), 0)
    save(backend, tmp_path / "tokenizer")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("mine")
    with pytest.raises(StudyError, match="not empty"):
        export(model, config, tmp_path / "tokenizer", tmp_path / "out")
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "a"]
    save(wordpiece({word: index for index, word in enumerate(words)}, True), tmp_path / "other")
    with pytest.raises(StudyError, match=r"\[PAD\] has id 1"):
        export(model, config, tmp_path / "other", tmp_path / "new")


BERT_SIZES = {"tiny": (2, 128, 2, 512), "compact": (6, 256, 8, 1024), "base": (12, 768, 12, 3072)}


@pytest.mark.parametrize("size", BERT_SIZES)
def test_published_sizes_have_as_many_parameters_as_in_transformers(config, size):
    layers, width, heads, intermediate = BERT_SIZES[size]
    settings = changed(config, model={"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
                                      "intermediate_size": intermediate}, **PAIRS)
    with torch.device("meta"):
        theirs = new_transformers(settings, V)
        ours = PretrainingModel(settings, V)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
