"""What an arm does to text, counted and shown: the shares that its batches really have, one row as it is seen at two
passes, and any text under its masks.

Shapes: N rows, T positions.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study.data.batches import Batch, BatchSource, Lexicon, Rows, causal_batch, masked_batch
from study.data.masking import KINDS
from study.schema import Cell

COUNTED = 2000                              # rows whose shares are counted
SHOWN = 28                                  # tokens of the example line
DRAWS = 1000                                # maskings of one text that its shares are counted over


def shares(batches: list[Batch], lexicon: Lexicon) -> dict:
    """Shares over all tokens of the batches. `selected` and `predicted` are of ordinary tokens, `mask`, `random` and
    `keep` of the selected, `padding` of all slots, `negative` of the pairs; None where there is no such thing."""
    ordinary = sum(int(lexicon.is_ordinary[b.input_ids].sum()) if b.kind is None else
                   int((lexicon.is_ordinary[b.input_ids] | (b.kind > 0)).sum()) for b in batches)
    slots, tokens = sum(b.input_ids.size for b in batches), sum(b.tokens for b in batches)
    found = {"rows": sum(len(b.input_ids) for b in batches), "tokens": tokens, "padding": 1 - tokens / slots,
             "predicted": sum(len(b.targets) for b in batches) / max(1, ordinary), "selected": None}
    found |= dict.fromkeys(KINDS[1:])
    if batches[0].kind is not None:
        count = sum(np.bincount(b.kind.reshape(-1), minlength=len(KINDS)) for b in batches)
        selected = int(count[1:].sum())
        found["selected"] = selected / max(1, ordinary)
        found |= {name: int(n) / max(1, selected) for name, n in zip(KINDS[1:], count[1:], strict=True)}
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
    masking, views = source.cell.masking, sum(steps * made.batch_size / made.rows for made, steps in phases)
    masks = masking.duplicates if masking.schedule == "static" else views
    return {"shares": shares(batches, source.lexicon), "examples": source.rows, "views_per_example": views,
            "views_per_mask": min(views, max(1.0, views / masks)) if views else 0.0,
            "line": _line(source, backend) if quotable else {"passes": [], "more": False}}


def _line(source: BatchSource, backend) -> dict:
    """The first example as it is shown at the first two passes: tokens, and kinds (null left to right)."""
    two = source.rows_of(np.array([0, 1]), np.array([0, 0]))
    used = SHOWN if two.attention_mask is None else min(SHOWN, int(two.attention_mask.sum(1).max()))
    passes = [{"tokens": [backend.id_to_token(i) for i in two.input_ids[row, :used].tolist()],
               "kinds": None if two.kind is None else [KINDS[k] for k in two.kind[row, :used].tolist()],
               "label": None if two.next_sentence_label is None else int(two.next_sentence_label[row])}
              for row in (0, 1)]
    return {"passes": passes, "more": two.input_ids.shape[1] > used}


@dataclass(frozen=True)
class Seen:
    """One token of a text under masks: what stands there, what is shown, what must be predicted (or None), how."""
    original: str
    shown: str
    label: str | None
    kind: str


def mask_text(text: str, cell: Cell, backend, lexicon: Lexicon, seed: int,
              epochs: int) -> tuple[list[list[Seen]], dict]:
    """The text as the arm sees it at each of `epochs` passes, and the shares over a thousand draws of it.

    A text longer than a row is cut. It stands for example 0 of the corpus, as one segment.
    """
    ids = np.array(backend.encode(text).ids[:cell.examples.length], np.int64)
    passes = _batch(ids, cell, lexicon, seed, np.arange(epochs), np.zeros(epochs, np.int64))
    seen = []
    for row in range(epochs):
        here = passes.positions // len(ids) == row
        labels = dict(zip((passes.positions[here] % len(ids)).tolist(), passes.targets[here].tolist(), strict=True))
        kinds = ["next token" if i in labels else "" for i in range(len(ids))] if passes.kind is None else \
            [KINDS[k] for k in passes.kind[row].tolist()]
        seen.append([Seen(backend.id_to_token(int(true)), backend.id_to_token(int(shown)),
                          backend.id_to_token(labels[i]) if i in labels else None, kinds[i])
                     for i, (true, shown) in enumerate(zip(ids, passes.input_ids[row], strict=True))])
    return seen, shares([_batch(ids, cell, lexicon, seed, np.zeros(DRAWS, np.int64), np.arange(DRAWS))], lexicon)


def _batch(ids: np.ndarray, cell: Cell, lexicon: Lexicon, seed: int, epoch: np.ndarray, example: np.ndarray) -> Batch:
    repeated = np.repeat(ids[None], len(example), axis=0)
    rows = Rows(repeated, np.zeros_like(repeated), None, None)
    if cell.objective.kind == "causal":
        return causal_batch(rows, lexicon)
    return masked_batch(rows, lexicon, cell, seed, epoch, example)
