"""Loading a study: params.yaml and experiments/arms.yaml, and the checks that need both."""
from __future__ import annotations

import re
from pathlib import Path

from study import StudyError
from study.config.arms import branch_of, load_arms, resolve
from study.config.schema import StudyConfig
from study.config.study import Study
from study.config.versions import upgraded
from study.config.yaml_files import read_yaml, validated

NAME_LINE = re.compile(r"^(?:name|study):\s*(\S+)", re.M)       # the key is `study` in version 1


def load_study(folder: str | Path = ".") -> Study:
    """Returns the study in a folder, which may also be given as its params.yaml or dvc.yaml.

    Raises StudyError if the settings or arms are invalid, two arms or cells are the same, or the study's name or
    pipeline conflicts with another study's.
    """
    folder = Path(folder)
    folder = folder.parent if folder.suffix == ".yaml" else folder
    path = folder / "params.yaml"
    settings = validated(StudyConfig, upgraded(read_yaml(path), str(path)), str(path))
    arms_path = folder / settings.root / "experiments" / "arms.yaml"
    if not arms_path.exists():
        raise StudyError(f"{path}: root {settings.root!r} does not lead to experiments/arms.yaml")
    study = Study(folder=folder, settings=settings, arms=load_arms(arms_path))
    for check in (_check_arms, _check_seeds, _check_search, _check_finetune, _check_pipeline, _check_name):
        check(study)
    return study


def _check_arms(study: Study) -> None:
    """Every arm must differ from its baseline and from the other arms of the study, whose baseline predicts [MASK]."""
    if resolve(study, study.settings.baseline).objective.token_objective == "causal":
        raise StudyError(f"{study.params_path}: baseline: {study.settings.baseline} is a causal model, so it has no "
                         f"NLL on [MASK] to compare with; choose a masked one")
    first_with: dict[str, str] = {}
    for name in study.settings.arms:
        config, baseline = resolve(study, name), study.arms[name].baseline
        if baseline is not None and config == resolve(study, baseline):
            raise StudyError(f"{study.params_path}: arms: {name} does not differ from its baseline {baseline} under "
                             f"this study's settings; remove {name}")
        if (twin := first_with.setdefault(config.model_dump_json(), name)) != name:
            raise StudyError(f"{study.params_path}: arms: {name} is the same as {twin} under this study's settings; "
                             f"remove one of them")


def _check_seeds(study: Study) -> None:
    """No cell may repeat the run of another one, or have the seed of the search. The seed of a run is that of its cell
    plus the arm's `training.seed_offset`."""
    first_with: dict[tuple[str, int], str] = {}
    for arm in study.settings.arms:
        config = resolve(study, arm)
        recipe = config.model_dump_json(exclude={"training": {"seed_offset"}})
        for seed in study.settings.seeds:
            cell, seed_of_run = f"{arm}-{seed}", seed + config.training.seed_offset
            if seed_of_run == study.settings.search.seed:
                raise StudyError(f"{study.params_path}: search.seed {seed_of_run} is one of the reported seeds, that "
                                 f"of {cell} with its training.seed_offset; choose another")
            if (twin := first_with.setdefault((recipe, seed_of_run), cell)) != cell:
                raise StudyError(f"{study.params_path}: seeds: {cell} repeats {twin}, since both have the seed "
                                 f"{seed_of_run} with their training.seed_offset; choose other seeds")


def _check_search(study: Study) -> None:
    """Tuned arms must be trained from initialisation, and must have the NLL on [MASK] that the search minimises."""
    for arm in study.settings.search.arms:
        config, branch = resolve(study, arm), branch_of(study.arms, arm, study.arms_path)
        if branch is not None:
            raise StudyError(f"{study.params_path}: search.arms: {arm} starts from {branch.arm}, and trials are too "
                             f"short for that; tune {branch.arm} instead")
        if not config.training.steps:
            raise StudyError(f"{study.params_path}: search.arms: {arm} is not trained; remove it from the list")
        if config.objective.token_objective == "causal":
            raise StudyError(f"{study.params_path}: search.arms: {arm} is a causal model, so it has no NLL on [MASK] "
                             f"for the search to minimise; remove it from the list")


def _check_finetune(study: Study) -> None:
    """A causal model is not read from [CLS], the first token, which sees no other."""
    recipe = study.settings.finetune.recipe
    for arm in study.settings.finetune.arms:
        if recipe.pooling == "cls" and resolve(study, arm).objective.token_objective == "causal":
            raise StudyError(f"{study.params_path}: finetune.arms: {arm} is a causal model, whose [CLS] sees no text; "
                             f"set finetune.recipe.pooling to mean")


def _check_pipeline(study: Study) -> None:
    """Every study has a copy of the project's dvc.yaml. (DVC does not follow a link in a past commit, so it could not
    compare with that commit.)"""
    original, copy = study.root / "dvc.yaml", study.folder / "dvc.yaml"
    if original.exists() and copy.exists() and original.read_bytes() != copy.read_bytes():
        raise StudyError(f"{copy}: differs from the project's pipeline {original.resolve()}; replace it with a copy")


def _check_name(study: Study) -> None:
    """Two studies with the same name would overwrite each other's results."""
    for path in (study.root / "params.yaml", *sorted((study.root / "experiments").glob("*/params.yaml"))):
        if study_name(path) == study.settings.name and not path.samefile(study.params_path):
            raise StudyError(f"{study.params_path}: the name {study.settings.name} is taken by {path.resolve()}; "
                             f"choose another name")


def study_name(path: Path) -> str | None:
    """Returns the name in a params.yaml without checking the file; None if it does not exist or has no name."""
    name = NAME_LINE.search(path.read_text(encoding="utf-8")) if path.exists() else None
    return name[1].strip("\"'") if name else None
