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
        for old in path.parent.glob(f".{path.name}.*{PART}"):
            if not _alive(old.name.split(".")[-2]):
                old.unlink(missing_ok=True)     # of a process that was killed
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


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` at the end; after an error `folder` is as it was."""
    part, old = (folder.with_name(f".{folder.name}.{name}{PART}") for name in ("new", "old"))
    for left in (part, old):
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    finally:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
