"""Vocabularies of characters: every character of the training text is a token, spaces and line ends included.

The corpus holds sentences without the white space between them. So the text of a document is read as its sentences
joined by a space, and its paragraphs joined by a line end.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from study import StudyError
from study.config.schema import Tokenizer
from study.data.tokenizer import SPECIALS

UNKNOWN_WORD = "[UNK]"                      # how the corpus writes a word that its source withheld


def train_characters(settings: Tokenizer, text: Iterable[str]):
    """Returns a `tokenizers.Tokenizer` for the characters of `text`, sentences of the training split.

    Characters that occur at least `min_frequency` times have ids after the special tokens, in the order of their code
    points; others are [UNK]. Space and line end always have one, since they join sentences. Raises StudyError if these
    are more than `vocabulary_size`.
    """
    counts: Counter[str] = Counter()
    for sentence in text:
        counts.update(_normalised(sentence, settings.lowercase).replace(UNKNOWN_WORD, ""))
    kept = {" ", "\n"} | {character for character, count in counts.items() if count >= settings.min_frequency}
    pieces = [*SPECIALS, *sorted(kept)]
    if len(pieces) > settings.vocabulary_size:
        raise StudyError(f"tokenizer.source characters: the text has {len(kept)} characters and {len(SPECIALS)} "
                         f"special tokens, more than tokenizer.vocabulary_size {settings.vocabulary_size}; raise it, "
                         f"or raise tokenizer.min_frequency")
    return character_tokenizer({piece: index for index, piece in enumerate(pieces)}, settings.lowercase)


def _normalised(text: str, lowercase: bool) -> str:
    from tokenizers import normalizers

    return normalizers.Lowercase().normalize_str(text) if lowercase else text


def character_tokenizer(vocabulary: dict[str, int], lowercase: bool):
    """Returns a tokenizer that gives one token per character, between [CLS] and [SEP]."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers import Tokenizer as Backend

    backend = Backend(models.WordLevel(vocabulary, unk_token="[UNK]"))
    if lowercase:
        backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")      # a dot would not match a line end
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(list(SPECIALS))
    backend.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return backend
