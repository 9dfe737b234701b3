"""Classifiers as models of `transformers`: an encoder with a linear layer on the state of [CLS].

Those of `transformers` have a dense layer and an activation before the linear layer. Ours do not, so the dense layer is
given weights with which both together are our linear layer:

    gelu (RoFormer)     gelu(z) - gelu(-z) = z, and relu likewise: the dense layer computes our logits z and -z
    tanh (the others)   tanh(s z) / s = z (1 - (s z)^2 / 3 + ...): with s = SMALL, z to the precision of float32
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from study import StudyError
from study.config.schema import FinetuneRecipe, RunConfig
from study.model.huggingface import ROBERTA, ROFORMER, TransformersClass, encoder_class, encoder_tensors, new_config

SMALL = 2.0**-14


def classifier_class(config: RunConfig, recipe: FinetuneRecipe, classes: int) -> TransformersClass:
    """Returns the class whose encoder computes the same. Raises StudyError, with the reason, if there is none."""
    target = encoder_class(config)
    if recipe.pooling != "cls":
        raise StudyError(f"no equivalent in transformers: its classifiers read the state of [CLS] (pooling is "
                         f"{recipe.pooling}; use --set pooling=cls)")
    if config.objective.token_objective == "causal":
        raise StudyError("no equivalent in transformers: it has no classifier with causal attention that reads [CLS]")
    needed = 2 * classes if target is ROFORMER else classes
    if needed > config.model.hidden_size:
        raise StudyError(f"no equivalent in transformers: {classes} classes need a dense layer of width {needed}, and "
                         f"model.hidden_size is {config.model.hidden_size}")
    return target


def to_transformers_classifier(encoder: nn.Module, linear: nn.Linear, config: RunConfig, recipe: FinetuneRecipe,
                               labels: list[str]) -> nn.Module:
    """Returns a `transformers` model, in evaluation mode, whose logits are those of the linear layer (C classes) on the
    state of [CLS]. Raises StudyError if there is none."""
    import transformers

    target = classifier_class(config, recipe, len(labels))
    their_config = new_config(config, encoder.token.num_embeddings, target)
    their_config.hidden_dropout_prob = their_config.attention_probs_dropout_prob = recipe.dropout
    their_config.id2label = dict(enumerate(labels))
    their_config.label2id = {label: number for number, label in enumerate(labels)}
    name = target.model.removesuffix("ForPreTraining").removesuffix("ForMaskedLM") + "ForSequenceClassification"
    their_model = getattr(transformers, name)(their_config).eval()
    state = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    their_state = encoder_tensors(state, config, target) | _head(linear, target, config.model.hidden_size)
    if not target.has_position_embeddings:      # RoFormer's table of sines and cosines, which is not trained
        their_state |= {name: tensor for name, tensor in their_model.state_dict().items() if "embed_positions" in name}
    their_model.load_state_dict({name: tensor.detach().cpu().clone() for name, tensor in their_state.items()},
                                strict=True)
    return their_model


def _head(linear: nn.Linear, target: TransformersClass, width: int) -> dict[str, Tensor]:
    """The weights of a dense layer (H, H), an activation and an output layer (C, H) that together are `linear`."""
    classes = linear.out_features
    dense, bias = linear.weight.new_zeros(width, width), linear.weight.new_zeros(width)
    out = linear.weight.new_zeros(classes, width)
    scale = 1.0 if target is ROFORMER else SMALL
    dense[:classes], bias[:classes] = scale * linear.weight.detach(), scale * linear.bias.detach()
    out[:, :classes] = torch.eye(classes) / scale
    if target is ROFORMER:
        dense[classes:2 * classes], bias[classes:2 * classes] = -linear.weight.detach(), -linear.bias.detach()
        out[:, classes:2 * classes] = -torch.eye(classes)
    first, last = (("classifier.dense", "classifier.out_proj") if target in (ROFORMER, ROBERTA) else
                   (f"{target.encoder}.pooler.dense", "classifier"))
    return {f"{first}.weight": dense, f"{first}.bias": bias, f"{last}.weight": out,
            f"{last}.bias": linear.weight.new_zeros(classes)}
