"""Tokenizers of whole words: a token is what stands between two white spaces (d2l.ai, "Converting Raw Text into
Sequence Data").

Special tokens have ids 0 to 4; the words follow in alphabetical order.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from study import StudyError
from study.config.schema import Tokenizer
from study.data.tokenizer import SPECIALS


def train_words(settings: Tokenizer, text: Iterable[str]):
    """Returns a `tokenizers.Tokenizer` of the words of `text` that occur at least `min_frequency` times.

    If these are more than `vocabulary_size` allows, the most frequent ones are kept; ties go to the alphabet. Raises
    StudyError if none is left.
    """
    counts = Counter(word for sentence in text for word in _normalized(sentence, settings.lowercase).split()
                     if word not in SPECIALS)
    known = sorted((word for word, count in counts.items() if count >= settings.min_frequency),
                   key=lambda word: (-counts[word], word))[:max(0, settings.vocabulary_size - len(SPECIALS))]
    if not known:
        raise StudyError(f"tokenizer.min_frequency {settings.min_frequency}: no word of the training text occurs so "
                         f"often, or tokenizer.vocabulary_size leaves no room; choose other numbers")
    return word_level({piece: index for index, piece in enumerate([*SPECIALS, *sorted(known)])}, settings.lowercase)


def _normalized(sentence: str, lowercase: bool) -> str:
    """The sentence as `word_level` sees it: special tokens keep their capitals."""
    if not lowercase:
        return sentence
    return " ".join(word if word in SPECIALS else word.lower() for word in sentence.split())


def word_level(vocabulary: dict[str, int], lowercase: bool):
    """Returns a tokenizer of whole words with this vocabulary; every other word is [UNK]."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers, pre_tokenizers, processors

    backend = Backend(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase()] if lowercase else [])
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(list(SPECIALS))
    backend.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return backend
