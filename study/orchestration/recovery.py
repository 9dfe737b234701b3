"""What a killed DVC leaves half written, mended before the next run.

Plain `dvc repro` writes `dvc.lock` in place, and every DVC its table of readers and writers (`.dvc/tmp/rwlock`): killed
in the middle it leaves the first part of either, and then refuses the whole project, or takes the cells that are no
longer listed for stale and trains them again. So a run keeps a copy of the last whole lock, and puts it back where the
one before was cut short.
"""
from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAMLError

from study.config.load import Study
from study.orchestration.dvc_lock import parse_lock, write_lock

PATIENCE = 1.0                              # seconds in which a DVC that lives has written some more


def mend(study: Study, interrupted: bool) -> None:
    """Removes DVC's table when it is broken. Completes dvc.lock from the copy when it is broken, or when the run before
    was interrupted and a stage is missing; else copies it.

    A stage too many does no harm: DVC runs a stage whose settings or files are not those of the lock.
    """
    table = study.root / ".dvc" / "tmp" / "rwlock"
    if _stays_so(table, lambda content: not _is_json(content)):
        table.unlink(missing_ok=True)
        _say(f"{table} was left half written by a DVC that was killed; removed")
    path, copy = study.folder / "dvc.lock", _copy(study)
    if not path.exists():                   # somebody wants everything done again
        copy.unlink(missing_ok=True)
        return
    kept, broken = stages(copy) or {}, _stays_so(path, lambda content: _stages(content) is None)
    found = stages(path) or {}
    last = next(reversed(found), None)
    if last in kept and interrupted and _leaves(found[last]) < _leaves(kept[last]):
        del found[last]                     # it has lost its end
    if kept and (broken or interrupted) and kept.keys() - found.keys():
        _write(path, kept | found)
        _say(f"{path} was left half written by a DVC that was killed; completed as it last was whole")
    elif found:
        _write(copy, found)


def keep(study: Study) -> None:
    """Adds to the copy what dvc.lock holds, unless it is being written just now."""
    path, copy = study.folder / "dvc.lock", _copy(study)
    if found := stages(path):
        _write(copy, (stages(copy) or {}) | found)


def stages(path: Path) -> dict[str, dict] | None:
    """The stages in a dvc.lock; none where there is no file, None where it is not whole."""
    return _stages(path.read_bytes()) if path.exists() else {}


def _stages(content: bytes) -> dict[str, dict] | None:
    try:
        found = dict(parse_lock(content)["stages"])
    except (YAMLError, KeyError, TypeError, ValueError):
        return None
    return found if content.endswith(b"\n") and _whole(found.get(next(reversed(found), None))) else None


def _whole(entry: dict | None) -> bool:
    """Whether each file that the stage read or made has its hash (`track` alone makes none)."""
    files = [file for part in ("deps", "outs") for file in (entry or {}).get(part) or ()]
    return bool(files) and all("path" in file and "md5" in file for file in files)


def _leaves(tree) -> int:
    if isinstance(tree, dict):
        tree = list(tree.values())
    return sum(map(_leaves, tree)) if isinstance(tree, list) else tree is not None


def _write(path: Path, found: dict[str, dict]) -> None:
    write_lock(path, {"schema": "2.0", "stages": found})


def _stays_so(path: Path, broken: Callable[[bytes], bool]) -> bool:
    """Whether the file is broken and nobody is about to finish it."""
    if not path.exists() or not broken(content := path.read_bytes()):
        return False
    time.sleep(PATIENCE)
    return path.exists() and path.read_bytes() == content


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def _copy(study: Study) -> Path:
    return study.root / ".state" / f"dvc-{study.settings.name}.lock"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
