"""Scores on a mask set of the fixed evaluation sets, from the NLL of each selected token.

NLL is summed over tokens and divided by their number, in nats; perplexity is its exponential.

Shapes: N rows, T positions, S selected positions of a mask set, V vocabulary.
"""
from __future__ import annotations

import math

import numpy as np

from study.data.evaluation_sets import MaskSet
from study.data.masking import CORRUPTIONS

DECILES = 10                                # groups of tokens by their frequency in the training text
PLACES = 8                                  # groups of tokens by their position in the row


def summarize(nll: np.ndarray, ids: np.ndarray, masks: MaskSet, unigram_nll: np.ndarray,
              is_continuation: np.ndarray) -> dict:
    """Returns the section of evaluation.json on one mask set.

    It has the NLL and perplexity, those of references on the same tokens, and the NLL by corruption, by frequency in
    training (deciles of the selected tokens, the most frequent first), by kind of piece and by position in the row.

    nll (S,): nats. ids (N, T): the true tokens. unigram_nll (V,): nats. is_continuation (V,) bool: true for pieces that
    continue a word.
    """
    selected = masks.corruption > 0
    corruption, truth = masks.corruption[selected], ids[selected]               # (S,)
    unigram = float(unigram_nll[truth].mean())
    floor = None if masks.floor is None else float(masks.floor.mean())
    by_corruption = {CORRUPTIONS[code]: {
        "nll": float(nll[corruption == code].mean()), "tokens": int((corruption == code).sum()),
        "floor_nll": None if masks.floor is None else float(masks.floor[corruption == code].mean())}
        for code in np.unique(corruption).tolist()}
    mean = float(nll.mean())
    result = {"nll": mean, "perplexity": math.exp(min(mean, 700)), "bits": mean / math.log(2),
              "tokens": len(nll), "unigram_nll": unigram, "unigram_perplexity": math.exp(unigram),
              "uniform_nll": math.log(np.isfinite(unigram_nll).sum()),
              "floor_nll": floor, "floor_perplexity": None if floor is None else math.exp(floor),
              "by_kind": by_corruption,
              **_groups(nll, unigram_nll[truth], is_continuation[truth], np.nonzero(selected)[1],
                        selected.shape[1])}
    if masks.floor is not None:
        excess = nll - masks.floor
        result |= {"excess_nll": float(excess.mean()),
                   "excess_error": float(excess.std(ddof=1) / math.sqrt(len(excess))),
                   "share_closed": (unigram - mean) / (unigram - floor)}
    return result


def _groups(nll: np.ndarray, unigram: np.ndarray, is_continuation: np.ndarray, position: np.ndarray,
            length: int) -> dict:
    """Mean NLL and number of tokens of groups of tokens; all arrays (S,)."""
    def mean(index: np.ndarray) -> dict:
        return {"nll": float(nll[index].mean()) if len(index) else None, "tokens": len(index)}

    by_frequency = np.array_split(np.argsort(unigram, kind="stable"), DECILES)
    place = position * PLACES // length
    return {"by_decile": [mean(index) | {"unigram_nll": float(unigram[index].mean()) if len(index) else None}
                          for index in by_frequency],
            "by_piece": {"first": mean(np.flatnonzero(~is_continuation)),
                         "continuation": mean(np.flatnonzero(is_continuation))},
            "by_place": [mean(np.flatnonzero(place == number)) for number in range(PLACES)]}


def by_label(nll: np.ndarray, masks: MaskSet, label: np.ndarray) -> dict:
    """Returns NLL, tokens and floor of the selected tokens (S) of consecutive pairs and of the others. label (N,)."""
    negative = label[np.nonzero(masks.corruption)[0]] == 1                      # (S,)
    return {name: {"nll": float(nll[part].mean()), "tokens": int(part.sum()),
                   "floor_nll": None if masks.floor is None else float(masks.floor[part].mean())}
            for name, part in (("consecutive", ~negative), ("random", negative)) if part.any()}


def row_sums(nll: np.ndarray, masks: MaskSet) -> np.ndarray:
    """Returns the summed NLL of each row, (N,) float64, which paired comparisons over texts need. nll (S,)."""
    return np.bincount(np.nonzero(masks.corruption)[0], weights=nll, minlength=len(masks.corruption))
