"""Classifiers as models of `transformers`: every architecture with an equivalent gives the same logits once loaded."""
import pytest
import torch

from study import StudyError
from study.data.tokenizer import SPECIALS, TokenizerInfo
from study.data.wordpiece import save, wordpiece
from study.finetuning.by_hand import DEFAULT
from study.finetuning.classifier import Classifier
from study.finetuning.export import export_classifier
from study.finetuning.finetune import varied
from study.model.huggingface_classifier import classifier_class
from study.objectives.pretraining_model import new_model
from tests.support.studies import changed

SHAPES = {
    "post": ({}, "BertForSequenceClassification"),
    "no decoder transform": ({"decoder_transform": False}, "BertForSequenceClassification"),
    "rotary": ({"positions": "rotary"}, "RoFormerForSequenceClassification"),
    "rotary, no decoder transform": ({"positions": "rotary", "decoder_transform": False},
                                     "RoFormerForSequenceClassification"),
    "pre": ({"norm": "pre"}, "RobertaPreLayerNormForSequenceClassification"),
    "pre, no embedding norm": ({"norm": "pre", "embedding_norm": False}, "MegatronBertForSequenceClassification"),
}
LABELS = ["bad", "fair", "good"]


@pytest.fixture
def config(config):
    """The tiny study's baseline with BERT's positions."""
    return changed(config, model={"positions": "absolute"})


@pytest.mark.parametrize(("model", "kind"), SHAPES.values(), ids=SHAPES)
def test_a_loaded_classifier_gives_the_same_logits(config, tmp_path, model, kind):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    settings = changed(config, model=model)
    torch.manual_seed(1)                    # the head's weights are drawn from the global generator
    words = [*SPECIALS, "a", "few", "words", "to", "split", "and", "more"]
    backend = wordpiece({word: number for number, word in enumerate(words)}, lowercase=True)
    save(backend, tmp_path / "tokenizer")
    info = TokenizerInfo.of(backend)
    encoder = new_model(settings, info.vocabulary_size, seed=0).encoder
    classifier = Classifier(encoder, DEFAULT, settings.model.hidden_size, len(LABELS), info).eval()
    with torch.no_grad():                   # large logits, which are the hardest to reproduce
        for parameter in classifier.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
        classifier.classifier.weight *= 3
    assert export_classifier(classifier, settings, LABELS, tmp_path / "tokenizer", tmp_path / "exported") == kind
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "exported").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    texts = tokenizer(["a few words", "words to split and a few more"], ["and more", "a few"], padding=True,
                      return_tensors="pt")
    with torch.inference_mode():
        theirs = loaded(**texts).logits
        ours = classifier(texts.input_ids, texts.token_type_ids, texts.attention_mask.bool())
    assert ours.abs().max() > 1
    assert torch.allclose(theirs, ours, rtol=0, atol=1e-5)
    assert loaded.config.id2label == dict(enumerate(LABELS))
    assert tokenizer.model_max_length == settings.examples.max_seq_length


UNEXPORTED = {
    "mean pooling": ({}, {"pooling": "mean"}, 3, "pooling is mean; use --set pooling=cls"),
    "alibi": ({"model": {"positions": "alibi"}}, {}, 3, "model.positions is alibi"),
    "causal": ({"objective": {"token_objective": "causal"}}, {}, 3, "causal attention"),
    "many classes": ({}, {}, 33, "33 classes need a dense layer of width 33"),
    "many classes, rotary": ({"model": {"positions": "rotary"}}, {}, 17, "17 classes need a dense layer of width 34"),
}


@pytest.mark.parametrize(("sections", "recipe", "classes", "message"), UNEXPORTED.values(), ids=UNEXPORTED)
def test_a_classifier_without_an_equivalent_is_refused_with_the_reason(config, sections, recipe, classes, message):
    with pytest.raises(StudyError, match=message):
        classifier_class(changed(config, **sections), varied(DEFAULT, recipe), classes)
