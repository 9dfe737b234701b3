"""`study rename`: a study gets another name and keeps its trained cells.

The name is in the paths of results, in dvc.lock and in training.json. All are changed together, so that DVC finds every
cell up to date. The tables and the report, which show the name, are made again by the next `dvc repro`.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from study import StudyError
from study.analysis.results import read_json
from study.config.create import check_name, link_results, with_name
from study.config.load import load_study
from study.config.study import STORAGE, Study
from study.files import write_atomically, write_json
from study.orchestration.code_identity import code_folder
from study.orchestration.dvc_lock import parse_lock, write_lock
from study.orchestration.runner import only_run
from study.training.trial_storage import open_storage

JOURNAL = "rename.json"                     # in the state of a study: the names of a rename that has not ended


def rename_study(study: Study, name: str,
                 rename_runs: Callable[[Study, str], None] = lambda renamed, old: None) -> Study:
    """Gives a study, its folder and its results another name. Returns the renamed study.

    rename_runs: called with the renamed study and its old name, to rename its runs in MLflow.

    Waits for a `study run` of the study to finish. A rename that was interrupted, or whose `rename_runs` failed, is
    finished by the next call with the same name: the names are written down first, each step can be repeated, and the
    folder is moved last. Raises StudyError if the name is invalid or taken, or if a rename to another name was
    interrupted.
    """
    journal, old = study.state / JOURNAL, name_before(study)
    if journal.exists():
        _check_same_rename(study, journal, name)
    else:
        check_name(study, name)
        for folder in (study.folder / "runs" / name, study.folder / "reports" / name):
            if folder.exists():
                raise StudyError(f"{folder}: already exists; choose another name, or move this folder elsewhere")
    with only_run(study):
        write_json(journal, {"old": old, "new": name})
        _move_results(study, old, name)
    renamed = load_study(study.folder)
    _copy_trials(renamed, old)
    rename_runs(renamed, old)
    folder = study.folder.resolve()
    if folder.name == old and folder.parent == (study.root / "experiments").resolve():
        folder = folder.rename(folder.with_name(name))
    renamed = load_study(folder)
    link_results(renamed)
    (renamed.state / JOURNAL).unlink()
    return renamed


def name_before(study: Study) -> str:
    """The name of a study; if its rename was interrupted, the name before it."""
    journal = study.state / JOURNAL
    return read_json(journal)["old"] if journal.exists() else study.settings.name


def _check_same_rename(study: Study, journal: Path, name: str) -> None:
    """Raises StudyError unless this is the rename that was interrupted."""
    names = read_json(journal)
    if name != names["new"]:
        raise StudyError(f"{journal}: the rename of {names['old']} to {names['new']} was interrupted; finish it first "
                         f"with `study rename {names['new']} --study {study.folder}`")


def _move_results(study: Study, old: str, name: str) -> None:
    """Changes the name in paths and files. What has the new name already is left as it is."""
    lock = study.folder / "dvc.lock"
    stages = parse_lock(lock.read_bytes()) if lock.exists() else {}
    _unlink_results(study, old)
    identities = code_folder(study).parent
    if (identities / old).exists():         # a later one with the new name comes from `study code`, which repeats it
        shutil.rmtree(identities / name, ignore_errors=True)
    for parent in (study.folder / "runs", study.folder / "reports", identities):
        if (parent / old).exists() and (parent / name).exists():
            raise StudyError(f"{parent / old}: was made after the rename to {name} was interrupted, whose results are "
                             f"in {parent / name}; move it elsewhere, then run `study rename {name}` again")
        if (parent / old).exists():
            (parent / old).rename(parent / name)
    text = with_name(study.params_path.read_text(encoding="utf-8"), name)
    write_atomically(study.params_path, text.encode())
    for path in (study.folder / "runs" / name).glob("*/training.json"):
        write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"study": name})
    if stages:
        write_lock(lock, _renamed(stages, study, old, name))


def _unlink_results(study: Study, old: str) -> None:
    """Removes the links to the study's results in the root."""
    for kind in ("runs", "reports"):
        link = study.root / kind / old
        if link.is_symlink():
            link.unlink()


def _renamed(content: dict, study: Study, old: str, name: str) -> dict:
    """The content of dvc.lock with the new name in paths and settings, and the new hashes of training.json."""
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


def _copy_trials(renamed: Study, old_name: str) -> None:
    """Copies the trials of the search, which are stored under the name of the study, to the new name: those in
    STUDY_STORAGE and those in the study's own file. Where both have trials of one search, the longer one is copied.

    Trials of the new name are part of an interrupted copy, and are copied again.
    """
    import optuna

    file = renamed.state / f"search-{old_name}.db"
    if not file.exists() and not os.environ.get(STORAGE):
        return                              # no trials
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    new = open_storage(renamed)
    copied, longest = optuna.get_all_study_names(new), {}
    for storage in (new, f"sqlite:///{file.resolve()}") if file.exists() else (new,):
        for search in optuna.get_all_study_summaries(storage):
            if search.study_name.startswith(f"{old_name}/"):
                other = longest.get(search.study_name, (-1,))
                longest[search.study_name] = max(other, (search.n_trials, storage), key=lambda entry: entry[0])
    for known, (_, storage) in longest.items():
        target = f"{renamed.settings.name}/{known.partition('/')[2]}"
        if target in copied:
            optuna.delete_study(study_name=target, storage=new)
        optuna.copy_study(from_study_name=known, from_storage=storage, to_storage=new, to_study_name=target)
    file.unlink(missing_ok=True)


def mentions(study: Study, old: str) -> list[str]:
    """Where the project still names the study by its old name: claims that are restricted to it, and pages that have
    its findings."""
    from study.analysis.claims import load_claims

    claims = [f"claim {claim} of experiments/claims.yaml" for claim, content in load_claims(study).items()
              if old in (getattr(content, "studies", None) or ())]
    pages = [study.root / "reports/README.md", *sorted((study.root / "docs").glob("*.md"))]
    return claims + [page.relative_to(study.root).as_posix() for page in pages
                     if page.exists() and f"<!-- {old}:begin" in page.read_text(encoding="utf-8")]
