"""Vocabularies that cannot be used: one line that says why and what to do."""
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models

from study import StudyError
from study.config.schema import Tokenizer
from study.data.tokenizer import SPECIALS
from study.data.vocabulary import existing_vocabulary
from study.data.wordpiece import train_wordpiece, wordpiece

PIECES = [*SPECIALS, "a", "b", "##a"]
OF_HUB = [
    (models.Unigram([(piece, 0.0) for piece in PIECES], 1), "owner/name: a Unigram tokenizer; this project needs"),
    (models.WordPiece(dict(zip(PIECES, range(8), strict=True)), unk_token="[UNK]", continuing_subword_prefix="@@"),
     "a WordPiece tokenizer with the prefix '@@'"),
]


def on_the_hub(monkeypatch, backend: Backend) -> None:
    """Every id is that of this tokenizer."""
    from transformers import PreTrainedTokenizerFast

    loaded = PreTrainedTokenizerFast(tokenizer_object=backend)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: loaded)


@pytest.mark.parametrize(("model", "message"), OF_HUB, ids=["unigram", "prefix"])
def test_a_tokenizer_of_the_hub_of_another_kind_is_refused(tmp_path, monkeypatch, model, message):
    on_the_hub(monkeypatch, Backend(model))
    with pytest.raises(StudyError, match=message):
        existing_vocabulary("owner/name", tmp_path)


def test_a_wordpiece_tokenizer_of_the_hub_is_accepted(tmp_path, monkeypatch):
    backend = wordpiece({piece: index for index, piece in enumerate(PIECES)}, lowercase=True)
    on_the_hub(monkeypatch, backend)
    assert existing_vocabulary("owner/name", tmp_path).pieces == PIECES


def test_an_id_that_the_hub_does_not_give_may_be_wrong(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise OSError("no such id")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", missing)
    with pytest.raises(StudyError, match="check the id and the connection, or put its vocab.txt under data/name/"):
        existing_vocabulary("owner/name", tmp_path)


def test_an_alphabet_larger_than_the_vocabulary_is_refused():
    text = ["".join(map(chr, range(0x4e00, 0x4e00 + 60)))]
    settings = Tokenizer(source="train", vocabulary_size=40, lowercase=True, min_frequency=1)
    with pytest.raises(StudyError, match="need 65 pieces, more than tokenizer.vocabulary_size 40; raise it"):
        train_wordpiece(settings, lambda: text)
    assert train_wordpiece(settings.model_copy(update={"vocabulary_size": 65}), lambda: text).get_vocab_size() == 65
