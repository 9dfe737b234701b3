"""Vocabularies that cannot be used: one line that says why and what to do."""
import re
import sys

import pytest
from huggingface_hub import constants
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
    monkeypatch.setattr("study.data.vocabulary.can_reach_hub", lambda: True)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: loaded)


@pytest.mark.parametrize(("model", "message"), OF_HUB, ids=["unigram", "prefix"])
def test_a_tokenizer_of_the_hub_of_another_kind_is_refused(tmp_path, monkeypatch, model, message):
    on_the_hub(monkeypatch, Backend(model))
    with pytest.raises(StudyError, match=message):
        existing_vocabulary("owner/name", tmp_path)


def test_a_wordpiece_tokenizer_of_the_hub_is_accepted(tmp_path, monkeypatch):
    backend = wordpiece({piece: index for index, piece in enumerate(PIECES)}, lowercase=True, strip_accents=False)
    on_the_hub(monkeypatch, backend)
    vocabulary = existing_vocabulary("owner/name", tmp_path)
    assert vocabulary.pieces == PIECES
    assert vocabulary.tokenizer["normalizer"]["strip_accents"] is False


def test_an_id_that_the_hub_does_not_give_may_be_wrong(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise OSError("no such id")

    monkeypatch.setattr("study.data.vocabulary.can_reach_hub", lambda: True)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", missing)
    with pytest.raises(StudyError, match="check the id and the connection, or put its vocab.txt under data/name/"):
        existing_vocabulary("owner/name", tmp_path)


NEARLY = [("trian", "train"), ("Train", "train"), ("word", "words"), ("character", "characters"),
          ("lexikon", "lexicon"), ("bert-base-uncase", "bert-base-uncased"), ("my-piece", "my-pieces"),
          ("my-piece/vocab", "my-pieces/vocab")]
NO_IDS = ["mine", "my-pieces/vocab", "owner/name/more", "owner/name.json", "./name", "owner\\name", "owner/na me",
          "gpt3", "words.txt", "-/name"]


@pytest.fixture
def nothing_is_sent(monkeypatch):
    """Neither the hub's client nor a socket is asked for anything."""
    def refuse(*_, **__):
        raise AssertionError("the name was sent")

    monkeypatch.setattr("study.data.vocabulary.can_reach_hub", refuse)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", refuse)


@pytest.mark.parametrize(("source", "meant"), [*NEARLY, *((source, None) for source in NO_IDS)])
def test_a_name_that_is_no_id_of_the_hub_is_not_sent_there(tmp_path, nothing_is_sent, source, meant):
    (tmp_path / "data/my-pieces").mkdir(parents=True)
    with pytest.raises(StudyError, match=f"tokenizer.source {re.escape(source)}: no such file or folder") as error:
        existing_vocabulary(source, tmp_path)
    assert (f"Did you mean {meant}?" in str(error.value)) == (meant is not None)
    assert "Choose train, words, characters, lexicon, a vocab.txt, a tokenizer.json, a folder with one, or an id of " \
           "the hub as owner/name" in str(error.value)


def test_a_folder_may_have_a_name_like_a_source(tmp_path, nothing_is_sent):
    (tmp_path / "trian").mkdir()
    (tmp_path / "trian/vocab.txt").write_text("\n".join(PIECES))
    assert existing_vocabulary("trian", tmp_path).pieces == PIECES


@pytest.mark.parametrize("source", ["bert-base-uncased", "bert-base-cased", "google-bert/bert-base-cased", "a/b"])
def test_an_id_of_the_hub_is_asked_for(tmp_path, monkeypatch, source):
    on_the_hub(monkeypatch, wordpiece({piece: index for index, piece in enumerate(PIECES)}, lowercase=True))
    assert existing_vocabulary(source, tmp_path).pieces == PIECES


def test_without_a_connection_or_a_cache_the_error_comes_at_once(tmp_path, monkeypatch):
    """`transformers`, which takes seconds to import, is not needed."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(StudyError, match=r"from the hub \(no connection, and it is not in the cache\); .* put its "
                                         r"vocab.txt under data/name/ and set tokenizer.source to name$"):
        existing_vocabulary("owner/name", tmp_path)


@pytest.mark.parametrize("reachable", [True, False])
def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch, reachable):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", tmp_path / "file/hub")
    monkeypatch.setattr("study.data.vocabulary.can_reach_hub", lambda: reachable)

    def missing(*_, **__):
        raise OSError("not a folder")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", missing)
    with pytest.raises(StudyError, match="file/hub: the client of the hub cannot keep its files there .*; set HF_HOME "
                                         "to a folder that can be written$"):
        existing_vocabulary("owner/name", tmp_path)


def test_what_is_in_the_cache_needs_no_connection(tmp_path, monkeypatch):
    backend = wordpiece({piece: index for index, piece in enumerate(PIECES)}, lowercase=True)
    on_the_hub(monkeypatch, backend)
    monkeypatch.setattr("study.data.vocabulary.can_reach_hub", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", tmp_path / "hub")
    (tmp_path / "hub/models--owner--name").mkdir(parents=True)
    assert existing_vocabulary("owner/name", tmp_path).pieces == PIECES


def test_an_alphabet_larger_than_the_vocabulary_is_refused():
    text = ["".join(map(chr, range(0x4e00, 0x4e00 + 60)))]
    settings = Tokenizer(source="train", vocabulary_size=40, lowercase=True, min_frequency=1)
    with pytest.raises(StudyError, match="need 65 pieces, more than tokenizer.vocabulary_size 40; raise it"):
        train_wordpiece(settings, lambda: text)
    assert train_wordpiece(settings.model_copy(update={"vocabulary_size": 65}), lambda: text).get_vocab_size() == 65
