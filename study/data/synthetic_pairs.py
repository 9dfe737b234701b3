"""Exact inference on pairs of segments of the built-in language: how well masked words, next-sentence prediction and
sentence order can be predicted at best.

A segment consists of whole sentences, so its first word has the distribution of a first word of a document. Two
consecutive segments are one text; segments of two documents are two independent texts. Where sentences end is taken as
known, and so is whether a pair is consecutive when masked words are predicted. Sentence lengths say nothing about topic
and theme, so how segments are chosen by length, split and cut to fit a row does not matter then. A model knows less, so
on average it cannot be better.

Shapes: N pairs.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study.data.synthetic import ABSENT, UNKNOWN, Language

_PADDING = (0, ABSENT, UNKNOWN, False)      # of the arrays of a text


@dataclass(frozen=True)
class Text:
    """A text of whole sentences. Arrays (words,): the true `words`; `seen`, the same, but synthetic.MASKED where a word
    is not shown; `stops`, 1 where a sentence ends, else 0; `predicted`, true at the words to predict."""
    words: np.ndarray
    seen: np.ndarray
    stops: np.ndarray
    predicted: np.ndarray

    @classmethod
    def shown(cls, words: list[int]) -> Text:
        """Returns a text of which every word is shown. Word 0 is the full stop."""
        array = np.array(words)
        return cls(array, array, (array == 0).astype(int), np.zeros(len(array), bool))

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Returns the four arrays, in the order of the fields."""
        return self.words, self.seen, self.stops, self.predicted

    def __add__(self, other: Text) -> Text:
        """Returns this text followed by the other one."""
        return Text(*map(np.concatenate, zip(self.arrays(), other.arrays(), strict=True)))


def pair_floor(language: Language, first: list[Text], second: list[Text], label: np.ndarray) -> np.ndarray:
    """Returns the best NLL, nats, of the predicted words, pair by pair, given where sentences end and the label.

    label (N,): 0 if the second text continues the first, 1 if they belong to two documents.
    """
    texts = [text for a, b, is_negative in zip(first, second, label.tolist(), strict=True)
             for text in ((a, b) if is_negative else (a + b,))]
    words, seen, stops, predicted = _stack(texts)
    return language.floor(words, seen, predicted, np.zeros(len(texts), int), rate=0.0, stops=stops)[0]


def next_sentence_log_odds(language: Language, first: list[Text], second: list[Text]) -> np.ndarray:
    """Returns log P(first, then second) - log P(first) - log P(second), (N,)."""
    joined = [a + b for a, b in zip(first, second, strict=True)]
    return _log_evidence(language, joined) - _log_evidence(language, first) - _log_evidence(language, second)


def sentence_order_log_odds(language: Language, first: list[Text], second: list[Text]) -> np.ndarray:
    """Returns log P(first, then second) - log P(second, then first), (N,)."""
    pairs = list(zip(first, second, strict=True))
    return _log_evidence(language, [a + b for a, b in pairs]) - _log_evidence(language, [b + a for a, b in pairs])


def _log_evidence(language: Language, texts: list[Text]) -> np.ndarray:
    _, seen, stops, _ = _stack(texts)
    return language.log_evidence(seen, np.zeros(len(texts), int), stops)


def _stack(texts: list[Text]) -> list[np.ndarray]:
    """The four arrays of the texts, each padded to (texts, words of the longest)."""
    width, stacked = max(len(text.words) for text in texts), []
    for arrays, padding in zip(zip(*(text.arrays() for text in texts), strict=True), _PADDING, strict=True):
        rows = np.full((len(texts), width), padding)
        for row, array in zip(rows, arrays, strict=True):
            row[:len(array)] = array
        stacked.append(rows)
    return stacked
