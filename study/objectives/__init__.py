"""What the encoder is trained to predict: one file per objective.

Every run has a token objective (masked_lm.py, causal_lm.py) and may have a sentence objective (sentence_pairs.py). An
objective owns its batch, its head, its loss, its validation metric and its FLOP count; `TokenObjective` lists the
methods. Other code asks for an objective by its name only in checks of settings, in the export to `transformers`, in
the analysis, and in `sees_mask` (study/config/corruption.py).

How to add a token objective:

1. Add its name to `Objective.token_objective` in study/config/schema/rows.py, with any setting that it needs.
2. Add a file here with a class that has the attributes and methods of `TokenObjective`. masked_lm.py is the model. If
   the targets are tokens of the vocabulary, the head and the loss are those of `VocabularyObjective` (vocabulary.py).
3. Add the class to TOKEN_OBJECTIVES below.

An arm can then use it: `changes: {objective: {token_objective: NAME}}`. tests/unit/training/test_objectives.py trains
an objective that is added in this way.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from study.config.schema import RunConfig
from study.data.batches import Batch, Rows
from study.data.evaluation_sets import EvaluationSet
from study.data.tokenizer import TokenizerInfo
from study.objectives.causal_lm import CausalLM
from study.objectives.masked_lm import MaskedLM
from study.objectives.sentence_pairs import SentencePairs

if TYPE_CHECKING:                           # torch is imported where it is used: showing masks does not need it
    from torch import Tensor, nn


class TokenObjective(Protocol):
    """Predicts a target at some positions. `model` is a PretrainingModel (pretraining_model.py)."""
    config: RunConfig
    causal: bool
    """Whether a position sees only itself and earlier positions."""
    predicts_masked_tokens: bool
    """Whether the model is scored on the mask sets and can fill in a [MASK]."""
    head: str
    """Name of its head in the model."""

    def make_batch(self, rows: Rows, tokenizer: TokenizerInfo, seed: int, epoch: np.ndarray,
                   example: np.ndarray) -> Batch:
        """Returns the rows as the encoder sees them, with targets. A pure function: epoch and example (N,) name the
        random draws."""

    def new_head(self, embedding: nn.Embedding) -> nn.Module:
        """Returns a new head; `embedding` has the token embeddings, for a tied decoder."""

    def loss(self, model: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
        """Returns the summed loss, in nats, of targets (S,) given the hidden states (S or more, H) at their positions.
        States after the first S have no target."""

    def validation_nll(self, model: nn.Module, validation: EvaluationSet, batch_size: int) -> float | None:
        """Returns the mean loss on the validation set, in nats per target: what the search minimises and patience
        watches. None if the objective has none."""

    def own_format_nll(self, model: nn.Module, validation: EvaluationSet, batch_size: int) -> float | None:
        """Returns the same in the input format that the run is trained on; None if that is the validation set's."""

    def flops_per_token(self, vocabulary_size: int, length: int) -> float:
        """Returns the floating-point operations of training per token in rows of `length` tokens."""


TOKEN_OBJECTIVES: dict[str, type[TokenObjective]] = {"mlm": MaskedLM, "causal": CausalLM}
SENTENCE_OBJECTIVES = {"nsp": partial(SentencePairs, name="nsp", swap_segments=False),
                       "sop": partial(SentencePairs, name="sop", swap_segments=True)}


@dataclass(frozen=True)
class PretrainingObjective:
    """The objective of a run: a token objective and, optionally, a sentence objective."""
    config: RunConfig
    token: TokenObjective
    sentence: SentencePairs | None

    @property
    def swap_segments(self) -> bool:
        """Whether the negatives among segment pairs are swapped segments rather than segments of other documents."""
        return self.sentence is not None and self.sentence.swap_segments

    def make_batch(self, rows: Rows, tokenizer: TokenizerInfo, seed: int, epoch: np.ndarray,
                   example: np.ndarray) -> Batch:
        """Returns the rows with the targets of the token objective. They have sentence labels only if there is a
        sentence objective."""
        batch = self.token.make_batch(rows, tokenizer, seed, epoch, example)
        return batch if self.sentence else replace(batch, next_sentence_label=None)

    def new_heads(self, embedding: nn.Embedding) -> dict[str, nn.Module]:
        """Returns new heads by name: always those of BertForPreTraining, and the heads of the objectives.

        So every model can be exported to `transformers`. A head that is not trained keeps its initial weights.
        """
        owners = (MaskedLM(self.config), SENTENCE_OBJECTIVES["nsp"](self.config), self.token, self.sentence)
        by_name = {owner.head: owner for owner in owners if owner is not None}
        return {name: owner.new_head(embedding) for name, owner in by_name.items()}


def objective_of(config: RunConfig) -> PretrainingObjective:
    """Returns the objective of a run."""
    sentence = SENTENCE_OBJECTIVES.get(config.objective.sentence_objective)
    return PretrainingObjective(config, TOKEN_OBJECTIVES[config.objective.token_objective](config),
                                sentence and sentence(config))
