"""How much of a text is [UNK], as a share of its pieces and of its characters."""
import unicodedata

import pandas as pd
import pytest

from study.config.schema import Tokenizer
from study.data.scripts import marks_lost
from study.data.summary_tables import summary_tables
from study.data.tokenizer import SPECIALS
from study.data.unknown import UnknownCounts, row_warnings, task_warnings, text_warnings
from study.data.wordpiece import wordpiece
from study.data.words import word_level

PIECES = {piece: index for index, piece in enumerate([*SPECIALS, *"abcde", *(f"##{letter}" for letter in "abcde")])}
THAI = "ภาษาไทยไม่มีช่องว่าง"


def counted(*texts: str, **settings) -> UnknownCounts:
    counts = UnknownCounts()
    counts.add(wordpiece(PIECES, lowercase=True, **settings), texts)
    return counts


def settings_with(**values) -> Tokenizer:
    return Tokenizer(**{"source": "train", "vocabulary_size": 100, "lowercase": True, "min_frequency": 1} | values)


def test_pieces_and_characters_are_counted_apart():
    """Known: a, ##b, c. Unknown: xyzxyz, 6 of 9 characters. White space has no share."""
    counts = counted("ab  c\txyzxyz")
    assert (counts.pieces, counts.unknown, counts.characters, counts.unknown_characters) == (4, 1, 9, 6)
    assert counts.share == pytest.approx(1 / 4)
    assert counts.character_share == pytest.approx(2 / 3)


def test_unknown_words_that_the_text_says_are_no_characters():
    counts = counted("ab [UNK] c [UNK]")
    assert (counts.pieces, counts.unknown, counts.written, counts.characters, counts.unknown_characters) == (5, 2, 2, 3,
                                                                                                             0)


def test_parts_of_a_text_may_be_counted_one_after_the_other():
    parts = counted("ab xyz")
    parts.add(wordpiece(PIECES, lowercase=True), ["c x"])
    assert vars(parts) == vars(counted("ab xyz", "c x"))


@pytest.mark.parametrize(("known", "word", "expected"), [
    (200, "x", []),                         # 0.5 % of the pieces and of the characters
    (50, "x", ["2.0% of the pieces of the training text are [UNK] (most often 'x'); these are predicted only"]),
    (200, "x" * 60, [f"0.5% of the pieces of the training text are [UNK] (most often '{'x' * 30}') and hold 23.2% of "
                     f"its characters; these are predicted only"])])
def test_the_training_text_is_warned_about_for_pieces_and_for_characters(known, word, expected):
    warnings = text_warnings(counted("a " * (known - 1) + word), settings_with(), quotable=True)
    assert [warning.partition(" with `masking")[0] for warning in warnings] == expected


def test_words_that_may_not_be_quoted_are_not():
    assert "xx" not in text_warnings(counted("a " + "x" * 9), settings_with(), quotable=False)[0]


REMEDIES = [
    ("letters that the vocabulary lacks", "a xyz", {}, {}, "Check the vocabulary, `lowercase`, `strip_accents` and"),
    ("long words", f"a {'a' * 101}", {}, {}, "Most are words of more than 100 characters: raise tokenizer.max_word_"),
    ("long words of another limit", f"a {'a' * 9}", {"longest": 8}, {"max_word_characters": 8},
     "more than 8 characters: raise tokenizer.max_word_characters"),
    ("text without spaces", f"a {THAI * 9}", {}, {},
     "no spaces between words: set tokenizer.word_splitting to spaceless-characters"),
    ("text without spaces, and a vocabulary", f"a {THAI}", {}, {"source": "owner/name"},
     "set tokenizer.word_splitting to spaceless-characters, with a vocabulary of that script"),
    ("characters that are split already", f"a {THAI}", {"splitting": "spaceless-characters"},
     {"word_splitting": "spaceless-characters"}, "Check the vocabulary"),
    ("Chinese, which is split already", "a 我们喜欢北京", {}, {}, "Check the vocabulary"),
    ("Chinese words", "a 我们喜欢北京", {"splitting": "spaces"}, {"word_splitting": "spaces"},
     "set tokenizer.word_splitting to spaceless-characters"),
    ("whole words", "a xyz", {}, {"source": "words"}, "Lower tokenizer.min_frequency, raise tokenizer.vocabulary_size"),
]


@pytest.mark.parametrize(("text", "forms", "settings", "remedy"), [row[1:] for row in REMEDIES],
                         ids=[row[0] for row in REMEDIES])
def test_a_warning_names_the_setting_that_helps(text, forms, settings, remedy):
    (warning,) = text_warnings(counted(text, **forms), settings_with(**settings), quotable=False)
    assert remedy in warning


def test_unknown_words_of_the_text_itself_are_a_reason():
    (warning,) = text_warnings(counted("ab [UNK] c"), settings_with(), quotable=False)
    assert warning == ("25.0% of the pieces of the training text are [UNK], most of them because the text itself says "
                       "so; these are predicted only with `masking.unknown: true`")
    assert "hold" in text_warnings(counted(f"ab [UNK] c {THAI}"), settings_with(), quotable=False)[0]


def test_the_table_has_characters_only_if_the_summary_has():
    facts = {"vocabulary": 9, "sentences": 1, "words": 2, "pieces": 200, "written_unknown": 0, "unknown": 1,
             "longest_word": 60, "pieces_per_word": 100.0, "warnings": []}
    (without,) = summary_tables({"tokenizer": facts})
    (table,) = summary_tables({"tokenizer": facts | {"characters": 259, "unknown_characters": 60}})
    assert without.header == ["tokenizer", "vocabulary", "sentences read", "pieces per word", "[UNK]",
                              "[UNK] in the text itself", "longest word, characters"]
    assert without.rows == [["training text", "9", "1", "100.00", "1 (0.50%)", "0", "60"]]
    assert (table.header[5], table.rows[0][5]) == ("characters in [UNK]", "60 (23.17%)")
    assert without.header == [name for name in table.header if name != "characters in [UNK]"]


def test_rows_are_warned_about_with_both_texts_of_a_pair():
    backend = wordpiece(PIECES, lowercase=True)
    assert row_warnings(backend, "rows", pd.DataFrame({"text": ["a b c"] * 100})) == []
    (warning,) = row_warnings(backend, "rows of x", pd.DataFrame({"text": ["a"] * 3, "text_pair": ["xyz"] * 3}))
    assert warning.startswith("50.0% of the pieces of the rows of x are [UNK] and hold 75.0% of their characters, so "
                              "accuracies mislead. Take a vocabulary of their script, and check `strip_accents`, ")


def test_unknown_words_that_rows_say_are_a_reason():
    frame = pd.DataFrame({"text": ["ab [UNK] c"]})
    assert row_warnings(wordpiece(PIECES, lowercase=True), "rows of x", frame) == [
        "25.0% of the pieces of the rows of x are [UNK], most of them because the rows themselves say so"]


@pytest.mark.parametrize(("text", "warned"), [("known other", False), ("known other more", True)])
def test_whole_words_of_other_text_may_be_new(text, warned):
    """Half of the words may be; a larger share is text of another kind."""
    backend = word_level({piece: index for index, piece in enumerate([*SPECIALS, "known"])}, lowercase=True)
    assert bool(row_warnings(backend, "rows", pd.DataFrame({"text": [text]}))) is warned


def test_each_split_of_a_task_has_its_warning(tmp_path):
    for split, text in (("train", "a b c"), ("test", THAI)):
        pd.DataFrame({"text": [text]}).to_parquet(tmp_path / f"probe-ag-news-{split}.parquet")
    (warning,) = task_warnings(wordpiece(PIECES, lowercase=True), "ag-news",
                               [tmp_path / f"probe-ag-news-{split}.parquet" for split in ("train", "test")])
    assert warning.startswith("100.0% of the pieces of the test rows of ag-news are [UNK], so")


@pytest.mark.parametrize(("text", "lost"), [
    ("ไม่มี", 2), ("がぎ かき", 2), ("हिन्दी", 1), ("ತಿ", 1), ("café naïve", 0), ("Å", 0), ("שָׁלוֹם", 0), ("漢字", 0)])
def test_marks_of_scripts_that_need_them_are_counted(text, lost):
    """As many as BERT's normalizer removes; it removes those of other scripts, too."""
    removed = nonspacing(text) - nonspacing(wordpiece({}, lowercase=True).normalizer.normalize_str(text))
    assert marks_lost(text) == lost
    assert lost in (0, removed)


def nonspacing(text: str) -> int:
    """Marks that a letter has above or below it."""
    return sum(unicodedata.category(character) == "Mn" for character in unicodedata.normalize("NFD", text))
