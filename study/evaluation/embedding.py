"""Loading trained cells, and turning texts into vectors: the hidden states of a frozen encoder, pooled.

Shapes: N texts, B texts in a batch, T tokens, H hidden size.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from study import StudyError
from study.config.fingerprint import read_settings
from study.config.schema import RunConfig
from study.config.seeds import seeds_of
from study.config.study import Study
from study.data.batches import blocks
from study.data.tokenizer import load
from study.model.kernels import configure_processor
from study.objectives.pretraining_model import PretrainingModel, new_model


def load_cell(study: Study, arm: str, seed: int) -> tuple[RunConfig, PretrainingModel]:
    """Returns the settings and the trained model of a cell, in evaluation mode.

    Raises StudyError if the cell has not been trained, or its weights are damaged or do not match its settings.
    """
    folder = study.cell(arm, seed)
    try:
        encoder, heads = load_file(folder / "encoder.safetensors"), load_file(folder / "heads.safetensors")
    except FileNotFoundError as error:
        raise StudyError(f"{error.filename or folder}: no trained cell; run `study pretrain --arm {arm} --seed "
                         f"{seed}`, `dvc repro`, or `dvc pull` if a remote has it") from None
    except (SafetensorError, OSError) as error:
        raise StudyError(f"{folder}: damaged weights ({error}); delete them and run `dvc repro`") from None
    config = recorded_settings(study, arm, seed)
    configure_processor(config.training.threads)
    model = PretrainingModel(config, len(encoder.get("token.weight", ())))
    try:
        model.load_state_dict({f"encoder.{name}": tensor for name, tensor in encoder.items()} | heads)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{folder}: the weights do not match settings.yaml ({reason:.200}); run `dvc repro`") from None
    return config, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def untrained_model(config: RunConfig, model: PretrainingModel, seed: int) -> PretrainingModel:
    """Returns the model of a cell as it was initialised, in evaluation mode, on the device of the trained `model`."""
    untrained = new_model(config, model.encoder.token.num_embeddings,
                          seeds_of(config, seed + config.training.seed_offset).initialization)
    return untrained.to(model.device).eval()


def recorded_settings(study: Study, arm: str, seed: int) -> RunConfig:
    """Returns the settings that a cell was trained with, from its settings.yaml."""
    return read_settings(study.cell(arm, seed) / "settings.yaml")


@dataclass(frozen=True)
class PooledStates:
    """Vectors of N texts from one layer: `cls` and `mean`, each (N, H) float32."""
    cls: np.ndarray
    mean: np.ndarray


def tokenize(backend, texts: list[str], length: int) -> list[list[int]]:
    """Returns the token ids of each text with [CLS] and [SEP], truncated to `length`."""
    encoded = backend.encode_batch_fast(texts, add_special_tokens=True)
    return [ids if len(ids) <= length else [*ids[:length - 1], ids[-1]] for ids in (e.ids for e in encoded)]


@torch.inference_mode()
def embed_layers(model: PretrainingModel, rows: list[list[int]], pad_id: int, batch_size: int) -> list[PooledStates]:
    """Returns the pooled states of the embeddings and of every layer.

    The mean is over the tokens of the text, without [CLS] and [SEP]. Rows are encoded in order of length, so that there
    is little padding.
    """
    order = np.argsort([len(row) for row in rows], kind="stable")
    width, layers = model.encoder.token.embedding_dim, len(model.encoder.layers) + 1
    cls, mean = (np.empty((layers, len(rows), width), np.float32) for _ in range(2))
    for index, ids, mask in _padded_batches(rows, order, pad_id, batch_size):
        input_ids = model.as_tensor(ids)
        states = torch.stack(model.encoder(input_ids, torch.zeros_like(input_ids), model.as_tensor(mask),
                                           all_states=True)).float().cpu()                  # (layers, B, T, H)
        is_text = mask.copy()
        is_text[:, 0] = False
        is_text[np.arange(len(ids)), mask.sum(1) - 1] = False
        weight = torch.from_numpy(is_text).unsqueeze(-1)                                    # (B, T, 1)
        cls[:, index] = states[:, :, 0].numpy()
        mean[:, index] = ((states * weight).sum(2) / weight.sum(1).clamp(min=1)).numpy()
    return [PooledStates(*layer) for layer in zip(cls, mean, strict=True)]


def _padded_batches(rows: list[list[int]], order: np.ndarray, pad_id: int, batch_size: int) -> Iterator[tuple]:
    """Yields the indices (B,), padded ids (B, T) and attention mask (B, T) of batches of rows in the given order."""
    for block in blocks(len(rows), batch_size):
        index = order[block]
        lengths = np.array([len(rows[i]) for i in index])
        ids = np.full((len(index), lengths.max()), pad_id, np.int64)
        for row, i in enumerate(index):
            ids[row, :len(rows[i])] = rows[i]
        yield index, ids, np.arange(lengths.max())[None] < lengths[:, None]


@torch.inference_mode()
def token_states(model: PretrainingModel, rows: list[list[int]], pad_id: int, batch_size: int,
                 types: list[list[int]] | None = None) -> list[np.ndarray]:
    """Returns the last hidden states of each row, (T, H) float32. types: the token types of the rows; None: all 0."""
    order, states = np.argsort([len(row) for row in rows], kind="stable"), [np.empty(0)] * len(rows)
    for index, ids, mask in _padded_batches(rows, order, pad_id, batch_size):
        token_types = np.zeros_like(ids)
        for place, row in enumerate(index if types is not None else ()):
            token_types[place, :len(rows[row])] = types[row]
        batch = model.encoder(*map(model.as_tensor, (ids, token_types, mask))).float().cpu().numpy()
        for place, row in enumerate(index):
            states[row] = batch[place, :len(rows[row])]
    return states


@torch.inference_mode()
def encode(study: Study, arm: str, seed: int, first: str, second: str | None) -> tuple[list[str], np.ndarray]:
    """Returns the tokens (T,) and the last hidden states (T, H) float32 of a text, or of a pair of texts.

    Raises StudyError if the cell has not been trained or the text is longer than a row.
    """
    config, model = load_cell(study, arm, seed)
    encoded = load(study.runs / "tokenizer").encode(first, second)
    if len(encoded.ids) > config.examples.max_seq_length:
        raise StudyError(f"the text has {len(encoded.ids)} tokens, but a row of {study.settings.name} has only "
                         f"{config.examples.max_seq_length}; shorten it")
    ids, types = (torch.tensor([x], device=model.device) for x in (encoded.ids, encoded.type_ids))     # (1, T)
    return encoded.tokens, model.encoder(ids, types)[0].float().cpu().numpy()
