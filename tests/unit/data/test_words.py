"""Tokenizers of whole words."""
import pytest

from study import StudyError
from study.config.schema import Tokenizer
from study.data.tokenizer import SPECIALS, TokenizerInfo, load
from study.data.wordpiece import build_tokenizer, save
from tests.support.studies import ROOT

TEXT = ["The dog , the [UNK] and A cat", "the cat 's tail @-@ end", "a dog , [UNK]"]


def settings(**changes) -> Tokenizer:
    return Tokenizer(**{"source": "words", "vocabulary_size": 100, "lowercase": True, "min_frequency": 2} | changes)


def vocabulary(**changes) -> list[str]:
    entries = build_tokenizer(settings(**changes), lambda: TEXT, None, ROOT).get_vocab()
    return sorted(entries, key=entries.get)


def test_words_are_kept_if_they_are_frequent_enough():
    assert vocabulary() == [*SPECIALS, ",", "a", "cat", "dog", "the"]
    assert vocabulary(lowercase=False) == [*SPECIALS, ",", "cat", "dog", "the"]
    assert vocabulary(vocabulary_size=7) == [*SPECIALS, ",", "the"]     # the most frequent, then the alphabet


def test_a_text_becomes_its_words():
    backend = build_tokenizer(settings(), lambda: TEXT, None, ROOT)
    assert backend.encode("THE dog's  cat [UNK] , [MASK]").tokens == [
        "[CLS]", "the", "[UNK]", "cat", "[UNK]", ",", "[MASK]", "[SEP]"]
    assert backend.encode("a", "the dog").type_ids == [0, 0, 0, 1, 1, 1]
    info = TokenizerInfo.of(backend)
    assert (info.pad_id, info.unk_id, info.cls_id, info.sep_id, info.mask_id) == (0, 1, 2, 3, 4)
    assert info.ordinary.tolist() == [5, 6, 7, 8, 9]
    assert not info.is_continuation.any()


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_saved_tokenizer_gives_the_same_ids_here_and_in_transformers(tmp_path, lowercase):
    from transformers import AutoTokenizer

    backend = build_tokenizer(settings(lowercase=lowercase), lambda: TEXT, None, ROOT)
    save(backend, tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*TEXT, "[MASK] Unheard the"):
        assert load(tmp_path).encode(text).ids == backend.encode(text).ids == theirs(text)["input_ids"]
    assert theirs.mask_token_id == 4


@pytest.mark.parametrize("changes", [{"min_frequency": 50}, {"vocabulary_size": 5}])
def test_settings_that_leave_no_word_are_refused(changes):
    with pytest.raises(StudyError, match="tokenizer.min_frequency .* choose other numbers"):
        build_tokenizer(settings(**changes), lambda: TEXT, None, ROOT)
