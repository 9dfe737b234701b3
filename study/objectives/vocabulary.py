"""What token objectives share whose targets are tokens of the vocabulary: the head of BERT and its loss."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from study.config.schema import RunConfig

if TYPE_CHECKING:                           # torch is imported where it is used: showing masks does not need it
    from torch import Tensor, nn


@dataclass(frozen=True)
class VocabularyObjective:
    """The shared part of a token objective; see study/objectives/__init__.py for what each method returns."""
    config: RunConfig
    head: ClassVar = "mlm_head"

    def new_head(self, embedding: nn.Embedding) -> nn.Module:
        from study.model.heads import MLMHead

        return MLMHead(self.config.model, embedding)

    def loss(self, model: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
        from study.model.kernels import summed_cross_entropy

        return summed_cross_entropy(model.mlm_head(states, model.encoder.token), targets)
