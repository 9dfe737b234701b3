"""Expensive folders that all workers of a test run share: made once, then only read or copied."""
from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from filelock import FileLock

VARIABLE = "STUDY_TEST_SHARED"              # set by conftest.py for the whole run


@cache
def shared_root() -> Path:
    """Where shared folders are; outside pytest, a new temporary folder."""
    return Path(os.environ.get(VARIABLE) or tempfile.mkdtemp(prefix="study-shared-"))


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name`, filled by `make(folder)` for the first worker that asks for it. Do not change its content."""
    folder = shared_root() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    finished = folder.with_name(f"{folder.name}.finished")
    with FileLock(f"{folder}.lock"):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)       # left by a call that failed
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder
