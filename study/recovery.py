"""What a killed DVC leaves half written, mended before the next run.

DVC writes `dvc.lock` and its table of readers and writers (`.dvc/tmp/rwlock`) in place: killed in the middle it leaves
the first part of either, and then refuses the whole project, or takes the cells that are no longer listed for stale and
trains them again. So a run keeps a copy of the last whole lock, and puts it back where the one before was cut short.
"""
from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import yaml

from study.config import Loaded
from study.files import write_atomically

PATIENCE = 1.0                              # seconds in which a DVC that lives has written its table


def mend(study: Loaded, interrupted: bool) -> None:
    """Removes DVC's table when it is broken, and restores dvc.lock when it is, or when the run before was interrupted
    and it ends sooner than it did; then copies it."""
    table = study.root / ".dvc" / "tmp" / "rwlock"
    if _broken(table):
        time.sleep(PATIENCE)
        if _broken(table):
            table.unlink(missing_ok=True)
            _say(f"{table} was left half written by a DVC that was killed; removed")
    path, copy = study.folder / "dvc.lock", _copy(study)
    found, kept = stages(path), stages(copy)
    if kept and path.exists() and (found is None or interrupted and _cut_short(found, kept)):
        write_atomically(path, copy.read_bytes())
        _say(f"{path} was left half written by a DVC that was killed; restored as it last was whole")
    elif found:
        write_atomically(copy, path.read_bytes())


def keep(study: Loaded) -> None:
    """Copies dvc.lock, unless it is being written just now."""
    path, copy = study.folder / "dvc.lock", _copy(study)
    content = path.read_bytes() if path.exists() else b""
    found = _stages(content)
    if found and not _cut_short(found, stages(copy) or {}):
        write_atomically(copy, content)


def stages(path: Path) -> dict[str, dict] | None:
    """The stages in a dvc.lock; none where there is no file, None where it cannot be read."""
    return _stages(path.read_bytes()) if path.exists() else {}


def _stages(content: bytes) -> dict[str, dict] | None:
    try:
        found = yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
        return dict(found["stages"] or {}) if found else {}
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return None


def _cut_short(found: dict[str, dict], kept: dict[str, dict]) -> bool:
    """Whether a stage is missing, or the last one has lost its end."""
    if kept.keys() - found.keys():
        return True
    last = next(reversed(found), None)
    return last is not None and (_leaves(found[last]) < _leaves(kept.get(last)) or not _whole(found[last]))


def _whole(entry: dict | None) -> bool:
    """Whether each file that the stage read or made has its hash (`track` alone makes none)."""
    files = [file for part in ("deps", "outs") for file in (entry or {}).get(part) or ()]
    return bool(files) and all("path" in file and "md5" in file for file in files)


def _leaves(tree) -> int:
    if isinstance(tree, dict):
        tree = list(tree.values())
    return sum(map(_leaves, tree)) if isinstance(tree, list) else tree is not None


def _copy(study: Loaded) -> Path:
    return study.root / ".state" / f"dvc-{study.settings.study}.lock"


def _broken(table: Path) -> bool:
    try:
        json.loads(table.read_bytes())
    except FileNotFoundError:
        pass
    except ValueError:
        return True
    return False


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
