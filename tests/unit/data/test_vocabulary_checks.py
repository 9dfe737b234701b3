"""A vocabulary and settings that do not fit: one warning for each setting, with the value that fits."""
import json

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordPiece

from study import StudyError
from study.config.schema import Tokenizer
from study.data.tokenizer import SPECIALS
from study.data.vocabulary import Vocabulary, existing_vocabulary
from study.data.vocabulary_checks import vocabulary_warnings
from study.data.wordpiece import wordpiece

PLAIN = ["ab", "##cd", "e"]


def normalizer(**values) -> dict:
    return {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": True} | values


def sequence(*kinds: str) -> dict:
    return {"type": "Sequence", "normalizers": [{"type": kind} for kind in kinds]}


def split_as(splitting: str) -> dict:
    """The tokenizer.json of this project's tokenizer."""
    return json.loads(wordpiece({}, lowercase=True, splitting=splitting).to_str())


WHITESPACE = {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "Punctuation"}]}
FITTING = [
    ("BERT's", {"normalizer": normalizer(), "pre_tokenizer": {"type": "BertPreTokenizer"},
                "model": {"max_input_chars_per_word": 100}}, PLAIN, {}),
    ("no tokenizer", {}, PLAIN, {}),
    ("parts that say nothing", {"normalizer": None, "pre_tokenizer": None, "model": {}}, PLAIN, {}),
    ("accents as `lowercase`", {"normalizer": normalizer(lowercase=False)}, ["Größe"], {"lowercase": False}),
    ("accents as in the settings", {"normalizer": normalizer(strip_accents=False)}, ["größe"],
     {"strip_accents": False}),
    ("accents that are removed by default", {"normalizer": normalizer(strip_accents=True)}, PLAIN, {}),
    ("few pieces with accents", {}, ["ü", *(f"a{number}" for number in range(100))], {}),
    ("Chinese", {}, ["中", "国", "##国"], {}),
    ("special tokens", {}, [*SPECIALS, "[unused1]", "a"], {}),
    ("its parts one by one", {"normalizer": sequence("NFD", "Lowercase", "StripAccents")}, PLAIN,
     {"word_splitting": "spaces"}),
    *[(f"split as {name}", split_as(name), PLAIN, {"word_splitting": name})
      for name in ("bert", "spaces", "spaceless-characters", "characters")],
]
NOT_FITTING = [
    ("accents that are kept", {"normalizer": normalizer(strip_accents=False)}, PLAIN, {},
     ["its tokenizer keeps accents, and the settings do not; set strip_accents to false"]),
    ("accents that are removed", {"normalizer": normalizer()}, PLAIN, {"strip_accents": False},
     ["its tokenizer removes accents, and the settings do not; set strip_accents to true"]),
    ("pieces with accents", {}, ["größe", "##ß", "ü"], {},
     ["2 of 3 pieces have accents or other marks, which the settings remove (`strip_accents` is as `lowercase` unless "
      "it is set); set strip_accents to false"]),
    ("pieces with accents and their tokenizer", {"normalizer": normalizer(strip_accents=False)}, ["größe", "ü"], {},
     ["2 of 2 pieces have accents"]),
    ("kana with marks", {}, ["が", "か"], {}, ["1 of 2 pieces have accents or other marks"]),
    ("cased pieces", {}, ["Größe", "e"], {}, ["1 of 2 pieces have upper-case letters"]),
    ("cased pieces, and accents by hand", {}, ["Größe", "ü"], {"strip_accents": True},
     ["1 of 2 pieces have upper-case letters", "2 of 2 pieces have accents"]),
    ("upper case that is kept", {"normalizer": normalizer(lowercase=False)}, PLAIN, {},
     ["its tokenizer keeps upper case, and `lowercase: true` does not; set lowercase to false"]),
    ("upper case that is not kept", {"normalizer": normalizer()}, PLAIN, {"lowercase": False},
     ["its tokenizer lowercases the text, and `lowercase: false` does not; set lowercase to true"]),
    ("Chinese words", {"normalizer": normalizer(handle_chinese_chars=False)}, PLAIN, {},
     ["its tokenizer ends words in another way (BERT's, Chinese characters are no words) than `word_splitting: bert`; "
      "set word_splitting to spaces"]),
    ("Chinese characters", {"normalizer": normalizer()}, PLAIN, {"word_splitting": "spaces"},
     ["Chinese characters are words) than `word_splitting: spaces`; set word_splitting to bert"]),
    ("other characters", split_as("characters"), PLAIN, {}, ["set word_splitting to characters"]),
    ("words at spaces alone", {"pre_tokenizer": WHITESPACE}, PLAIN, {},
     ["ends words in another way (Whitespace, Punctuation) than `word_splitting: bert`; no setting gives the same"]),
    ("another limit", {"model": {"max_input_chars_per_word": 50}}, PLAIN, {},
     ["knows words of up to 50 characters, and `max_word_characters` is 100; set it to 50"]),
    ("another normalizer", {"normalizer": sequence("NFKC", "Lowercase")}, PLAIN,
     {"strip_accents": False, "word_splitting": "spaces"}, ["also changes text by NFKC, which no setting gives"]),
    ("a normalizer in a normalizer", {"normalizer": {"type": "Sequence", "normalizers": [
        sequence("NFD", "StripAccents"), normalizer(strip_accents=False)]}}, PLAIN, {"strip_accents": False},
     ["its tokenizer removes accents"]),
]


def warnings_of(tokenizer: dict, pieces: list[str], settings: dict) -> list[str]:
    given = Tokenizer(**{"source": "mine", "vocabulary_size": 9, "lowercase": True, "min_frequency": 1} | settings)
    backend = wordpiece({}, given.lowercase, given.strip_accents, given.word_splitting, given.max_word_characters)
    return vocabulary_warnings(given, Vocabulary(pieces, tokenizer), backend)


@pytest.mark.parametrize(("tokenizer", "pieces", "settings"), [row[1:] for row in FITTING],
                         ids=[row[0] for row in FITTING])
def test_settings_that_fit_are_no_warning(tokenizer, pieces, settings):
    assert warnings_of(tokenizer, pieces, settings) == []


@pytest.mark.parametrize(("tokenizer", "pieces", "settings", "expected"), [row[1:] for row in NOT_FITTING],
                         ids=[row[0] for row in NOT_FITTING])
def test_a_setting_that_does_not_fit_is_named(tokenizer, pieces, settings, expected):
    printed = warnings_of(tokenizer, pieces, settings)
    assert len(printed) == len(expected), printed
    for warning, words in zip(printed, expected, strict=True):
        assert warning.startswith("tokenizer.source mine: ")
        assert words in warning


@pytest.mark.parametrize(("ids", "gap"), [({"[PAD]": 1, "a": 2}, 0), ({"[PAD]": 0, "a": 1, "b": 3}, 2)])
def test_ids_with_a_gap_are_refused(tmp_path, ids, gap):
    Backend(WordPiece(ids, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(StudyError, match=f"no piece has the id {gap}; ids must be 0, 1, ... without a gap"):
        existing_vocabulary("tokenizer.json", tmp_path)
