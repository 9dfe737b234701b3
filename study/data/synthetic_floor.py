"""The exact floor of the built-in language on the evaluation sets: the best possible prediction of every masked token.

Shapes: N rows, T positions, S selected positions.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study.config.schema import Masking
from study.config.study import Study
from study.data.masking import MASK, UNTOUCHED
from study.data.synthetic import MASKED, Language
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

    def _words(self, ids: np.ndarray) -> np.ndarray:
        """Word ids (N, T - 2) of rows without [CLS] and [SEP]; -1 for tokens that are not words."""
        word = np.full(self.tokenizer.vocabulary_size, -1)
        word[self.tokenizer.ordinary] = np.arange(len(self.tokenizer.ordinary))
        return word[ids[:, _INNER]]


def synthetic_floor(study: Study) -> SyntheticFloor:
    """Returns the floor of a synthetic study, whose tokenizer must have been made."""
    corpus = study.settings.corpus
    return SyntheticFloor(Language.of(corpus), TokenizerInfo.of(load(study.runs / "tokenizer")), corpus.document_tokens)
