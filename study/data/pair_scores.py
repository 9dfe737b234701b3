"""Judging minimal pairs by the scores of their sentences, and two baselines that need no encoder: the sum of
ln P(token), and of ln P(token | token before), from counts in the training text.

Shapes: N pairs, S sentences.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from study import StudyError
from study.data.neighbour_laws import UNKNOWN, context_keys, side_laws
from study.data.references import unigram_nll
from study.data.tokenizer import TokenizerInfo

if TYPE_CHECKING:
    from pandas import DataFrame

TIE = 1e-4                                  # nats; rounding moves the sums of two equal scores apart by less


class Sentences:
    """The sentences of pairs, each different one once, as token ids with [CLS] and [SEP].

    ids (S,): the sentences. good, bad (N,): which of them a pair consists of.
    """

    def __init__(self, pairs: DataFrame, backend, longest: int):
        """longest: tokens of a row. Raises StudyError if a sentence does not fit into a row."""
        texts = [*pairs.good, *pairs.bad]
        encoded = [tuple(encoding.ids) for encoding in backend.encode_batch_fast(texts, add_special_tokens=True)]
        numbers = {ids: number for number, ids in enumerate(dict.fromkeys(encoded))}
        self.ids = list(numbers)
        places = np.array([numbers[ids] for ids in encoded])
        self.good, self.bad = places[:len(pairs)], places[len(pairs):]
        if too_long := [text for text, ids in zip(texts, encoded, strict=True) if len(ids) > longest]:
            raise StudyError(f"minimal pairs: the sentence {too_long[0]!r:.60} has more than the {longest} tokens of a "
                             f"row; remove its pair or raise examples.max_seq_length")

    def correct(self, scores: np.ndarray) -> np.ndarray:
        """Returns, per pair, 1 if the score of the acceptable sentence is the higher one, 1/2 for a tie, else 0: (N,).

        scores (S,) nats. A model that scores both alike has half of the pairs right. A pair with a score that is not
        finite, as in a diverged run, is a tie; so is one whose sentences have the same tokens.
        """
        difference = scores[self.good] - scores[self.bad]
        is_tie = ~np.isfinite(difference) | (np.abs(difference) <= TIE)
        return np.where(is_tie, 0.5, difference > 0)


def by_phenomenon(correct: np.ndarray, phenomenon: Sequence[str]) -> dict[str, dict]:
    """Returns the accuracy and the number of pairs of each phenomenon, in the order of their first pairs. correct and
    phenomenon (N,)."""
    names = np.asarray(phenomenon)
    return {name: {"accuracy": float(correct[names == name].mean()), "pairs": int((names == name).sum())}
            for name in dict.fromkeys(names.tolist())}


def count_scores(sentences: list[tuple[int, ...]], train: np.ndarray,
                 tokenizer: TokenizerInfo) -> dict[str, np.ndarray]:
    """Returns the scores (S,), in nats, of the two baselines: `word-frequency` and `bigram`.

    train (tokens,): the training text. Tokens that are not ordinary, such as [UNK], are left out of the sums. The first
    token of a sentence follows nothing, so the bigram model gives it its frequency.
    """
    unigram = unigram_nll(train, tokenizer)
    ids = np.concatenate([np.array(sentence[1:-1], np.int64) for sentence in sentences])
    lengths = np.array([len(sentence) - 2 for sentence in sentences])
    owner, first = np.repeat(np.arange(len(sentences)), lengths), np.cumsum(lengths) - lengths
    before = np.concatenate([[UNKNOWN], ids[:-1]])
    before[first[lengths > 0]] = UNKNOWN
    scored = tokenizer.is_ordinary[ids]
    ids, before, owner = ids[scored], before[scored], owner[scored]
    law = side_laws(train, np.stack([before, np.full_like(before, UNKNOWN)], 1), unigram)[0]
    row = law.rows(context_keys(before[:, None], len(unigram)))
    bigram = unigram[ids] - np.log(law.scale[row] * (1 + np.asarray(law.excess[row, ids]).ravel()))
    return {name: -np.bincount(owner, weights=nll, minlength=len(sentences))
            for name, nll in (("word-frequency", unigram[ids]), ("bigram", bigram))}
