"""`study rename`: a study gets another name and keeps its trained cells.

The name is in the paths of results, in dvc.lock and in training.json. All are changed together, so that DVC finds every
cell up to date. The tables and the report, which show the name, are made again by the next `dvc repro`.
"""
from __future__ import annotations

import hashlib
import json
import re

from study import StudyError
from study.config.create import check_name, link_results
from study.config.load import load_study
from study.config.study import Study
from study.files import write_atomically, write_json
from study.orchestration.code_identity import code_folder
from study.orchestration.dvc_lock import parse_lock, write_lock
from study.orchestration.runner import only_run


def rename_study(study: Study, name: str) -> Study:
    """Gives a study, its folder and its results another name. Returns the renamed study.

    Waits for a `study run` of the study to finish. Raises StudyError if the name is invalid or taken.
    """
    check_name(study, name)
    for folder in (study.folder / "runs" / name, study.folder / "reports" / name):
        if folder.exists():
            raise StudyError(f"{folder}: already exists; remove it or choose another name")
    with only_run(study):
        lock = study.folder / "dvc.lock"
        stages = parse_lock(lock.read_bytes()) if lock.exists() else {}
        _unlink_results(study)
        for folder in (study.runs, study.reports, code_folder(study)):
            if folder.exists():
                folder.rename(folder.with_name(name))
        text = study.params_path.read_text(encoding="utf-8")
        text = re.sub(r"^(name|study):.*$", rf"\1: {name}", text, count=1, flags=re.M)
        write_atomically(study.params_path, text.encode())
        for path in (study.folder / "runs" / name).glob("*/training.json"):
            write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"study": name})
        if stages:
            write_lock(lock, _renamed(stages, study, name))
    folder = study.folder.resolve()
    if folder.name == study.settings.name and folder.parent == (study.root / "experiments").resolve():
        folder = folder.rename(folder.with_name(name))
    renamed = load_study(folder)
    link_results(renamed)
    _copy_trials(study, renamed)
    return renamed


def _unlink_results(study: Study) -> None:
    """Removes the links to the study's results in the root."""
    for kind in ("runs", "reports"):
        link = study.root / kind / study.settings.name
        if link.is_symlink():
            link.unlink()


def _renamed(content: dict, study: Study, name: str) -> dict:
    """The content of dvc.lock with the new name in paths and settings, and the new hashes of training.json."""
    old = study.settings.name
    paths = {f"{part}/{old}": f"{part}/{name}" for part in ("runs", "reports", ".state/code")}
    for stage in content.get("stages", {}).values():
        for entry in (*stage.get("deps", ()), *stage.get("outs", ())):
            entry["path"] = _new_path(entry["path"], paths)
            file = study.folder / entry["path"]
            if file.name == "training.json" and file.exists():
                data = file.read_bytes()
                entry |= {"md5": hashlib.md5(data, usedforsecurity=False).hexdigest(), "size": len(data)}
        settings = stage.get("params", {}).get("params.yaml", {})
        if "name" in settings:
            settings["name"] = name
    return content


def _new_path(path: str, paths: dict[str, str]) -> str:
    for old, new in paths.items():
        if path == old or path.startswith(f"{old}/"):
            return new + path.removeprefix(old)
    return path


def _copy_trials(study: Study, renamed: Study) -> None:
    """Copies the trials of the search, which are stored under the name of the study, to the new name."""
    import optuna

    file = renamed.state / f"search-{study.settings.name}.db"
    old, new = (f"sqlite:///{file.resolve()}", renamed.storage) if file.exists() else (renamed.storage, renamed.storage)
    if not file.exists() and old.startswith("sqlite:///"):
        return                              # no trials
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for known in optuna.get_all_study_names(old):
        if known.startswith(f"{study.settings.name}/"):
            optuna.copy_study(from_study_name=known, from_storage=old, to_storage=new,
                              to_study_name=f"{renamed.settings.name}/{known.partition('/')[2]}")
    file.unlink(missing_ok=True)


def mentions(study: Study, old: str) -> list[str]:
    """Where the project still names the study by its old name: claims that are restricted to it, and pages that have
    its findings."""
    from study.analysis.claims import load_claims

    claims = [f"claim {claim} of experiments/claims.yaml" for claim, content in load_claims(study).items()
              if old in (getattr(content, "studies", None) or ())]
    pages = [study.root / "README.md", *sorted((study.root / "docs").glob("*.md"))]
    return claims + [page.relative_to(study.root).as_posix() for page in pages
                     if page.exists() and f"<!-- {old}:begin" in page.read_text(encoding="utf-8")]
