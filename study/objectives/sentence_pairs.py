"""Sentence objectives: classify pairs of segments from the state of [CLS], in addition to a token objective.

In half of the pairs the second segment follows the first in the text (label 0). In the other half (label 1), it is

    nsp     a segment of another document: next-sentence prediction (Devlin et al. 2019)
    sop     the first one, with the two in the wrong order: sentence-order prediction (ALBERT, Lan et al. 2020)

The layout makes the pairs (study/data/layouts.py). Shapes: N rows, T positions, H hidden size.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from study.config.schema import RunConfig
from study.data.batches import Rows, blocks

if TYPE_CHECKING:                           # torch is imported where it is used: showing masks does not need it
    from torch import Tensor, nn


@dataclass(frozen=True)
class SentencePairs:
    """A sentence objective. `name`: the value of objective.sentence_objective, and the key of its pairs in an
    EvaluationSet."""
    config: RunConfig
    name: str
    swap_segments: bool                     # negatives: the two segments swapped, not one of another document
    head: ClassVar = "sentence_head"

    @property
    def weight(self) -> float:
        """Returns the weight of the loss; that of the token objective is 1."""
        return self.config.objective.sentence_weight

    def new_head(self, embedding: nn.Embedding) -> nn.Module:
        from study.model.heads import SentenceHead

        return SentenceHead(self.config.model)

    def loss(self, model: nn.Module, states: Tensor, labels: Tensor) -> Tensor:
        """Returns the summed cross-entropy, in nats, of labels (N,) given the states (N, H) of [CLS]."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(model.sentence_head(states).float(), labels, reduction="sum")


def correct_pairs(model: nn.Module, pairs: Rows, batch_size: int) -> np.ndarray:
    """Returns whether the label of each pair is predicted: (N,) bool."""
    import torch

    model.eval()
    parts = []
    with torch.inference_mode():
        for rows in blocks(len(pairs.ids), batch_size):
            arrays = (pairs.ids[rows], pairs.token_type_ids[rows], pairs.attention_mask[rows])
            parts.append(model.sentence_logits(*map(model.as_tensor, arrays)).argmax(-1).cpu())
    return torch.cat(parts).numpy() == pairs.label
