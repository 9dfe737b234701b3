"""Creating a study from another one."""
from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from study import StudyError
from study.config.load import load_study, study_name
from study.config.study import Study
from study.config.yaml_files import parse_yaml

HEAD_COMMENT = re.compile(r"\A(?:(?:#.*)?\n)+")
DVC_CONFIG = """\
[core]
    analytics = false
    autostage = true
    check_update = false
[cache]
    dir = ../../../.dvc/cache
"""
# DVC warns about an empty file.
NO_DISCUSSION = "{# What was a surprise, what was checked, what is open: the report shows what is written here. #}\n"
DVC_IGNORE = "# compiled Python files next to the modules that the stage `code` reads\n__pycache__/\n"


def create_study(source: Study, name: str) -> Path:
    """Creates experiments/<name>, a DVC repository with the settings of `source`, and returns the folder.

    The comment at the head of the source's params.yaml is left out: it describes the source. Links to the new study's
    runs/<name> and reports/<name> appear in the folders of that name in the root.

    Raises StudyError if the name is invalid or taken.
    """
    check_name(source, name)
    if not (source.root / "dvc.yaml").exists():
        raise StudyError(f"{source.root / 'dvc.yaml'}: no such file; a new study gets a copy of the project's pipeline")
    folder = source.root / "experiments" / name
    text = HEAD_COMMENT.sub("", source.params_path.read_text(encoding="utf-8"))
    text = with_name(text, name)
    text = re.sub(r"^root:.*$", "root: ../..", text, count=1, flags=re.M)
    folder.mkdir()
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    shutil.copy(source.root / "dvc.yaml", folder)
    (folder / "discussion.md").write_text(NO_DISCUSSION)
    _create_dvc_repository(source.root, folder)
    link_results(load_study(folder))
    return folder


def check_name(study: Study, name: str) -> None:
    """Raises StudyError if a study of the same project cannot have this name."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise StudyError(f"{name!r}: the name of a study has lower-case letters, digits and hyphens")
    if not isinstance(parse_yaml(name), str):
        raise StudyError(f"{name!r}: YAML reads this as a number or as another value that is not text; choose a name "
                         f"with more letters")
    folder = study.root / "experiments" / name
    taken = {study_name(path) for path in (study.root / "params.yaml", *study.root.glob("experiments/*/params.yaml"))}
    if folder.exists() or name in taken:
        raise StudyError(f"{folder}: study {name} already exists; choose another name")


def with_name(text: str, name: str) -> str:
    """The text of a params.yaml with another name of the study."""
    return re.sub(r"^(name|study):.*$", rf"\1: {name}", text, count=1, flags=re.M)


def link_results(study: Study) -> None:
    """Makes runs/<name> and reports/<name> in the root links to the study's folders, if they do not exist."""
    root = study.root.resolve()
    for folder in (study.runs.resolve(), study.reports.resolve()):
        link = root / folder.relative_to(study.folder.resolve())
        if link != folder and not os.path.lexists(link):
            folder.mkdir(parents=True, exist_ok=True)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(Path("..", folder.relative_to(root)))


def _create_dvc_repository(root: Path, folder: Path) -> None:
    """Makes the folder a DVC repository that shares the project's cache.

    Each study is a repository of its own because DVC loads every dvc.yaml and dvc.lock of a repository at each command.
    """
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text(DVC_CONFIG)
    (folder / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (folder / ".dvcignore").write_text(DVC_IGNORE)
    (folder / ".package").symlink_to(Path("..", "..", "study"))     # DVC applies .dvcignore only below the folder
    local = root / ".dvc" / "config.local"  # says so if there is no git
    if local.exists():
        shutil.copy(local, folder / ".dvc")
