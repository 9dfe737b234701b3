"""Atomic file writes: after a crash or on a full disk a file has its old content or its new content, never a part."""
from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from study import StudyError

if TYPE_CHECKING:
    import numpy as np

PART = ".part"                              # suffix of unfinished files and folders


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces `path` by `content`. Raises StudyError if it cannot be written, for example on a full disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{path.name}.*{PART}"):
            if not _is_running(stale.name.split(".")[-2]):
                stale.unlink(missing_ok=True)   # from a process that was killed
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise StudyError(f"{path}: could not be written ({error.strerror}); free some space or fix the folder, then "
                         f"run the command again: finished work is kept, and a cell resumes from its last checkpoint"
                         ) from None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content, **keywords) -> None:
    """Replaces `path` by `content` as JSON with an indent of one; `keywords` go to `json.dumps`."""
    write_atomically(path, (json.dumps(content, indent=1, **keywords) + "\n").encode())


def save_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Writes a compressed .npz with sorted members and no time stamps: the same arrays give the same bytes."""
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(arrays[name]), allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def _is_running(process_id: str) -> bool:
    try:
        os.kill(int(process_id), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yields a new, empty folder that replaces `folder` on exit. After an error `folder` is unchanged."""
    part, previous = (folder.with_name(f".{folder.name}.{name}{PART}") for name in ("new", "old"))
    for stale in (part, previous):
        shutil.rmtree(stale, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            folder.rename(previous)
        part.rename(folder)
    finally:
        for stale in (part, previous):
            shutil.rmtree(stale, ignore_errors=True)


def give_usual_permissions(folder: Path) -> None:
    """Gives every file and folder below `folder`, and itself, the permissions that the user's umask gives new ones.

    Some libraries write files that only their owner can read.
    """
    umask = os.umask(0o077)
    os.umask(umask)
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
