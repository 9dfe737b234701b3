"""How much of a text is [UNK]: as a share of its pieces, and of its characters.

A word of any length is one [UNK], so the two differ. In text without spaces between words, 1 % of the pieces may hold
half of the text.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from study.config.schema import Tokenizer
from study.data.scripts import SPACELESS

MOST_UNKNOWN = 0.01                         # share of [UNK] above which scores mislead
# The same for the rows of a task if tokens are whole words. Each word that the training text lacks is then [UNK], which
# is what such a vocabulary means; a larger share is text of another kind.
MOST_UNKNOWN_WORDS = 0.5
UNKNOWN = "[UNK]"
BATCH_TEXTS = 5_000                         # encoded at once
SAMPLE_ROWS = 5_000                         # of a split of a task, evenly spread
SHOWN_WORDS = 5                             # unknown words in a warning
PREDICTED = "these are predicted only with `masking.unknown: true`"


@dataclass
class UnknownCounts:
    """Counts over texts. pieces: all tokens. unknown: those that are [UNK]. written: [UNK] that the text itself says.
    characters: those outside white space and outside written [UNK]. words: the text of each [UNK], and how often."""
    pieces: int = 0
    unknown: int = 0
    written: int = 0
    characters: int = 0
    words: Counter = field(default_factory=Counter)

    def add(self, backend, texts: Sequence[str]) -> None:
        """Counts some texts. backend: the `tokenizers.Tokenizer`."""
        unk_id = backend.token_to_id(UNKNOWN)
        for text, encoded in zip(texts, backend.encode_batch(texts, add_special_tokens=False), strict=True):
            written = text.count(UNKNOWN)
            self.written += written
            self.characters += sum(map(len, text.split())) - written * len(UNKNOWN)
            self.pieces += len(encoded.ids)
            if unk_id in encoded.ids:
                lost = [text[slice(*offsets)] for index, offsets in zip(encoded.ids, encoded.offsets, strict=True)
                        if index == unk_id]
                self.unknown += len(lost)
                self.words.update(lost)

    @property
    def lengths(self) -> Counter:
        """Returns the characters that each unknown word stands for. White space and written [UNK] have none."""
        return Counter({word: count * len(word) for word, count in self.words.items()
                        if word != UNKNOWN and not word.isspace()})

    @property
    def unknown_characters(self) -> int:
        """Returns the number of characters that became [UNK]."""
        return self.lengths.total()

    @property
    def share(self) -> float:
        """Returns the share of [UNK] in the pieces."""
        return self.unknown / max(1, self.pieces)

    @property
    def character_share(self) -> float:
        """Returns the share of the characters that became [UNK]."""
        return self.unknown_characters / max(1, self.characters)

    def characters_say_more(self, most: float = MOST_UNKNOWN) -> bool:
        """Returns whether the share of characters is above `most`, and above the share of pieces."""
        return self.character_share > max(most, self.share)


def text_warnings(counts: UnknownCounts, settings: Tokenizer, quotable: bool) -> list[str]:
    """Returns a warning if too much of the training text is [UNK]. quotable: whether words of it may be shown."""
    hidden = counts.characters_say_more()
    if counts.share <= MOST_UNKNOWN and not hidden:
        return []
    text = f"{counts.share:.1%} of the pieces of the training text are [UNK]"
    if counts.written > counts.unknown / 2 and not hidden:
        return [f"{text}, most of them because the text itself says so; {PREDICTED}"]
    words = [repr(word[:30]) for word, _ in counts.words.most_common(SHOWN_WORDS)]
    shown = f" (most often {', '.join(words)})" if quotable else ""
    held = f" and hold {counts.character_share:.1%} of its characters" if hidden else ""
    return [f"{text}{shown}{held}; {PREDICTED}, so perplexities mislead. {_remedy(counts, settings)}"]


def _remedy(counts: UnknownCounts, settings: Tokenizer) -> str:
    """The setting that helps against most of the unknown characters."""
    if settings.source in ("words", "characters"):
        return "Lower tokenizer.min_frequency, raise tokenizer.vocabulary_size, or set tokenizer.source to train"
    lengths = counts.lengths
    spaceless = sum(len(SPACELESS.findall(word)) * counts.words[word] for word in lengths if len(word) > 1)
    if settings.word_splitting in ("bert", "spaces") and spaceless > lengths.total() / 2:
        vocabulary = "" if settings.source == "train" else ", with a vocabulary of that script"
        return f"The text has no spaces between words: set tokenizer.word_splitting to spaceless-characters{vocabulary}"
    longest = settings.max_word_characters
    if sum(length for word, length in lengths.items() if len(word) > longest) > lengths.total() / 2:
        return (f"Most are words of more than {longest} characters: raise tokenizer.max_word_characters, or choose "
                f"another tokenizer.word_splitting")
    return "Check the vocabulary, `lowercase`, `strip_accents` and `word_splitting`"


def task_warnings(backend, task: str, paths: Iterable[Path]) -> list[str]:
    """Returns a warning for each split of a task of whose rows too much is [UNK].

    backend: the `tokenizers.Tokenizer`. task: how warnings call it. paths: a parquet file per split (text, and
    text_pair of pairs), whose name ends in the name of the split. At most about SAMPLE_ROWS of each are read.
    """
    import pandas as pd

    warnings: list[str] = []
    for path in paths:
        warnings += row_warnings(backend, f"{path.stem.rpartition('-')[2]} rows of {task}", pd.read_parquet(path))
    return warnings


def row_warnings(backend, rows: str, frame) -> list[str]:
    """Returns a warning if too much of labelled rows is [UNK]. rows: how it calls them. frame: a data frame (text, and
    text_pair of pairs)."""
    counts = UnknownCounts()
    for column in [name for name in ("text", "text_pair") if name in frame]:
        texts = frame[column][::max(1, len(frame) // SAMPLE_ROWS)].tolist()
        for begin in range(0, len(texts), BATCH_TEXTS):
            counts.add(backend, texts[begin:begin + BATCH_TEXTS])
    most = MOST_UNKNOWN_WORDS if _has_whole_words(backend) else MOST_UNKNOWN
    hidden = counts.characters_say_more(most)
    if counts.share <= most and not hidden:
        return []
    text = f"{counts.share:.1%} of the pieces of the {rows} are [UNK]"
    if counts.written > counts.unknown / 2 and not hidden:
        return [f"{text}, most of them because the rows themselves say so"]
    held = f" and hold {counts.character_share:.1%} of their characters" if hidden else ""
    return [f"{text}{held}, so accuracies mislead. Take a vocabulary of their script, and check `strip_accents`, "
            f"`word_splitting` and `max_word_characters`"]


def _has_whole_words(backend) -> bool:
    """Whether a token is what stands between two white spaces (words.py)."""
    return type(backend.pre_tokenizer).__name__ == "WhitespaceSplit"
