"""Texts to vectors: the states of a frozen encoder, pooled.

Shapes: N texts, B texts a batch, T tokens, H hidden size.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from study import StudyError
from study.config.load import Study, read_yaml, validated
from study.config.schema import RunConfig
from study.data.tokenizer import load
from study.evaluation.perplexity import blocks
from study.model.heads import PretrainingModel, use_processor


def load_cell(study: Study, arm: str, seed: int) -> tuple[RunConfig, PretrainingModel]:
    """Settings and trained model of a cell, in evaluation mode. Raises StudyError when it has not been trained, or its
    weights are damaged or not those of its settings."""
    folder = study.cell(arm, seed)
    try:
        encoder, heads = load_file(folder / "encoder.safetensors"), load_file(folder / "heads.safetensors")
    except FileNotFoundError as error:
        raise StudyError(f"{error.filename or folder}: no trained cell; run `study pretrain --arm {arm} --seed "
                         f"{seed}`, `dvc repro`, or `dvc pull` where a remote has it") from None
    except (SafetensorError, OSError) as error:
        raise StudyError(f"{folder}: damaged weights ({error}); delete them and run `dvc repro`") from None
    config = recorded_settings(study, arm, seed)
    use_processor(config)
    model = PretrainingModel(config, len(encoder.get("token.weight", ())))
    try:
        model.load_state_dict({f"encoder.{name}": tensor for name, tensor in encoder.items()} | heads)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{folder}: weights and settings.yaml do not fit each other ({reason:.200}); run `dvc repro`"
                         ) from None
    return config, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def recorded_settings(study: Study, arm: str, seed: int) -> RunConfig:
    """The settings that a cell was trained with, as they lie beside it."""
    path = study.cell(arm, seed) / "settings.yaml"
    return validated(RunConfig, read_yaml(path), str(path))


@dataclass(frozen=True)
class Encoded:
    """Pooled vectors of N texts: `cls` and `mean`, each (N, H) float32."""
    cls: np.ndarray
    mean: np.ndarray


def tokenize(backend, texts: list[str], length: int) -> list[list[int]]:
    """Ids with [CLS] and [SEP], cut at `length`."""
    encoded = backend.encode_batch_fast(texts, add_special_tokens=True)
    return [ids if len(ids) <= length else [*ids[:length - 1], ids[-1]] for ids in (e.ids for e in encoded)]


@torch.inference_mode()
def embed_layers(model: PretrainingModel, rows: list[list[int]], pad: int, batch_size: int) -> list[Encoded]:
    """[CLS] and mean vectors of every layer, from the embeddings on; the mean is over real tokens without [CLS] and
    [SEP]. Rows are encoded in the order of their lengths, so that little is padded.
    """
    order = np.argsort([len(row) for row in rows], kind="stable")
    width, layers = model.encoder.token.embedding_dim, len(model.encoder.layers) + 1
    cls, mean = (np.empty((layers, len(rows), width), np.float32) for _ in range(2))
    for index, ids, mask in _padded(rows, order, pad, batch_size):
        device = model.words.bias.device
        states = torch.stack(model.encoder(ids.to(device), torch.zeros_like(ids, device=device), mask.to(device),
                                           all_states=True)).float().cpu()  # (layers, B, T, H)
        inner = mask.clone()
        inner[:, 0] = False
        inner[torch.arange(len(ids)), mask.sum(1) - 1] = False
        weight = inner.unsqueeze(-1)                                         # (B, T, 1)
        cls[:, index] = states[:, :, 0].numpy()
        mean[:, index] = ((states * weight).sum(2) / weight.sum(1).clamp(min=1)).numpy()
    return [Encoded(*pair) for pair in zip(cls, mean, strict=True)]


def _padded(rows: list[list[int]], order: np.ndarray, pad: int, batch_size: int) -> Iterator[tuple]:
    for block in blocks(len(rows), batch_size):
        index = order[block]
        longest = max(len(rows[i]) for i in index)
        ids = np.full((len(index), longest), pad, np.int64)
        for row, i in enumerate(index):
            ids[row, :len(rows[i])] = rows[i]
        lengths = np.array([len(rows[i]) for i in index])
        yield index, torch.from_numpy(ids), torch.from_numpy(np.arange(longest)[None] < lengths[:, None])


@torch.inference_mode()
def encode(study: Study, arm: str, seed: int, first: str, second: str | None) -> tuple[list[str], np.ndarray]:
    """Tokens (T,) and last hidden states (T, H) float32 of one text, or of a pair with its segments marked.

    Raises StudyError when the cell is not trained or the text is longer than a row.
    """
    config, model = load_cell(study, arm, seed)
    backend = load(study.runs / "tokenizer")
    encoded = backend.encode(first, second)
    if len(encoded.ids) > config.examples.max_seq_length:
        raise StudyError(f"the text has {len(encoded.ids)} tokens, a row of {study.settings.name} holds "
                         f"{config.examples.max_seq_length}; shorten it")
    ids, types = (torch.tensor([x], device=model.words.bias.device) for x in (encoded.ids, encoded.type_ids))
    return encoded.tokens, model.encoder(ids, types)[0].float().cpu().numpy()
