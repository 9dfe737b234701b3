"""Loss on the fixed evaluation sets: summed over tokens, divided by their count, in nats.

Shapes: N rows, T positions, S selected positions of a mask set.
"""
from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from study.data.batches import Rows
from study.data.evaluation_sets import EvaluationSet, MaskSet
from study.data.masking import CORRUPTIONS
from study.model.heads import PretrainingModel


@torch.inference_mode()
def token_nll(model: PretrainingModel, ids: np.ndarray, masks: MaskSet, batch_size: int) -> np.ndarray:
    """-ln P(true token) at each selected position: (S,) float64, row-major. ids (N, T) are the true tokens."""
    device = model.words.bias.device
    model.eval()
    parts = []
    for rows in blocks(len(ids), batch_size):
        shown = torch.from_numpy(masks.shown[rows]).to(device)
        positions = np.flatnonzero(masks.corruption[rows])
        targets = torch.from_numpy(ids[rows].reshape(-1)[positions]).to(device)
        logits = model.word_logits(shown, torch.zeros_like(shown), None, torch.from_numpy(positions).to(device))
        parts.append(torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none").double().cpu())
    return torch.cat(parts).numpy()


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` rows that cover `count` rows."""
    return (slice(begin, min(begin + size, count)) for begin in range(0, count, size))


def mean_nll(model: PretrainingModel, heldout: EvaluationSet, name: str, batch_size: int) -> float:
    """Mean NLL (nats) of one mask set."""
    return float(token_nll(model, heldout.ids, heldout.sets[name], batch_size).mean())


DECILES, PLACES = 10, 8                     # groups of frequency; parts of a row


def summarize(nll: np.ndarray, heldout: EvaluationSet, name: str, continues: np.ndarray) -> dict:
    """What evaluation.json says of one mask set: NLL, perplexity, references on the same tokens, and NLL by kind, by
    frequency in training (deciles of the masked tokens, the most frequent first), by piece and by place in the row.

    nll (S,) nats; continues (V,) bool, true for pieces that go on with a word.
    """
    masks = heldout.sets[name]
    selected = masks.corruption > 0
    kind, truth = masks.corruption[selected], heldout.ids[selected]
    unigram = float(heldout.unigram[truth].mean())
    floor = None if masks.floor is None else float(masks.floor.mean())
    by_kind = {CORRUPTIONS[k]: {"nll": float(nll[kind == k].mean()), "tokens": int((kind == k).sum()),
                          "floor_nll": None if masks.floor is None else float(masks.floor[kind == k].mean())}
               for k in np.unique(kind).tolist()}
    mean = float(nll.mean())
    result = {"nll": mean, "perplexity": math.exp(min(mean, 700)), "bits": mean / math.log(2),
              "tokens": len(nll), "unigram_nll": unigram, "unigram_perplexity": math.exp(unigram),
              "uniform_nll": math.log(np.isfinite(heldout.unigram).sum()),
              "floor_nll": floor, "floor_perplexity": None if floor is None else math.exp(floor), "by_kind": by_kind,
              **_groups(nll, heldout.unigram[truth], continues[truth], np.nonzero(selected)[1], selected.shape[1])}
    if masks.floor is not None:
        excess = nll - masks.floor
        result |= {"excess_nll": float(excess.mean()),
                   "excess_error": float(excess.std(ddof=1) / math.sqrt(len(excess))),
                   "share_closed": (unigram - mean) / (unigram - floor)}
    return result


def _groups(nll: np.ndarray, unigram: np.ndarray, continues: np.ndarray, place: np.ndarray, length: int) -> dict:
    """Mean NLL and count of groups of tokens; all arrays (S,)."""
    def mean(index: np.ndarray) -> dict:
        return {"nll": float(nll[index].mean()) if len(index) else None, "tokens": len(index)}

    by_rank = np.argsort(unigram, kind="stable")
    part = place * PLACES // length
    return {"by_decile": [mean(index) | {"unigram_nll": float(unigram[index].mean()) if len(index) else None}
                          for index in np.array_split(by_rank, DECILES)],
            "by_piece": {"first": mean(np.flatnonzero(~continues)), "continuation": mean(np.flatnonzero(continues))},
            "by_place": [mean(np.flatnonzero(part == number)) for number in range(PLACES)]}


def row_sums(nll: np.ndarray, masks: MaskSet) -> np.ndarray:
    """Summed NLL of each row, (N,) float64: what paired comparisons over texts are made of."""
    return np.bincount(np.nonzero(masks.corruption)[0], weights=nll, minlength=len(masks.corruption))


@torch.inference_mode()
def pair_correct(model: PretrainingModel, pairs: Rows, batch_size: int) -> np.ndarray:
    """Whether each pair's label is predicted: (N,) bool."""
    device = model.words.bias.device
    model.eval()
    parts = []
    for rows in blocks(len(pairs.ids), batch_size):
        ids, types, mask = (torch.from_numpy(x[rows]).to(device)
                            for x in (pairs.ids, pairs.token_type_ids, pairs.attention_mask))
        parts.append(model.pair_logits(ids, types, mask).argmax(-1).cpu())
    return torch.cat(parts).numpy() == pairs.label


def as_tensor(array: np.ndarray | None, device: torch.device) -> Tensor | None:
    """A tensor on the device, or None."""
    return None if array is None else torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)
