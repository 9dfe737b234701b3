"""The exact floor of the built-in language on the evaluation sets: the best possible prediction of every masked token.

Shapes: N rows, T positions, S selected positions.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from study.config.schema import Masking
from study.config.study import Study
from study.data.layouts import Segments, Spans
from study.data.masking import MASK, UNTOUCHED
from study.data.synthetic import MASKED, Language
from study.data.synthetic_pairs import Text, next_sentence_log_odds, pair_floor, sentence_order_log_odds
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo, load

WINDOWS = (1, 2, 4, 8)                      # words on each side
ROW_STEP = 4                                # context floors are estimated on every fourth row

_INNER = slice(1, -1)                       # a row without [CLS] and [SEP]


@dataclass(frozen=True)
class SyntheticFloor:
    """An `ExactFloor` (evaluation_sets.py). Every word of the language is one token, so token ids are word ids."""
    language: Language
    tokenizer: TokenizerInfo
    document_tokens: int                    # beyond, a row is conditioned on where its document ends

    def nll(self, ids: np.ndarray, shown: np.ndarray, corruption: np.ndarray, offsets: np.ndarray,
            masking: Masking) -> np.ndarray:
        """Returns the Bayes-optimal NLL (S,) of the selected tokens, nats, row-major."""
        corruption = corruption[:, _INNER]
        seen = np.where(corruption == MASK, MASKED, self._words(shown))
        nll, _ = self.language.floor(self._words(ids), seen, corruption != UNTOUCHED, offsets, masking.mlm_probability,
                                     masking.keep, masking.random)
        return nll

    def context_perplexities(self, ids: np.ndarray, corruption: np.ndarray, offsets: np.ndarray,
                             floor: np.ndarray) -> dict[str, float]:
        """Returns the best perplexity given only 1, 2, 4 or 8 words on each side, by the number of words.

        ids, corruption (N, T), offsets (N,) and floor (S,) describe an all-[MASK] set. The excess over the floor is
        measured on every fourth row and added to the floor of all rows.
        """
        words, selected = self._words(ids), corruption[:, _INNER] != UNTOUCHED
        sampled = np.arange(len(words)) % ROW_STEP == 0
        sampled_floor = floor[sampled[np.nonzero(selected)[0]]]
        perplexities = {}
        for window in WINDOWS:
            nll = self.language.context_floor(words[sampled], selected[sampled], offsets[sampled], window)
            perplexities[str(window)] = float(np.exp(floor.mean() + (nll - sampled_floor).mean()))
        return perplexities

    def pair_nll(self, store: TokenStore, segments: Segments, spans: Spans, corruption: np.ndarray) -> np.ndarray:
        """Returns the best NLL (S,) of the masked tokens of consecutive and random pairs, nats, row-major, given the
        label of each pair and where its sentences end."""
        first, second = self._texts(store, segments, spans, corruption != UNTOUCHED)
        return pair_floor(self.language, first, second, segments.label)

    def pair_log_odds(self, store: TokenStore, segments: Segments, spans: Spans, swap: bool) -> np.ndarray:
        """Returns the log-odds (N,) that the segments are consecutive, given where sentences end. Either the
        alternative is that they are swapped, or that they belong to two documents."""
        shown = np.zeros((len(spans.first), 1 + max(spans.first_length + spans.second_length + 1)), bool)
        log_odds = sentence_order_log_odds if swap else next_sentence_log_odds
        return log_odds(self.language, *self._texts(store, segments, spans, shown))

    def _texts(self, store: TokenStore, segments: Segments, spans: Spans,
               selected: np.ndarray) -> tuple[list[Text], list[Text]]:
        """The first and the second segments (N each) as texts. selected (N, T): the masked tokens of the rows."""
        ids, is_end = np.asarray(store.ids), np.zeros(len(store.ids) + 1, bool)
        is_end[store.sentence_ends] = True

        def text(begin: int, end: int, shown: int, predicted: np.ndarray) -> Text:
            words, seen, target = self._word[ids[begin:end]], np.full(end - begin, MASKED), np.zeros(end - begin, bool)
            visible = slice(shown - begin, shown - begin + len(predicted))              # the rest was cut off
            target[visible] = predicted
            seen[visible] = np.where(predicted, MASKED, words[visible])
            return Text(words, seen, is_end[begin + 1:end + 1].astype(int), target)

        first = [text(begin, end, shown, row[1:1 + length]) for begin, end, shown, length, row in zip(
            segments.first, segments.first_end, spans.first, spans.first_length, selected, strict=True)]
        second = [text(begin, end, shown, row[skip + 2:skip + 2 + length])
                  for begin, end, shown, skip, length, row in zip(
                      segments.second, segments.second_end, spans.second, spans.first_length, spans.second_length,
                      selected, strict=True)]
        return first, second

    @cached_property
    def _word(self) -> np.ndarray:
        """Word id of each token, (V,); -1 for tokens that are not words."""
        word = np.full(self.tokenizer.vocabulary_size, -1)
        word[self.tokenizer.ordinary] = np.arange(len(self.tokenizer.ordinary))
        return word

    def _words(self, ids: np.ndarray) -> np.ndarray:
        """Word ids (N, T - 2) of rows without [CLS] and [SEP]; -1 for tokens that are not words."""
        return self._word[ids[:, _INNER]]


def synthetic_floor(study: Study) -> SyntheticFloor:
    """Returns the floor of a synthetic study, whose tokenizer must have been made."""
    corpus = study.settings.corpus
    return SyntheticFloor(Language.of(corpus), TokenizerInfo.of(load(study.runs / "tokenizer")), corpus.document_tokens)
