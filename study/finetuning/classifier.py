"""The classifier: an encoder, a pooled state of the text, and a linear layer.

Shapes: B texts, T tokens, H hidden size, C classes.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from study import randomness
from study.config.schema import FinetuneRecipe, RunConfig
from study.data.tokenizer import TokenizerInfo
from study.finetuning.texts import HEAD, TextBatch
from study.model.encoder import Encoder, initialize
from study.model.kernels import Dropout
from study.objectives.pretraining_model import PretrainingModel, cls_positions


class Classifier(nn.Module):
    """Texts to logits. BERT has a dense layer and tanh between [CLS] and the linear layer, which next-sentence
    prediction has trained; most arms have no such layer, so the linear layer reads the pooled state itself."""

    def __init__(self, encoder: Encoder, recipe: FinetuneRecipe, width: int, classes: int, tokenizer: TokenizerInfo):
        super().__init__()
        self.encoder, self.recipe = encoder, recipe
        self.dropout = Dropout(recipe.dropout)
        self.classifier = nn.Linear(width, classes)
        self.layout_ids = (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id)

    @property
    def device(self) -> torch.device:
        """Returns the device of the weights."""
        return self.classifier.weight.device

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the logits (B, C) float32 of ids and types (B, T); mask (B, T) bool, None without padding."""
        if self.recipe.pooling == "cls":           # after its attention, the last layer is computed for [CLS] alone
            pooled = self.encoder(ids, types, mask, cls_positions(ids))                     # (B, H)
        else:
            states = self.encoder(ids, types, mask)                                         # (B, T, H)
            is_text = torch.ones_like(ids, dtype=torch.bool)
            for layout_id in self.layout_ids:
                is_text &= ids != layout_id
            weight = is_text.unsqueeze(-1).to(states.dtype)                                 # (B, T, 1)
            pooled = (states * weight).sum(1) / weight.sum(1).clamp(min=1)                  # (B, H)
        return self.classifier(self.dropout(pooled)).float()

    def logits(self, batch: TextBatch) -> Tensor:
        """Returns the logits (B, C) of a batch."""
        arrays = (batch.ids, batch.types, batch.mask)
        return self(*(None if array is None else torch.from_numpy(array).to(self.device) for array in arrays))


def new_classifier(source: PretrainingModel, config: RunConfig, recipe: FinetuneRecipe, tokenizer: TokenizerInfo,
                   classes: int, seed: int, run: int) -> Classifier:
    """Returns a classifier with a copy of the encoder of a pre-trained model and a new linear layer.

    The linear layer depends on the seed of the cell and the number of the run, and is initialised as the settings of
    the cell say. Frozen weights need no gradient.
    """
    model = config.model.model_copy(update={"dropout": recipe.dropout})
    encoder = Encoder(model, tokenizer.vocabulary_size, config.examples.max_seq_length,
                      source.objective.token.causal, config.training.local_attention_from is not None)
    encoder.load_state_dict(source.encoder.state_dict())
    classifier = Classifier(encoder, recipe, config.model.hidden_size, classes, tokenizer)
    generator = torch.Generator().manual_seed(int(randomness.integers(seed, HEAD, run) >> 1))
    initialize(classifier.classifier, config.model, generator)
    for part in frozen_parts(encoder, recipe):
        part.requires_grad_(False)
    return classifier.to(source.device)


def frozen_parts(encoder: Encoder, recipe: FinetuneRecipe) -> list[nn.Module]:
    """Returns the parts of an encoder whose weights stay as pre-trained.

    An encoder with fewer layers than recipe.frozen_layers has them all frozen, and its final norm with the last.
    """
    count = len(encoder.layers) if recipe.frozen_layers == "all" else recipe.frozen_layers
    parts: list[nn.Module] = list(encoder.layers[:count])
    if recipe.freeze_embeddings:
        parts += [part for part in (encoder.token, encoder.segment, encoder.position, encoder.relative,
                                    encoder.embedding_norm) if part is not None]
    if count >= len(encoder.layers):
        parts.append(encoder.final_norm)
    return parts
