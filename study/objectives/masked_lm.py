"""Masked language modelling (Devlin et al. 2019): predict the selected tokens from the tokens on both sides.

Shapes: N rows, T positions, S positions with a target, H hidden size.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from study.config.schema import RunConfig
from study.data.batches import PAIR_FORMATS, Batch, Rows, blocks, predicted, with_targets
from study.data.evaluation_sets import EvaluationSet, MaskSet
from study.data.masking import eligible_tokens, mask_rows
from study.data.tokenizer import TokenizerInfo
from study.model.flops import flops_per_token
from study.objectives.vocabulary import VocabularyObjective

if TYPE_CHECKING:                           # torch is imported where it is used: showing masks does not need it
    from torch import nn


@dataclass(frozen=True)
class MaskedLM(VocabularyObjective):
    """A token objective; see study/objectives/__init__.py for what each method returns."""
    causal: ClassVar = False
    predicts_masked_tokens: ClassVar = True

    def make_batch(self, rows: Rows, tokenizer: TokenizerInfo, seed: int, epoch: np.ndarray,
                   example: np.ndarray) -> Batch:
        """Masks the rows. With `target_fraction` below 1, only that part of the selected tokens are targets; the
        others are corrupted all the same."""
        masking = self.config.masking
        masked = mask_rows(rows.ids, eligible_tokens(rows.ids, tokenizer, masking),
                           ~tokenizer.is_continuation[rows.ids], tokenizer, masking, seed, epoch, example)
        has_target = masked.selected
        if self.config.objective.target_fraction < 1:
            has_target = has_target & predicted(self.config.objective.target_fraction, rows.ids.shape[1], seed, epoch,
                                                example)
        return with_targets(rows, masked.shown, has_target, rows.ids, masked.corruption)

    def validation_nll(self, model: nn.Module, validation: EvaluationSet, batch_size: int) -> float | None:
        return float(token_nll(model, validation.ids, validation.sets["mask_only"], batch_size).mean())

    def own_format_nll(self, model: nn.Module, validation: EvaluationSet, batch_size: int) -> float | None:
        """The NLL on [MASK] in the fixed segment pairs, for runs on pairs."""
        if self.config.inputs.format not in PAIR_FORMATS:
            return None
        pairs = validation.pairs["nsp"]
        return float(token_nll(model, pairs.rows.ids, pairs.masks, batch_size, pairs.rows).mean())

    def flops_per_token(self, vocabulary_size: int, length: int) -> float:
        projected = self.config.masking.mlm_probability * self.config.objective.target_fraction
        return flops_per_token(self.config.model, vocabulary_size, length, projected)


def remasked_nll(model: nn.Module, config: RunConfig, paragraphs: Rows, tokenizer: TokenizerInfo, seed: int,
                 step: int) -> float:
    """Returns the validation loss of tutorials, in nats: new masks at this step, mean over batches of the mean
    NLL of a batch.

    paragraphs: rows (N, T). Batches have `training.batch_size` rows. Unlike the NLL on the fixed sets, the result
    depends on the batch size, and under 80/10/10 it includes the easier kept tokens.
    """
    ids, size = paragraphs.ids, config.training.batch_size
    masked = mask_rows(ids, eligible_tokens(ids, tokenizer, config.masking), ~tokenizer.is_continuation[ids], tokenizer,
                       config.masking, seed, step, np.arange(len(ids)))
    means = [token_nll(model, ids[rows], MaskSet(masked.shown[rows], masked.corruption[rows], None), size,
                       Rows(ids[rows], paragraphs.token_type_ids[rows], paragraphs.attention_mask[rows], None)).mean()
             for rows in blocks(len(ids), size) if masked.selected[rows].any()]
    return float(np.mean(means))


def token_nll(model: nn.Module, ids: np.ndarray, masks: MaskSet, batch_size: int,
              pairs: Rows | None = None) -> np.ndarray:
    """Returns -ln P(true token), in nats, at each selected position of a mask set: (S,) float64, row-major.

    ids (N, T): the true tokens. pairs: rows (N, T) with the token types and padding, None for unpadded rows of one
    segment.
    """
    import torch
    from torch.nn.functional import cross_entropy

    model.eval()
    parts = []
    with torch.inference_mode():
        for rows in blocks(len(ids), batch_size):
            positions = np.flatnonzero(masks.corruption[rows])
            targets = model.as_tensor(ids[rows].reshape(-1)[positions])
            of_pairs = () if pairs is None else (pairs.token_type_ids[rows], pairs.attention_mask[rows])
            logits = model.token_logits(*map(model.as_tensor, (masks.shown[rows], positions, *of_pairs)))
            parts.append(cross_entropy(logits.float(), targets, reduction="none").double().cpu())
    return torch.cat(parts).numpy()
