"""Tokenizers of every kind: the same ids, special tokens where there are any, and one-line errors."""
import json

import numpy as np
import pytest

from study import StudyError
from study.doctor.checks import check_tokenizer, check_unknown
from study.doctor.tokenizer import encode_lines, load_vocabulary


def test_a_folder_a_file_and_a_word_list_give_the_same_ids(tokenizer_folder, lines):
    names = [tokenizer_folder, tokenizer_folder / "tokenizer.json", tokenizer_folder / "vocab.txt"]
    encoded = [encode_lines(load_vocabulary(str(name)), lines[:50]) for name in names]
    for other in encoded[1:]:
        np.testing.assert_array_equal(encoded[0].ids, other.ids)


def test_special_and_unused_entries_are_not_ordinary(vocabulary, language):
    assert vocabulary.special == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    assert vocabulary.ordinary.tolist() == list(range(7, 7 + len(language.words)))
    assert vocabulary.boundary not in vocabulary.ordinary


def test_truncation_and_padding_that_were_saved_are_not_applied(tokenizer_folder, lines, tmp_path):
    from tokenizers import Tokenizer

    backend = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=100)
    backend.save(str(tmp_path / "tokenizer.json"))
    encoded = encode_lines(load_vocabulary(str(tmp_path)), lines[:20])
    assert encoded.lengths.tolist() == [len(line.split()) for line in lines[:20]]


def test_lines_are_separated_by_a_boundary(vocabulary):
    encoded = encode_lines(vocabulary, ["nothing known", "here"])
    assert encoded.ids.tolist() == [1, 1, vocabulary.boundary, 1, vocabulary.boundary]
    assert encoded.lengths.tolist() == [2, 1]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.12])
def test_the_share_of_unknown_tokens_is_found_within_its_sampling_error(share, lines, vocabulary, rng):
    words = [word for line in lines for word in line.split()][:20_000]
    text = ["XQZ" if unknown else word for word, unknown in zip(words, rng.random(len(words)) < share, strict=True)]
    encoded = encode_lines(vocabulary, [" ".join(text[begin:begin + 20]) for begin in range(0, len(text), 20)])
    unknown, tokens = int((encoded.ids == vocabulary.special["unk"]).sum()), int(encoded.lengths.sum())
    assert abs(unknown / tokens - share) <= 4 * (share * (1 - share) / tokens)**0.5
    (finding,) = check_unknown(tokens, unknown, 0.0, vocabulary)
    assert finding.severity == {0.0: "fine", 0.02: "note", 0.12: "problem"}[share]
    assert f"{unknown / tokens:.2%} of 20,000 tokens are [UNK]" in finding.detail


def test_byte_level_tokenizers_have_no_mask_and_no_unknown_token(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.BPE({letter: index for index, letter in enumerate("abcdefgh")}, []))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    vocabulary = load_vocabulary(str(tmp_path / "tokenizer.json"))
    assert set(vocabulary.special.values()) == {None}
    assert encode_lines(vocabulary, ["abc"]).ids.tolist() == [0, 1, 2, 8]
    problem, note = check_tokenizer(vocabulary)
    assert (problem.severity, problem.title) == ("problem", "no [MASK]")
    assert "Add one before masked pre-training" in problem.remedy
    assert note.title == "no [PAD]"
    (unknown,) = check_unknown(3, 0, 0.0, vocabulary)
    assert "can encode any text" in unknown.detail


def test_a_cased_word_list_is_not_lowercased(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nParis\nparis\n")
    vocabulary = load_vocabulary(str(tmp_path))
    assert encode_lines(vocabulary, ["Paris paris"]).ids.tolist()[:2] == [5, 6]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("empty", None, "empty: no tokenizer.json, tokenizer_config.json or vocab.txt; save the tokenizer there"),
    ("missing/vocab.txt", None, "missing/vocab.txt: no such tokenizer"),
    ("bad/tokenizer.json", "{}", "bad/tokenizer.json: not a usable tokenizer"),
    ("poor/vocab.txt", "[PAD]\na\nb\n", r"poor/vocab.txt: no \[UNK\]; a vocab.txt has one piece per line"),
    ("small/vocab.txt", "[PAD]\n[UNK]\n[MASK]\na\n", "a vocabulary of 4 entries, 1 of them ordinary"),
])
def test_an_unusable_tokenizer_is_one_line_with_the_remedy(name, content, message, tmp_path):
    path = tmp_path / name
    if content is None:
        (tmp_path / "empty").mkdir()
    else:
        path.parent.mkdir()
        path.write_text(content)
    with pytest.raises(StudyError, match=message) as error:
        load_vocabulary(str(path))
    assert len(str(error.value).splitlines()) == 1


def test_an_id_that_cannot_be_loaded_names_the_id_and_the_remedy(monkeypatch):
    def offline(*_, **__):
        raise OSError("We couldn't connect\nto the hub")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", offline)
    with pytest.raises(StudyError, match="bert-base-uncased: no such folder here, and no tokenizer of this id could be "
                                         "loaded from the Hugging Face hub .* name the folder") as error:
        load_vocabulary("bert-base-uncased")
    assert len(str(error.value).splitlines()) == 1


def test_a_damaged_folder_is_refused(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizerFast"}))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(StudyError, match="not a usable tokenizer"):
        load_vocabulary(str(tmp_path))
