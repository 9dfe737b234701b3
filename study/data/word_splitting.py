"""Where words end, before they are split into pieces: the setting `tokenizer.word_splitting`."""
from __future__ import annotations

# Words that are split further, as regular expressions of what becomes a word of its own: a character with its marks.
CHARACTERS = {"characters": r"\X",
              "spaceless-characters": r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Han}\p{Hiragana}\p{Katakana}]\p{M}*"}


def pre_tokenizer(splitting: str):
    """Returns the pre-tokenizer of the `tokenizers` library for a value of the setting. `bert` and `spaces` have the
    same; these differ in the normalizer, which puts spaces around Chinese characters."""
    from tokenizers import Regex, pre_tokenizers

    if splitting not in CHARACTERS:
        return pre_tokenizers.BertPreTokenizer()
    return pre_tokenizers.Sequence([
        pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Split(Regex(CHARACTERS[splitting]), "isolated")])
