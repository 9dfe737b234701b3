"""Creating a study from another one."""
from __future__ import annotations

import re
import shutil
from pathlib import Path

from study import StudyError
from study.config.load import load_study
from study.config.study import Study


def create_study(source: Study, name: str) -> Path:
    """Creates experiments/<name> with the settings of `source` and returns the folder.

    Raises StudyError if the name is invalid or taken.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise StudyError(f"{name!r}: the name of a study has lower-case letters, digits and hyphens")
    folder = source.root / "experiments" / name
    if folder.exists() or name == source.settings.name:
        raise StudyError(f"{folder}: study {name} already exists; choose another name")
    text = source.params_path.read_text(encoding="utf-8")
    text = re.sub(r"^(name|study):.*$", rf"\1: {name}", text, count=1, flags=re.M)
    text = re.sub(r"^root:.*$", "root: ../..", text, count=1, flags=re.M)
    folder.mkdir()
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    shutil.copy(source.root / "dvc.yaml", folder)
    (folder / "discussion.md").touch()      # shown in the report, once it is written
    load_study(folder)
    return folder
