"""Files that are written whole or not at all: a reader, a crash or a full disk meets the old content or the new."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from study import StudyError

PART = ".part"                              # how the name of what is not finished yet ends


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces `path` by `content`. Raises StudyError when it cannot be written, as on a full disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise StudyError(f"{path}: could not be written ({error.strerror}); make room or mend the folder and start "
                         f"again: what was finished before stays, a cell goes on from its last checkpoint") from None


def write_json(path: Path, content, **keywords) -> None:
    """Replaces `path` by `content` as JSON, indented by one."""
    write_atomically(path, (json.dumps(content, indent=1, **keywords) + "\n").encode())


def clear_parts(folder: Path) -> None:
    """Removes what a killed process had not finished in `folder`."""
    for part in folder.glob(f".*{PART}"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` at the end; after an error `folder` is as it was."""
    part = folder.with_name(f".{folder.name}{PART}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
