"""Whether the settings form words as an existing vocabulary expects: its tokenizer may treat case, accents and Chinese
characters in another way, and pieces that the settings never form are lost."""
from __future__ import annotations

import json
from collections.abc import Iterator

from study.config.schema import Tokenizer
from study.data.vocabulary import Vocabulary
from study.data.word_splitting import CHARACTERS, pre_tokenizer

MOST_LOST = 0.01                            # share of pieces that are never formed, above which settings do not fit
NORMALIZERS = {"BertNormalizer", "Lowercase", "StripAccents"}       # what settings can give, besides NFD for accents


def vocabulary_warnings(settings: Tokenizer, vocabulary: Vocabulary, backend) -> list[str]:
    """Returns a warning for each setting that does not fit an existing vocabulary.

    backend: the `tokenizers.Tokenizer` that the settings give. The pieces say what they need; so does the tokenizer
    that the vocabulary comes from, if there is one.
    """
    by_setting = dict(_of_tokenizer(settings, vocabulary.tokenizer)) | dict(_of_pieces(vocabulary.pieces, backend))
    return [f"tokenizer.source {settings.source}: {warning}" for warning in by_setting.values()]


def _of_pieces(pieces: list[str], backend) -> Iterator[tuple[str, str]]:
    """Pairs of a setting and a warning, if it changes many pieces, which then never occur."""
    normalizer = backend.normalizer
    words = [piece.removeprefix("##") for piece in pieces if not (piece.startswith("[") and piece.endswith("]"))]
    cased = sum(word != word.lower() for word in words)
    if normalizer.lowercase and cased > MOST_LOST * len(words):
        yield "lowercase", (f"{cased:,} of {len(words):,} pieces have upper-case letters, which `lowercase: true` "
                            f"never makes; set lowercase to false, or take an uncased vocabulary")
        if normalizer.strip_accents is None:        # accents then stay, too
            return
    expected = (word.lower() if normalizer.lowercase else word for word in words)
    changed = sum(_without_spaces(normalizer.normalize_str(word)) != _without_spaces(same)
                  for word, same in zip(words, expected, strict=True))
    if changed > MOST_LOST * len(words):
        yield "strip_accents", (f"{changed:,} of {len(words):,} pieces have accents or other marks, which the settings "
                                f"remove (`strip_accents` is as `lowercase` unless it is set); set strip_accents to "
                                f"false, or take a vocabulary without accents")


def _without_spaces(text: str) -> str:
    """A text without white space, which the normalizer puts around Chinese characters."""
    return "".join(text.split())


def _of_tokenizer(settings: Tokenizer, content: dict) -> Iterator[tuple[str, str]]:
    """Pairs of a setting and a warning, if the tokenizer of the vocabulary gives another value.

    content: of a tokenizer.json. Parts that it lacks say nothing.
    """
    splits_chinese = None
    if normalizer := content.get("normalizer"):
        parts = _parts(normalizer, "normalizers")
        splits_chinese = any(part.get("handle_chinese_chars") for part in parts)
        yield from _of_normalizer(settings, parts)
    yield from _of_splitting(settings.word_splitting, content.get("pre_tokenizer"), splits_chinese)
    longest = content.get("model", {}).get("max_input_chars_per_word", settings.max_word_characters)
    if longest != settings.max_word_characters:
        yield "max_word_characters", (f"its tokenizer knows words of up to {longest} characters, and "
                                      f"`max_word_characters` is {settings.max_word_characters}; set it to {longest}")


def _of_normalizer(settings: Tokenizer, parts: list[dict]) -> Iterator[tuple[str, str]]:
    kinds = [part["type"] for part in parts]
    berts = [part for part in parts if part["type"] == "BertNormalizer"]
    lowercase = "Lowercase" in kinds or any(part["lowercase"] for part in berts)
    strip_accents = "StripAccents" in kinds or any(_strips(part["strip_accents"], part["lowercase"]) for part in berts)
    if lowercase and not settings.lowercase:
        yield "lowercase", "its tokenizer lowercases the text, and `lowercase: false` does not; set lowercase to true"
    if settings.lowercase and not lowercase:
        yield "lowercase", "its tokenizer keeps upper case, and `lowercase: true` does not; set lowercase to false"
    if strip_accents != _strips(settings.strip_accents, lowercase):
        yield "strip_accents", (f"its tokenizer {'removes' if strip_accents else 'keeps'} accents, and the settings do "
                                f"not; set strip_accents to {str(strip_accents).lower()}")
    if others := [kind for kind in kinds if kind not in NORMALIZERS and (kind != "NFD" or not strip_accents)]:
        yield "normalizer", (f"its tokenizer also changes text by {', '.join(others)}, which no setting gives, so some "
                             f"pieces may not occur")


def _of_splitting(value: str, given: dict | None, splits_chinese: bool | None) -> Iterator[tuple[str, str]]:
    """value: of `word_splitting`. given: the pre-tokenizer of the vocabulary's tokenizer. splits_chinese: whether each
    Chinese character is a word there. None if it is not known."""
    def fits(name: str) -> bool:
        return given in (None, _json_of(name)) and splits_chinese in (None, name != "spaces")

    if fits(value):
        return
    kinds = ", ".join(part["type"] for part in _parts(given, "pretokenizers")) if given else "BERT's"
    chinese = "" if splits_chinese is None else (", Chinese characters are words" if splits_chinese else
                                                 ", Chinese characters are no words")
    other = next((name for name in ("bert", "spaces", *CHARACTERS) if fits(name)), None)
    remedy = f"set word_splitting to {other}" if other else "no setting gives the same, so some pieces may not occur"
    yield "word_splitting", (f"its tokenizer ends words in another way ({kinds}{chinese}) than `word_splitting: "
                             f"{value}`; {remedy}")


def _strips(strip_accents: bool | None, lowercase: bool) -> bool:
    """Whether accents are removed: null means as `lowercase`."""
    return lowercase if strip_accents is None else strip_accents


def _parts(content: dict, name: str) -> list[dict]:
    """The parts of a normalizer or pre-tokenizer. name: the key of the parts of a sequence."""
    if content["type"] != "Sequence":
        return [content]
    return [part for inner in content[name] for part in _parts(inner, name)]


def _json_of(splitting: str) -> dict:
    """The pre-tokenizer of a value of `word_splitting`, as a tokenizer.json has it."""
    return json.loads(pre_tokenizer(splitting).__getstate__())
