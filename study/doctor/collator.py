"""What batches tell about the collator that made them: rate, corruption, labels, and whether masks repeat.

Shapes: B rows, T positions.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from study.doctor.batches import Batch
from study.doctor.tokenizer import Vocabulary

ALPHA = 0.05                                # a split is rejected below this p value
POWER_NONCENTRALITY = 9.63                  # a chi-square test of 2 degrees at 5 % then rejects four times in five
EVERYWHERE = 0.9                            # of the ordinary positions: if more have labels, all are taken to have one
# What a collator makes of selected tokens, in %: [MASK], random, kept.
SPLITS = {
    "80/10/10": ("BERT's", (0.80, 0.10, 0.10)),
    "81/10/9": ("two independent draws of 10 %, the random token wins where both hit", (0.81, 0.10, 0.09)),
    "81/9/10": ("two independent draws of 10 %, the kept token wins where both hit", (0.81, 0.09, 0.10)),
    "80/2/18": ("the second draw is 10 % of the rest instead of half of it", (0.80, 0.02, 0.18)),
    "80/18/2": ("the second draw keeps 10 % of the rest instead of half of it", (0.80, 0.18, 0.02)),
    "80/20/0": ("no token is kept", (0.80, 0.20, 0.0)),
    "80/0/20": ("no token is replaced at random", (0.80, 0.0, 0.20)),
    "90/10/0": ("[MASK] and random only", (0.90, 0.10, 0.0)),
    "90/0/10": ("[MASK] and kept only", (0.90, 0.0, 0.10)),
    "100/0/0": ("all [MASK]", (1.0, 0.0, 0.0))}
Shares = tuple[float, float, float]         # of [MASK], random and kept


def split_name(shares: Shares) -> str:
    """A split in percent, such as 80/10/10."""
    return "/".join(f"{100 * share:g}" for share in shares)


@dataclass(frozen=True)
class Counts:
    """Counts of positions in batches. `eligible`: real, with an original id that is not a special token; `selected` of
    these have a label, shown as [MASK], at random or kept.

    labelled: all positions with labels; labelled_special, labelled_padding, labelled_unknown: those whose original id
    is special but for [UNK], those that are padding, and those whose original id is [UNK]. random_special: of the
    random tokens, how many are special or unused ids. unlabelled_masks: [MASK] at positions without a label. outside:
    ids or labels that are not in the vocabulary.
    """
    eligible: int = 0
    selected: int = 0
    mask: int = 0
    random: int = 0
    keep: int = 0
    real: int = 0
    labelled: int = 0
    labelled_special: int = 0
    labelled_padding: int = 0
    labelled_unknown: int = 0
    random_special: int = 0
    unlabelled_masks: int = 0
    outside: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    @property
    def split(self) -> tuple[int, int, int]:
        """[MASK], random and kept."""
        return self.mask, self.random, self.keep

    @property
    def labels_everywhere(self) -> bool:
        """Whether unselected positions have labels too, so that the split cannot be read from the labels."""
        return self.selected >= EVERYWHERE * max(1, self.eligible)


def count(batch: Batch, vocabulary: Vocabulary) -> Counts:
    """Returns the counts of one batch."""
    original, labelled = batch.original, batch.labelled
    inside = (original >= 0) & (original < vocabulary.size) & (batch.ids >= 0) & (batch.ids < vocabulary.size)
    special = _special(original, vocabulary)
    is_mask = inside & (batch.ids == vocabulary.special["mask"]) if vocabulary.special["mask"] is not None else (
        np.zeros(batch.ids.shape, bool))
    # A [MASK] without a label hides a token, so its position was eligible.
    eligible = inside & batch.real & (~special | (is_mask & ~labelled))
    selected, unknown = eligible & labelled, original == vocabulary.special["unk"]
    kept = selected & (batch.ids == original)
    random = selected & ~is_mask & ~kept
    shown = np.where(inside, batch.ids, 0)
    number = {"eligible": eligible, "selected": selected, "mask": selected & is_mask, "random": random, "keep": kept,
              "real": batch.real, "labelled": labelled, "labelled_special": labelled & special & ~unknown & batch.real,
              "labelled_padding": labelled & ~batch.real, "labelled_unknown": labelled & unknown,
              "random_special": random & ~vocabulary.is_ordinary[shown],
              "unlabelled_masks": is_mask & ~labelled, "outside": ~inside}
    return Counts(**{name: int(where.sum()) for name, where in number.items()})


def interval(hits: int, trials: int) -> tuple[float, float, float]:
    """Share and its 95 % interval (Wilson)."""
    from scipy.stats import binomtest

    bounds = binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    return hits / trials, float(bounds.low), float(bounds.high)


def split_p_values(counts: tuple[int, int, int], vocabulary: int, splits: Mapping[str, Shares]) -> dict[str, float]:
    """The p value of each split, by a chi-square test. counts: [MASK], random and kept.

    vocabulary: ids that random tokens are drawn from. One in so many random tokens equals the original token and is
    counted as kept.
    """
    return {name: _p_value(counts, np.array([mask, random * (1 - 1 / vocabulary), keep + random / vocabulary]))
            for name, (mask, random, keep) in splits.items()}


def _p_value(counts: tuple[int, int, int], shares: np.ndarray) -> float:
    from scipy.stats import chisquare

    observed, possible = np.array(counts), shares > 1e-9
    if observed[~possible].sum():
        return 0.0
    if possible.sum() == 1:
        return 1.0
    return float(chisquare(observed[possible], observed.sum() * shares[possible] / shares[possible].sum()).pvalue)


def tokens_to_tell(one: Shares, other: Shares) -> int:
    """Selected tokens that are needed to tell two splits apart, four times in five."""
    first, second = np.array(one), np.array(other)
    if (first[second == 0] > 0).any():
        return int(np.ceil(np.log(0.2) / np.log1p(-first[second == 0].sum())))
    possible = second > 0
    effect = ((first[possible] - second[possible])**2 / second[possible]).sum()
    return int(np.ceil(POWER_NONCENTRALITY / effect))


@dataclass(frozen=True)
class Repeats:
    """Masks of the same rows in two batches. `rows` occur in both; `both` of their selected positions are selected in
    both batches, out of `selected` in the first; `chance`: the share that would be by chance. Padding and special
    tokens, which cannot be selected, do not count."""
    rows: int
    selected: int
    both: int
    chance: float

    @property
    def is_static(self) -> bool:
        """Whether all masks repeat."""
        return self.selected > 0 and self.both == self.selected


def repeats(first: Batch, second: Batch, vocabulary: Vocabulary) -> Repeats:
    """Compares the masks of rows whose original ids are equal, wherever they stand in the batches.

    Both batches need labels at selected positions only.
    """
    places = {row.tobytes(): number for number, row in enumerate(second.original)} if (
        first.ids.shape[1] == second.ids.shape[1]) else {}
    pairs = [(number, places[row.tobytes()]) for number, row in enumerate(first.original) if row.tobytes() in places]
    if not pairs:
        return Repeats(0, 0, 0, 0.0)
    here, there = (np.array(side) for side in zip(*pairs, strict=True))
    eligible = first.real[here] & ~_special(first.original[here], vocabulary)
    one, two = first.labelled[here] & eligible, second.labelled[there] & eligible
    return Repeats(len(pairs), int(one.sum()), int((one & two).sum()), float(two.sum() / max(1, eligible.sum())))


def _special(ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Where special tokens are, (B, T) bool."""
    return np.isin(ids, [index for index in vocabulary.special.values() if index is not None])
