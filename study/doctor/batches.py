"""One collated batch from a file: .npz or .json with the arrays input_ids, labels and, if there is one, attention_mask.

Nothing is ever unpickled. Save a batch with

    np.savez("batch.npz", **{name: tensor.numpy() for name, tensor in next(iter(dataloader)).items()})

Shapes: B rows, T positions.
"""
from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study import StudyError
from study.doctor.tokenizer import Vocabulary

IGNORED = -100                              # label of positions that are not scored, as in PyTorch's cross-entropy


@dataclass(frozen=True)
class Batch:
    """ids, labels (B, T) int64; real (B, T) bool: positions outside padding."""
    path: Path
    ids: np.ndarray
    labels: np.ndarray
    real: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        """Returns where there is a label, (B, T) bool."""
        return self.labels != IGNORED

    @property
    def original(self) -> np.ndarray:
        """Returns the ids before masking, (B, T), as far as labels tell."""
        return np.where(self.labelled, self.labels, self.ids)


def read_batch(path: Path, vocabulary: Vocabulary) -> Batch:
    """Returns a batch. Raises StudyError if the file is missing, damaged or pickled, or lacks an array."""
    if not path.is_file():
        raise StudyError(f"{path}: no such file; --batch takes a batch as .npz or .json")
    reader = {".npz": _npz, ".json": _json}.get(path.suffix.lower())
    if reader is None:
        raise StudyError(f"{path}: not a known kind of batch; --batch takes .npz (numpy.savez) or .json")
    arrays = reader(path)
    ids, labels = (_array(path, arrays, name) for name in ("input_ids", "labels"))
    attention = _array(path, arrays, "attention_mask") if "attention_mask" in arrays else None
    for name, array in (("labels", labels), ("attention_mask", attention)):
        if array is not None and array.shape != ids.shape:
            raise StudyError(f"{path}: {name} has the shape {array.shape}, input_ids {ids.shape}; they must be equal")
    real = np.ones(ids.shape, bool) if attention is None else attention != 0
    if vocabulary.special["pad"] is not None:
        # judged by the original id, since a random token may be [PAD]
        real &= np.where(labels == IGNORED, ids, labels) != vocabulary.special["pad"]
    return Batch(path, ids, labels, real)


def _npz(path: Path) -> Mapping[str, np.ndarray]:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise StudyError(f"{path}: one array without a name, as numpy.save writes it; save input_ids and labels "
                             f"by name with numpy.savez")
        with content:
            return {name: content[name] for name in content.files}
    except ValueError as error:
        if "pickle" in str(error).lower():
            raise StudyError(f"{path}: holds pickled objects, which are never loaded; save plain integer arrays with "
                             f"numpy.savez, all rows of one length") from None
        raise StudyError(f"{path}: not a usable .npz ({error}); save it again with numpy.savez") from None
    except (OSError, EOFError, AttributeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise StudyError(f"{path}: not a usable .npz ({error}); save it again with numpy.savez") from None


def _json(path: Path) -> Mapping:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise StudyError(f"{path}: not JSON ({error}); write one object with input_ids and labels") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: not an object; write one with input_ids and labels, each a list of rows")
    return content


def _array(path: Path, arrays: Mapping, name: str) -> np.ndarray:
    """An array (B, T) of whole numbers; one row may be given without its outer list."""
    if name not in arrays:
        raise StudyError(f"{path}: no {name}; it has {', '.join(arrays) or 'nothing'}; a batch needs input_ids and "
                         f"labels")
    try:
        array = np.asarray(arrays[name])
    except ValueError:
        raise StudyError(f"{path}: the rows of {name} differ in length; pad them to one length") from None
    if array.dtype.kind not in "iub":
        raise StudyError(f"{path}: {name} has the type {array.dtype}, not whole numbers; save token ids")
    array = np.atleast_2d(array).astype(np.int64)
    if array.ndim != 2 or not array.size:
        raise StudyError(f"{path}: {name} has the shape {array.shape}; it must be rows times positions, and not empty")
    return array
