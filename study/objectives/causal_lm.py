"""Causal language modelling: predict every token from the tokens to its left."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from study.data.batches import Batch, Rows, predicted, with_targets
from study.data.evaluation_sets import EvaluationSet
from study.data.tokenizer import TokenizerInfo
from study.model.flops import flops_per_token
from study.objectives.vocabulary import VocabularyObjective

if TYPE_CHECKING:                           # torch is imported where it is used: showing masks does not need it
    from torch import nn


@dataclass(frozen=True)
class CausalLM(VocabularyObjective):
    """A token objective; see study/objectives/__init__.py for what each method returns."""
    causal: ClassVar = True
    predicts_masked_tokens: ClassVar = False

    def make_batch(self, rows: Rows, tokenizer: TokenizerInfo, seed: int, epoch: np.ndarray,
                   example: np.ndarray) -> Batch:
        """The target at position t is the token at t + 1, if that is an ordinary token. With `target_fraction` below
        1, only that part of them are targets."""
        following = np.roll(rows.ids, -1, axis=1)
        has_target = tokenizer.is_ordinary[following]
        has_target[:, -1] = False
        if self.config.objective.target_fraction < 1:
            has_target &= predicted(self.config.objective.target_fraction, rows.ids.shape[1], seed, epoch, example)
        return with_targets(rows, rows.ids, has_target, following, None)

    def validation_nll(self, model: nn.Module, validation: EvaluationSet, batch_size: int) -> float | None:
        """None: a model that has never seen [MASK] cannot be scored on the mask sets."""
        return None

    def own_format_nll(self, model: nn.Module, validation: EvaluationSet, batch_size: int) -> float | None:
        return None

    def flops_per_token(self, vocabulary_size: int, length: int) -> float:
        return flops_per_token(self.config.model, vocabulary_size, length, self.config.objective.target_fraction)
