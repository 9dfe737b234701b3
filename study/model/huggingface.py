"""Exchange of weights with `transformers`, tensor by tensor.

    encoder                             class of transformers                   with causal attention
    post-LN, embedding norm             BertForPreTraining                      BertLMHeadModel
    pre-LN, embedding norm              RobertaPreLayerNormForMaskedLM          RobertaPreLayerNormForCausalLM
    pre-LN, no embedding norm           MegatronBertForPreTraining              -
    post-LN, rotary positions           RoFormerForMaskedLM                     RoFormerForCausalLM

`transformers` has no post-LN encoder without an embedding norm, and no decoder without the dense layer before it.
The Roberta and RoFormer classes have no sentence head. The Roberta classes count positions from one after the id of
[PAD], so their position embeddings have one more row.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from study import StudyError
from study.config.schema import RunConfig
from study.data.tokenizer import PAD_ID


@dataclass(frozen=True)
class TransformersClass:
    """A model class of `transformers` and the names of its parts."""
    model: str
    config: str
    encoder: str                            # prefix of the encoder
    attention_norm: str                     # within a layer
    feedforward_norm: str                   # within a layer
    final_norm: str | None
    mlm_head: dict[str, str]                # transform, norm, decoder, bias
    has_sentence_head: bool = False
    has_embedding_norm: bool = True
    has_position_embeddings: bool = True
    position_offset: int = 0                # additional rows of the position embeddings
    is_decoder: bool = False                # causal attention


_BERT_HEAD = {"transform": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.LayerNorm",
              "decoder": "cls.predictions.decoder", "bias": "cls.predictions.bias"}
_ROBERTA_HEAD = {"transform": "lm_head.dense", "norm": "lm_head.layer_norm", "decoder": "lm_head.decoder",
                 "bias": "lm_head.bias"}
_BERT = {"config": "BertConfig", "encoder": "bert", "attention_norm": "attention.output.LayerNorm",
         "feedforward_norm": "output.LayerNorm", "final_norm": None, "mlm_head": _BERT_HEAD}
_ROBERTA = {"config": "RobertaPreLayerNormConfig", "encoder": "roberta_prelayernorm",
            "attention_norm": "attention.LayerNorm", "feedforward_norm": "intermediate.LayerNorm",
            "final_norm": "LayerNorm", "mlm_head": _ROBERTA_HEAD, "position_offset": 1}
BERT = TransformersClass("BertForPreTraining", **_BERT, has_sentence_head=True)
BERT_CAUSAL = TransformersClass("BertLMHeadModel", **_BERT, is_decoder=True)
ROBERTA = TransformersClass("RobertaPreLayerNormForMaskedLM", **_ROBERTA)
ROBERTA_CAUSAL = TransformersClass("RobertaPreLayerNormForCausalLM", **_ROBERTA, is_decoder=True)
_ROFORMER = _BERT | {"config": "RoFormerConfig", "encoder": "roformer", "has_position_embeddings": False}
ROFORMER = TransformersClass("RoFormerForMaskedLM", **_ROFORMER)
ROFORMER_CAUSAL = TransformersClass("RoFormerForCausalLM", **_ROFORMER, is_decoder=True)
MEGATRON = TransformersClass("MegatronBertForPreTraining", "MegatronBertConfig", "bert", "attention.ln", "ln",
                             "encoder.ln", _BERT_HEAD, has_sentence_head=True, has_embedding_norm=False)


UNEXPORTED_POSITIONS = {
    "relative": "its encoders with a relative bias add position embeddings as well (MPNet) or norm without a mean (T5)",
    "rotary-and-absolute": "RoFormer, its BERT with rotary positions, has no position embeddings",
    "alibi": "it has no BERT with ALiBi"}


def transformers_class(config: RunConfig) -> TransformersClass:
    """Returns the class that computes the same as a model with these settings. Raises StudyError, with the reason, if
    there is none."""
    if not config.model.decoder_transform:
        raise StudyError("no equivalent in transformers: its masked language models all have the dense layer before "
                         "the decoder (model.decoder_transform is false)")
    target = encoder_class(config)
    if target in (ROFORMER, ROFORMER_CAUSAL, ROBERTA):
        _check_sentence_head(config, target)
    return target


def encoder_class(config: RunConfig) -> TransformersClass:
    """Returns the class whose encoder computes the same, whatever its heads. Raises StudyError, with the reason, if
    there is none."""
    model, causal = config.model, config.objective.token_objective == "causal"
    if config.training.local_attention_from is not None:
        raise StudyError("no equivalent in transformers: attention is fixed to near positions "
                         "(training.local_attention_from is set)")
    if model.embedding_scale != "one":
        raise StudyError(f"no equivalent in transformers: its BERT does not scale token embeddings "
                         f"(model.embedding_scale is {model.embedding_scale})")
    if model.positions in UNEXPORTED_POSITIONS:
        raise StudyError(f"no equivalent in transformers: {UNEXPORTED_POSITIONS[model.positions]} (model.positions is "
                         f"{model.positions})")
    if model.positions == "rotary" and model.norm == "pre":
        raise StudyError("no equivalent in transformers: RoFormer, its BERT with rotary positions, is post-LN "
                         "(model.positions is rotary and model.norm is pre)")
    if model.norm == "post":
        if not model.embedding_norm:
            raise StudyError("no equivalent in transformers: its post-LN encoders all have a norm after the embeddings "
                             "(model.embedding_norm is false)")
        if model.positions == "rotary":
            return ROFORMER_CAUSAL if causal else ROFORMER
        return BERT_CAUSAL if causal else BERT
    if not model.embedding_norm:
        if causal:
            raise StudyError("no equivalent in transformers: it has no causal pre-LN encoder without an embedding norm "
                             "that has the same heads")
        return MEGATRON
    return ROBERTA_CAUSAL if causal else ROBERTA


def _check_sentence_head(config: RunConfig, target: TransformersClass) -> None:
    """Raises StudyError if the settings have a sentence objective and the class has no head for it."""
    if config.objective.sentence_objective != "none" and not target.has_sentence_head:
        raise StudyError(f"no equivalent in transformers: {target.model} has no head for objective.sentence_objective "
                         f"{config.objective.sentence_objective}")


def new_transformers(config: RunConfig, vocabulary_size: int) -> nn.Module:
    """Returns a `transformers` model with these settings and random weights, in evaluation mode."""
    import transformers

    target = transformers_class(config)
    return getattr(transformers, target.model)(new_config(config, vocabulary_size, target)).eval()


def new_config(config: RunConfig, vocabulary_size: int, target: TransformersClass):
    """Returns the configuration of a `transformers` model of this class with these settings."""
    import transformers

    model = config.model
    return getattr(transformers, target.config)(
        vocab_size=vocabulary_size, hidden_size=model.hidden_size, num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=model.num_attention_heads, intermediate_size=model.intermediate_size,
        hidden_act=model.hidden_act, layer_norm_eps=model.layer_norm_eps,
        hidden_dropout_prob=model.dropout, attention_probs_dropout_prob=model.dropout, type_vocab_size=2,
        max_position_embeddings=config.examples.max_seq_length + target.position_offset,
        pad_token_id=PAD_ID, tie_word_embeddings=model.tied_decoder, is_decoder=target.is_decoder)


def tensor_names(config: RunConfig) -> dict[str, tuple[str, ...]]:
    """Returns the name of each of our tensors -> the names of theirs. Ours may be several of theirs, concatenated."""
    target = transformers_class(config)
    modules = {"mlm_head.transform": target.mlm_head["transform"], "mlm_head.norm": target.mlm_head["norm"]}
    if target.has_sentence_head:
        modules |= {"sentence_head.pooler": f"{target.encoder}.pooler.dense",
                    "sentence_head.classifier": "cls.seq_relationship"}
    names = encoder_tensor_names(config, target) | _parts(modules)
    if not config.model.tied_decoder:
        names["mlm_head.decoder.weight"] = (f"{target.mlm_head['decoder']}.weight",)
    return names | {"mlm_head.bias": (f"{target.mlm_head['decoder']}.bias",)}


def _parts(modules: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """The names of the weights and biases of modules, ours -> theirs."""
    return {f"{ours}.{part}": (f"{theirs}.{part}",) for ours, theirs in modules.items() for part in ("weight", "bias")}


def encoder_tensor_names(config: RunConfig, target: TransformersClass) -> dict[str, tuple[str, ...]]:
    """Returns the name of each tensor of our encoder -> the names of theirs."""
    modules: dict[str, str] = {}
    if target.has_embedding_norm:
        modules["encoder.embedding_norm"] = f"{target.encoder}.embeddings.LayerNorm"
    if target.final_norm:
        modules["encoder.final_norm"] = f"{target.encoder}.{target.final_norm}"
    names: dict[str, tuple[str, ...]] = {}
    for index in range(config.model.num_hidden_layers):
        ours, theirs = f"encoder.layers.{index}", f"{target.encoder}.encoder.layer.{index}"
        modules |= {f"{ours}.attention.output": f"{theirs}.attention.output.dense",
                    f"{ours}.attention_norm": f"{theirs}.{target.attention_norm}",
                    f"{ours}.up": f"{theirs}.intermediate.dense", f"{ours}.down": f"{theirs}.output.dense",
                    f"{ours}.feedforward_norm": f"{theirs}.{target.feedforward_norm}"}
        for part in ("weight", "bias"):
            names[f"{ours}.attention.qkv.{part}"] = tuple(f"{theirs}.attention.self.{name}.{part}"
                                                          for name in ("query", "key", "value"))
    embeddings = {"token": "word", "segment": "token_type"} | (
        {"position": "position"} if target.has_position_embeddings else {})
    for ours, theirs in embeddings.items():
        names[f"encoder.{ours}.weight"] = (f"{target.encoder}.embeddings.{theirs}_embeddings.weight",)
    return names | _parts(modules)


def encoder_tensors(state: dict[str, Tensor], config: RunConfig, target: TransformersClass,
                    names: dict[str, tuple[str, ...]] | None = None) -> dict[str, Tensor]:
    """Returns their state dict from ours, of the encoder alone or of all tensors in `names` (ours -> theirs)."""
    their_state: dict[str, Tensor] = {}
    for ours, theirs in (names or encoder_tensor_names(config, target)).items():
        tensor = state[ours]
        if ours == "encoder.position.weight":
            tensor = torch.cat([tensor.new_zeros(target.position_offset, tensor.shape[1]), tensor])
        their_state |= dict(zip(theirs, tensor.chunk(len(theirs)), strict=True))
    return their_state


def to_transformers(model: nn.Module, config: RunConfig) -> nn.Module:
    """Returns a `transformers` model with the weights of a PretrainingModel, in evaluation mode.

    Its hidden states and logits are the same. Raises StudyError if `transformers` has no equivalent model.
    """
    target, state = transformers_class(config), model.state_dict()
    their_model = new_transformers(config, len(state["encoder.token.weight"]))
    their_state = {target.mlm_head["bias"]: state["mlm_head.bias"]}
    if config.model.tied_decoder:
        their_state[f"{target.mlm_head['decoder']}.weight"] = state["encoder.token.weight"]
    their_state |= encoder_tensors(state, config, target, tensor_names(config))
    if not target.has_position_embeddings:      # RoFormer's table of sines and cosines, which is not trained
        their_state |= {name: tensor for name, tensor in their_model.state_dict().items() if "embed_positions" in name}
    their_model.load_state_dict({name: tensor.detach().cpu().clone() for name, tensor in their_state.items()},
                                strict=True)
    return their_model


def from_transformers(their_model: nn.Module, config: RunConfig) -> dict[str, Tensor]:
    """Returns the state dict of a PretrainingModel with the weights of a `transformers` model of these settings.

    It has no sentence head if theirs has none.
    """
    target, their_state = transformers_class(config), their_model.state_dict()
    state = {ours: torch.cat([their_state[name] for name in theirs]).clone()
             for ours, theirs in tensor_names(config).items()}
    if target.has_position_embeddings:
        state["encoder.position.weight"] = state["encoder.position.weight"][target.position_offset:]
    return state


def export(model: nn.Module, config: RunConfig, tokenizer: Path, folder: Path) -> str:
    """Writes a PretrainingModel and its tokenizer in the format of `from_pretrained(folder)`; returns the class's name.

    Raises StudyError if `transformers` has no equivalent model, [PAD] has a different id, or `folder` is not empty.
    """
    backend = exportable_tokenizer(tokenizer)
    their_model = to_transformers(model, config)
    if folder.exists() and any(folder.iterdir()):
        raise StudyError(f"{folder}: is not empty; choose a new folder")
    their_model.save_pretrained(folder)
    backend.model_max_length = config.examples.max_seq_length
    backend.save_pretrained(folder)
    return type(their_model).__name__


def exportable_tokenizer(folder: Path):
    """Returns the tokenizer in a folder as one of `transformers`. Raises StudyError if [PAD] has a different id."""
    from transformers import AutoTokenizer

    backend = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if backend.pad_token_id != PAD_ID:
        raise StudyError(f"{folder}: [PAD] has id {backend.pad_token_id}; only a vocabulary in which it has id "
                         f"{PAD_ID} can be exported")
    return backend
