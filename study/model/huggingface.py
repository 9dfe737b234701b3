"""Exchange of weights with `transformers`, tensor by tensor.

    post-LN with an embedding norm      BertForPreTraining          (left to right: BertLMHeadModel)
    pre-LN with an embedding norm       RobertaPreLayerNormForMaskedLM, which has no pair head (...ForCausalLM)
    pre-LN without one                  MegatronBertForPreTraining

`transformers` has no post-LN encoder without an embedding norm, and none of these without the dense layer before the
decoder: such cells are refused. RoBERTa counts positions from one after [PAD]'s id, so its table has a row more.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from study import StudyError
from study.config.schema import RunConfig
from study.model.encoder import NORM_EPSILON
from study.model.heads import PretrainingModel

PAD = 0                                     # id of [PAD] in every vocabulary of ours


@dataclass(frozen=True)
class Kind:
    """A class of `transformers` with the names of its parts."""
    model: str
    config: str
    base: str                               # prefix of the encoder
    attention_norm: str                     # within a layer
    feedforward_norm: str
    final_norm: str | None
    words: dict[str, str]                   # transform, norm, decoder, bias
    pairs: bool = False
    embedding_norm: bool = True
    position_offset: int = 0
    is_decoder: bool = False


_CLS = {"transform": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.LayerNorm",
        "decoder": "cls.predictions.decoder", "bias": "cls.predictions.bias"}
_LM = {"transform": "lm_head.dense", "norm": "lm_head.layer_norm", "decoder": "lm_head.decoder", "bias": "lm_head.bias"}
_BERT = {"config": "BertConfig", "base": "bert", "attention_norm": "attention.output.LayerNorm",
         "feedforward_norm": "output.LayerNorm", "final_norm": None, "words": _CLS}
POST = Kind("BertForPreTraining", **_BERT, pairs=True)
CAUSAL = Kind("BertLMHeadModel", **_BERT, is_decoder=True)
_PRE = {"config": "RobertaPreLayerNormConfig", "base": "roberta_prelayernorm", "attention_norm": "attention.LayerNorm",
        "feedforward_norm": "intermediate.LayerNorm", "final_norm": "LayerNorm", "words": _LM, "position_offset": 1}
PRE = Kind("RobertaPreLayerNormForMaskedLM", **_PRE)
PRE_CAUSAL = Kind("RobertaPreLayerNormForCausalLM", **_PRE, is_decoder=True)
BARE = Kind("MegatronBertForPreTraining", "MegatronBertConfig", "bert", "attention.ln", "ln", "encoder.ln", _CLS,
            pairs=True, embedding_norm=False)


def kind_of(config: RunConfig) -> Kind:
    """The class of `transformers` that computes what this cell computes. Raises StudyError, with the reason, if none
    does."""
    model, objective = config.model, config.objective
    if not model.decoder_transform:
        raise StudyError("no equal in transformers: its masked-word heads all have the dense layer before the decoder "
                         "(model.decoder_transform is false)")
    if model.norm == "post":
        if not model.embedding_norm:
            raise StudyError("no equal in transformers: its post-LN encoders all have a norm after the embeddings "
                             "(model.embedding_norm is false)")
        return CAUSAL if objective.token_objective == "causal" else POST
    if not model.embedding_norm:
        if objective.token_objective == "causal":
            raise StudyError("no equal in transformers: a pre-LN encoder without an embedding norm that reads left to "
                             "right and has our heads")
        return BARE
    if objective.token_objective == "causal":
        return PRE_CAUSAL
    if objective.sentence_objective != "none":
        raise StudyError(f"no equal in transformers: {PRE.model} has no head for objective.sentence_objective {objective.sentence_objective}")
    return PRE


def new_transformers(config: RunConfig, vocabulary_size: int) -> nn.Module:
    """A model of `transformers` of the cell's shape, with its own random weights, in evaluation mode."""
    import transformers

    kind, model = kind_of(config), config.model
    theirs = getattr(transformers, kind.config)(
        vocab_size=vocabulary_size, hidden_size=model.hidden_size, num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=model.num_attention_heads, intermediate_size=model.intermediate_size, hidden_act="gelu",
        hidden_dropout_prob=model.dropout, attention_probs_dropout_prob=model.dropout, type_vocab_size=2,
        max_position_embeddings=config.examples.max_seq_length + kind.position_offset, layer_norm_eps=NORM_EPSILON,
        pad_token_id=PAD, tie_word_embeddings=model.tied_decoder, is_decoder=kind.is_decoder)
    return getattr(transformers, kind.model)(theirs).eval()


def names(config: RunConfig) -> dict[str, tuple[str, ...]]:
    """Our tensor -> theirs; query, key and value lie one after the other in ours."""
    kind, base = kind_of(config), kind_of(config).base
    modules = {"words.transform": kind.words["transform"], "words.norm": kind.words["norm"]}
    if kind.embedding_norm:
        modules["encoder.embedding_norm"] = f"{base}.embeddings.LayerNorm"
    if kind.final_norm:
        modules["encoder.final_norm"] = f"{base}.{kind.final_norm}"
    if kind.pairs:
        modules |= {"pairs.pooler": f"{base}.pooler.dense", "pairs.classifier": "cls.seq_relationship"}
    found: dict[str, tuple[str, ...]] = {}
    for index in range(config.model.num_hidden_layers):
        here, there = f"encoder.layers.{index}", f"{base}.encoder.layer.{index}"
        modules |= {f"{here}.attention.output": f"{there}.attention.output.dense",
                    f"{here}.attention_norm": f"{there}.{kind.attention_norm}",
                    f"{here}.up": f"{there}.intermediate.dense", f"{here}.down": f"{there}.output.dense",
                    f"{here}.feedforward_norm": f"{there}.{kind.feedforward_norm}"}
        for part in ("weight", "bias"):
            found[f"{here}.attention.qkv.{part}"] = tuple(f"{there}.attention.self.{name}.{part}"
                                                          for name in ("query", "key", "value"))
    found |= {f"{ours}.{part}": (f"{theirs}.{part}",) for ours, theirs in modules.items() for part in
              ("weight", "bias")}
    for ours, theirs in (("token", "word"), ("position", "position"), ("segment", "token_type")):
        found[f"encoder.{ours}.weight"] = (f"{base}.embeddings.{theirs}_embeddings.weight",)
    if not config.model.tied_decoder:
        found["words.decoder.weight"] = (f"{kind.words['decoder']}.weight",)
    return found | {"words.bias": (f"{kind.words['decoder']}.bias",)}


def to_transformers(model: PretrainingModel, config: RunConfig) -> nn.Module:
    """A model of `transformers` with our weights, in evaluation mode; the same hidden states and logits.

    Raises StudyError where `transformers` has no equal.
    """
    kind, own = kind_of(config), model.state_dict()
    theirs = new_transformers(config, model.encoder.token.num_embeddings)
    state = {kind.words["bias"]: own["words.bias"]}
    if config.model.tied_decoder:
        state[f"{kind.words['decoder']}.weight"] = own["encoder.token.weight"]
    for ours, targets in names(config).items():
        tensor = own[ours]
        if ours == "encoder.position.weight":
            tensor = torch.cat([tensor.new_zeros(kind.position_offset, tensor.shape[1]), tensor])
        state |= dict(zip(targets, tensor.chunk(len(targets)), strict=True))
    theirs.load_state_dict({name: tensor.detach().cpu().clone() for name, tensor in state.items()}, strict=True)
    return theirs


def from_transformers(theirs: nn.Module, config: RunConfig) -> dict[str, Tensor]:
    """Our state dict with the weights of a model of `transformers` of the cell's shape; the pair head is left out
    where theirs has none."""
    kind, state = kind_of(config), theirs.state_dict()
    found = {ours: torch.cat([state[name] for name in sources]).clone() for ours, sources in names(config).items()}
    found["encoder.position.weight"] = found["encoder.position.weight"][kind.position_offset:]
    return found


def export(model: PretrainingModel, config: RunConfig, tokenizer: Path, folder: Path) -> str:
    """Writes config, weights (safetensors) and tokenizer, as `from_pretrained(folder)` and the fill-mask pipeline read
    them; returns the name of the class. Raises StudyError where there is no equal, or `folder` is not empty."""
    from transformers import AutoTokenizer

    backend = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
    if backend.pad_token_id != PAD:
        raise StudyError(f"{tokenizer}: [PAD] has id {backend.pad_token_id}; only vocabularies where it is {PAD} can "
                         f"be exported")
    theirs = to_transformers(model, config)
    if folder.exists() and any(folder.iterdir()):
        raise StudyError(f"{folder}: is not empty; name a new folder")
    theirs.save_pretrained(folder)
    backend.model_max_length = config.examples.max_seq_length
    backend.save_pretrained(folder)
    return type(theirs).__name__
