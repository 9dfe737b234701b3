"""What an arm does to text, counted and shown: the fractions that its batches really have, one example at two epochs,
and any text under the arm's masks.

Shapes: N rows, T positions.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study.data.batches import Batch, BatchMaker, BatchSource, Rows
from study.data.masking import CORRUPTIONS, draw_epoch
from study.data.tokenizer import TokenizerInfo

COUNTED_ROWS = 2000                         # rows whose fractions are counted
EXAMPLE_TOKENS = 28                         # tokens of the example line
DRAWS = 1000                                # maskings of one text whose fractions are counted


def shares(batches: list[Batch], tokenizer: TokenizerInfo) -> dict:
    """Returns counts and fractions over the batches.

    `selected` and `predicted` are fractions of the ordinary tokens; `mask`, `random` and `keep` of the selected
    tokens; `padding` of all positions; `negative` of the pairs. A fraction that does not apply is None.
    """
    ordinary = sum(_ordinary_tokens(batch, tokenizer) for batch in batches)
    positions, tokens = sum(batch.input_ids.size for batch in batches), sum(batch.tokens for batch in batches)
    counts = {"rows": sum(len(batch.input_ids) for batch in batches), "tokens": tokens,
              "padding": 1 - tokens / positions,
              "predicted": sum(len(batch.targets) for batch in batches) / max(1, ordinary), "selected": None}
    counts |= dict.fromkeys(CORRUPTIONS[1:])
    if batches[0].corruption is not None:
        count = sum(np.bincount(batch.corruption.reshape(-1), minlength=len(CORRUPTIONS)) for batch in batches)
        selected = int(count[1:].sum())
        counts["selected"] = selected / max(1, ordinary)
        counts |= {name: int(n) / max(1, selected) for name, n in zip(CORRUPTIONS[1:], count[1:], strict=True)}
    labels = [batch.next_sentence_label for batch in batches if batch.next_sentence_label is not None]
    return counts | {"negative": float(np.concatenate(labels).mean()) if labels else None}


def _ordinary_tokens(batch: Batch, tokenizer: TokenizerInfo) -> int:
    """How many tokens of the text are ordinary; a token shown as [MASK] is, since only ordinary tokens are selected."""
    ordinary = tokenizer.is_ordinary[batch.input_ids]
    return int((ordinary if batch.corruption is None else ordinary | (batch.corruption > 0)).sum())


def describe_inputs(phases: list[tuple[BatchSource, int]], backend, quotable: bool = True) -> dict:
    """Returns what a cell was trained on.

    phases: pairs of a source and the number of steps taken from it. The result has the fractions over the first rows
    of each phase, how often each example was seen over all phases, how often each mask was seen, and, if the text may
    be quoted, one example of the first phase. All but the views per example describe the phases with the settings of
    the last one: those of a branched cell after its branch.
    """
    own = [(phase, steps) for phase, steps in phases if phase.config == phases[-1][0].config]
    batches = []
    for phase, _ in own:
        rows, step = 0, 0
        while rows < min(COUNTED_ROWS, phase.rows):
            batches.append(phase.batch(step))
            rows, step = rows + len(batches[-1].input_ids), step + 1
    source, views = own[0][0], _views(own)
    masking = source.config.masking
    masks = masking.dupe_factor if masking.schedule == "static" else views
    return {"shares": shares(batches, source.tokenizer), "examples": source.rows, "views_per_example": _views(phases),
            "views_per_mask": min(views, max(1.0, views / masks)) if views else 0.0,
            "line": _example_line(source, backend) if quotable else {"passes": [], "more": False}}


def _views(phases: list[tuple[BatchSource, int]]) -> float:
    """How often each example was seen."""
    return sum(steps * phase.batch_size / phase.rows for phase, steps in phases)


def _example_line(source: BatchSource, backend) -> dict:
    """The first example at the first two epochs: its tokens, their corruptions (None left to right), its label."""
    two = source.rows_of(np.array([0, 1]), np.array([0, 0]))
    length = two.input_ids.shape[1] if two.attention_mask is None else int(two.attention_mask.sum(1).max())
    used, passes = min(EXAMPLE_TOKENS, length), []
    for row in (0, 1):
        corruption = None if two.corruption is None else two.corruption[row, :used].tolist()
        passes.append({"tokens": [backend.id_to_token(i) for i in two.input_ids[row, :used].tolist()],
                       "kinds": None if corruption is None else [CORRUPTIONS[k] for k in corruption],
                       "label": None if two.next_sentence_label is None else int(two.next_sentence_label[row])})
    return {"passes": passes, "more": two.input_ids.shape[1] > used}


@dataclass(frozen=True)
class PreviewToken:
    """One token of a text under masks. `label` is the token to predict there, None if nothing is predicted."""
    original: str
    shown: str
    label: str | None
    corruption: str


def mask_text(text: str, objective: BatchMaker, backend, tokenizer: TokenizerInfo, seed: int,
              epochs: int) -> tuple[list[list[PreviewToken]], dict]:
    """Returns the text as the arm sees it at each of the first `epochs` epochs, and the fractions over 1,000 draws.

    The text is treated as one segment and as example 0 of the corpus. Text beyond the arm's length is cut off.
    """
    ids = np.array(backend.encode(text).ids[:objective.config.examples.max_seq_length], np.int64)
    epoch, passes = draw_epoch(objective.config.masking, np.arange(epochs)), []
    batch = _batch(ids, objective, tokenizer, seed, epoch, np.zeros(epochs, np.int64))
    for row in range(epochs):
        in_row = batch.positions // len(ids) == row
        labels = dict(zip((batch.positions[in_row] % len(ids)).tolist(), batch.targets[in_row].tolist(), strict=True))
        if batch.corruption is None:
            corruptions = ["next token" if i in labels else "" for i in range(len(ids))]
        else:
            corruptions = [CORRUPTIONS[k] for k in batch.corruption[row].tolist()]
        passes.append([PreviewToken(backend.id_to_token(int(true)), backend.id_to_token(int(shown)),
                                    backend.id_to_token(labels[i]) if i in labels else None, corruptions[i])
                       for i, (true, shown) in enumerate(zip(ids, batch.input_ids[row], strict=True))])
    draws = _batch(ids, objective, tokenizer, seed, np.zeros(DRAWS, np.int64), np.arange(DRAWS))
    return passes, shares([draws], tokenizer)


def _batch(ids: np.ndarray, objective: BatchMaker, tokenizer: TokenizerInfo, seed: int, epoch: np.ndarray,
           example: np.ndarray) -> Batch:
    repeated = np.repeat(ids[None], len(example), axis=0)
    rows = Rows(repeated, np.zeros_like(repeated), None, None)
    return objective.make_batch(rows, tokenizer, seed, epoch, example)
