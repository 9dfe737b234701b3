"""Checkpoints of a cell in training: safetensors files, written atomically and verified when they are read.

A checkpoint has the weights, the optimisers' state and, as metadata, the progress. Data order, masks and dropout are
functions of the step, so nothing else is needed. Checkpoints are outside DVC's outs (`.state/<fingerprint>/`),
because DVC deletes outs before a stage runs again.
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from study.files import write_atomically

KEPT = 2                                    # checkpoints that stay on disk
PATTERN = "step-*.safetensors"


@dataclass
class Progress:
    """The state of a training run, apart from tensors. `status`: running, finished or diverged."""
    step: int = 0
    tokens: int = 0
    positions: int = 0                      # tokens and padding
    rows: int = 0
    seconds: float = 0.0
    records: list[dict] = field(default_factory=list)
    pending: dict[str, float] = field(default_factory=dict)     # sums since the last record
    best_nll: float | None = None
    stale: int = 0                          # validations since the best
    status: str = "running"


def write_checkpoint(folder: Path, fingerprint: str, progress: Progress, tensors: dict[str, torch.Tensor]) -> Path:
    """Writes `step-<step>.safetensors`, deletes all but the newest checkpoints, and returns the path.

    Raises StudyError if it cannot be written, for example on a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(asdict(progress))
    metadata = {"fingerprint": fingerprint, "progress": text, "sha256": _digest(tensors, text)}
    path = folder / f"step-{progress.step:08d}.safetensors"
    write_atomically(path, save(tensors, metadata))
    for old in sorted(folder.glob(PATTERN))[:-KEPT]:
        old.unlink()
    return path


def read_checkpoint(folder: Path, fingerprint: str) -> tuple[Progress, dict[str, torch.Tensor]] | None:
    """Returns the newest valid checkpoint with this fingerprint, or None.

    Files that are damaged or have another fingerprint are renamed to `.refused`.
    """
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata.get("fingerprint") != fingerprint:
                reason = "was made with other settings or code"
            elif metadata["sha256"] != _digest(tensors, metadata["progress"]):
                reason = "is damaged"
            else:
                return Progress(**json.loads(metadata["progress"])), tensors
        except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
            reason = f"is damaged ({error})"
        path.rename(path.with_suffix(".refused"))
        print(f"{path}: {reason}; renamed to .refused and not used", flush=True)
    return None


def _digest(tensors: dict[str, torch.Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
