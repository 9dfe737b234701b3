"""The ladder of references: perplexities that need no encoder, on the masked tokens that every arm is scored on.

The examples stage computes them (study/data/references.py); here are their names and what readers are told.
"""
from __future__ import annotations

from typing import NamedTuple

from study import StudyError

LABELS = {"uniform": "uniform distribution", "unigram": "unigram frequencies",
          "neighbours-mixture": "one word on each side: mixture of two bigram models",
          "neighbours-product": "one word on each side: product of two bigram models",
          "two-neighbours-product": "two words on each side: product of bigram and trigram models",
          "floor": "exact floor given the whole row"}
COUNT_MODELS = ("unigram", "neighbours-mixture", "neighbours-product", "two-neighbours-product")


class Reference(NamedTuple):
    """One rung of the ladder: NLL in nats per masked token, and the same as a perplexity."""
    name: str
    nll: float
    perplexity: float

    @property
    def label(self) -> str:
        """The name for readers, in plain words."""
        return LABELS[self.name]


def read_ladder(references: dict, split: str) -> list[Reference]:
    """The rungs of a split (`validation` or `test`), from the least to the most knowledge.

    references: the content of references.json. Raises StudyError if an older version wrote it.
    """
    if "ladder" not in references:
        raise StudyError("the results have no ladder of references, since an older version wrote them; run `dvc repro`")
    return [Reference(rung["name"], rung["nll"], rung["perplexity"]) for rung in references["ladder"][split]]


def best_count_model(ladder: list[Reference]) -> Reference:
    """The count model with the lowest NLL."""
    return min((rung for rung in ladder if rung.name in COUNT_MODELS), key=lambda rung: rung.nll)
