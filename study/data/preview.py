"""What an arm does to text, counted and shown: the shares that its batches really have, one row as it is seen at two
passes, and any text under its masks.

Shapes: N rows, T positions.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study.config.schema import RunConfig
from study.data.batches import Batch, BatchSource, Rows, causal_batch, masked_batch
from study.data.masking import CORRUPTIONS
from study.data.tokenizer_info import TokenizerInfo

COUNTED = 2000                              # rows whose shares are counted
SHOWN = 28                                  # tokens of the example line
DRAWS = 1000                                # maskings of one text that its shares are counted over


def shares(batches: list[Batch], tokenizer: TokenizerInfo) -> dict:
    """Shares over all tokens of the batches. `selected` and `predicted` are of ordinary tokens, `mask`, `random` and
    `keep` of the selected, `padding` of all slots, `negative` of the pairs; None where there is no such thing."""
    ordinary = sum(int(tokenizer.is_ordinary[b.input_ids].sum()) if b.corruption is None else
                   int((tokenizer.is_ordinary[b.input_ids] | (b.corruption > 0)).sum()) for b in batches)
    slots, tokens = sum(b.input_ids.size for b in batches), sum(b.tokens for b in batches)
    found = {"rows": sum(len(b.input_ids) for b in batches), "tokens": tokens, "padding": 1 - tokens / slots,
             "predicted": sum(len(b.targets) for b in batches) / max(1, ordinary), "selected": None}
    found |= dict.fromkeys(CORRUPTIONS[1:])
    if batches[0].corruption is not None:
        count = sum(np.bincount(b.corruption.reshape(-1), minlength=len(CORRUPTIONS)) for b in batches)
        selected = int(count[1:].sum())
        found["selected"] = selected / max(1, ordinary)
        found |= {name: int(n) / max(1, selected) for name, n in zip(CORRUPTIONS[1:], count[1:], strict=True)}
    labels = [b.next_sentence_label for b in batches if b.next_sentence_label is not None]
    return found | {"negative": float(np.concatenate(labels).mean()) if labels else None}


def describe_inputs(phases: list[tuple[BatchSource, int]], backend, quotable: bool = True) -> dict:
    """What a cell was fed, phase by phase (a source and the steps taken from it): shares of the first rows of each, how
    often an example and a mask were seen over all of them, and an example line of the first, if it may be quoted."""
    batches = []
    for made, _ in phases:
        rows, step = 0, 0
        while rows < min(COUNTED, made.rows):
            batches.append(made.batch(step))
            rows, step = rows + len(batches[-1].input_ids), step + 1
    source = phases[0][0]
    masking, views = source.config.masking, sum(steps * made.batch_size / made.rows for made, steps in phases)
    masks = masking.dupe_factor if masking.schedule == "static" else views
    return {"shares": shares(batches, source.tokenizer), "examples": source.rows, "views_per_example": views,
            "views_per_mask": min(views, max(1.0, views / masks)) if views else 0.0,
            "line": _line(source, backend) if quotable else {"passes": [], "more": False}}


def _line(source: BatchSource, backend) -> dict:
    """The first example as it is shown at the first two passes: tokens, and kinds (null left to right)."""
    two = source.rows_of(np.array([0, 1]), np.array([0, 0]))
    used = SHOWN if two.attention_mask is None else min(SHOWN, int(two.attention_mask.sum(1).max()))
    passes = [{"tokens": [backend.id_to_token(i) for i in two.input_ids[row, :used].tolist()],
               "kinds": None if two.corruption is None else [CORRUPTIONS[k] for k in two.corruption[row, :used].tolist()],
               "label": None if two.next_sentence_label is None else int(two.next_sentence_label[row])}
              for row in (0, 1)]
    return {"passes": passes, "more": two.input_ids.shape[1] > used}


@dataclass(frozen=True)
class Seen:
    """One token of a text under masks: what stands there, what is shown, what must be predicted (or None), how."""
    original: str
    shown: str
    label: str | None
    corruption: str


def mask_text(text: str, config: RunConfig, backend, tokenizer: TokenizerInfo, seed: int,
              epochs: int) -> tuple[list[list[Seen]], dict]:
    """The text as the arm sees it at each of `epochs` passes, and the shares over a thousand draws of it.

    A text longer than a row is cut. It stands for example 0 of the corpus, as one segment.
    """
    ids = np.array(backend.encode(text).ids[:config.examples.max_seq_length], np.int64)
    passes = _batch(ids, config, tokenizer, seed, np.arange(epochs), np.zeros(epochs, np.int64))
    seen = []
    for row in range(epochs):
        here = passes.positions // len(ids) == row
        labels = dict(zip((passes.positions[here] % len(ids)).tolist(), passes.targets[here].tolist(), strict=True))
        kinds = ["next token" if i in labels else "" for i in range(len(ids))] if passes.corruption is None else \
            [CORRUPTIONS[k] for k in passes.corruption[row].tolist()]
        seen.append([Seen(backend.id_to_token(int(true)), backend.id_to_token(int(shown)),
                          backend.id_to_token(labels[i]) if i in labels else None, kinds[i])
                     for i, (true, shown) in enumerate(zip(ids, passes.input_ids[row], strict=True))])
    return seen, shares([_batch(ids, config, tokenizer, seed, np.zeros(DRAWS, np.int64), np.arange(DRAWS))], tokenizer)


def _batch(ids: np.ndarray, config: RunConfig, tokenizer: TokenizerInfo, seed: int, epoch: np.ndarray, example: np.ndarray) -> Batch:
    repeated = np.repeat(ids[None], len(example), axis=0)
    rows = Rows(repeated, np.zeros_like(repeated), None, None)
    if config.objective.token_objective == "causal":
        return causal_batch(rows, tokenizer)
    return masked_batch(rows, tokenizer, config, seed, epoch, example)
