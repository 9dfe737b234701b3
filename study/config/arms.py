"""Arms: which changes an arm makes to a study, and the settings that result.

A branched arm (`from` in arms.yaml) starts from the state of another arm: up to a step, its cells train exactly as
that arm's cells of the same seed do, and then go on with settings of their own. They train the first steps themselves.
Training is deterministic, so this gives the same bits as loading a checkpoint of the other cell, and no cell depends on
another.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

from study import StudyError
from study.config.schema import Arm, Branch, From, Model, Recipe, RunConfig
from study.config.study import Study
from study.config.yaml_files import nearest, read_yaml, validated

# Settings that decide what a checkpoint contains, which rows a step reads, or how numbers are computed. They cannot
# change at a branch.
FIXED = {"inputs": ("format", "batch"), "model": tuple(name for name in Model.model_fields if name != "dropout"),
         "training": ("batch_size", "compile", "data_fraction", "initialization_seed", "mask_seed", "optimizer",
                      "order_seed", "precision", "seed_offset", "skip_padding", "threads")}


def load_arms(path: Path) -> dict[str, Arm]:
    """Returns the arms in arms.yaml.

    Raises StudyError if an arm is invalid, a baseline does not exist, or an arm cannot start from another one.
    """
    arms = {name: validated(Arm, content, f"{path}: {name}") for name, content in read_yaml(path).items()}
    for name, arm in arms.items():
        if arm.baseline is not None and arm.baseline not in arms:
            raise StudyError(f"{path}: {name}.baseline: unknown arm {arm.baseline!r}"
                             f"{nearest(arm.baseline, arms)}")
    for name in arms:
        _check_branch(arms, name, path)
    return arms


def lineage(arms: dict[str, Arm], name: str, path: Path) -> list[str]:
    """Returns the names of the arm's ancestors and of the arm, eldest first. Raises StudyError if they form a cycle."""
    names = [name]
    while (baseline := arms[names[0]].baseline) is not None:
        if baseline in names:
            raise StudyError(f"{path}: {name}: its baselines form a cycle ({' <- '.join([baseline, *names])})")
        names.insert(0, baseline)
    return names


def branch_of(arms: dict[str, Arm], name: str, path: Path) -> From | None:
    """Returns what an arm starts from: its own `from`, or else that of its nearest ancestor with one. None if it starts
    at initialisation."""
    branches = [arms[ancestor].branch for ancestor in lineage(arms, name, path)]
    return next((branch for branch in reversed(branches) if branch is not None), None)


def _check_branch(arms: dict[str, Arm], name: str, path: Path) -> None:
    """Raises StudyError if the arm's baselines form a cycle, or if the state of the arm that it starts from cannot be
    carried on."""
    branch = branch_of(arms, name, path)
    if branch is None:
        return
    if branch.arm not in arms:
        raise StudyError(f"{path}: {name}.from: unknown arm {branch.arm!r}"
                         f"{nearest(branch.arm, arms)}")
    if branch_of(arms, branch.arm, path) is not None:
        raise StudyError(f"{path}: {name}.from: {branch.arm} starts from another arm itself; name an arm that starts "
                         f"at initialisation")
    for section, keys in FIXED.items():
        for key in keys:
            if _values(arms, name, section, key, path) != _values(arms, branch.arm, section, key, path):
                raise StudyError(f"{path}: {name}: {section}.{key} cannot change at a branch; give it the value that "
                                 f"{branch.arm} has, from which the arm starts")


def _values(arms: dict[str, Arm], name: str, section: str, key: str, path: Path) -> list:
    """What decides one setting of an arm, whatever the study's own value is: the last value that the arm or an ancestor
    gives it, if there is one, and the factors that follow."""
    values = []
    for ancestor in lineage(arms, name, path):
        changes = arms[ancestor].changes.get(section, {})
        if key in changes:
            values = [*(values if _factor(changes[key]) is not None else []), changes[key]]
    return values


def _factor(value: Any) -> Any:
    """The x of {times: x}; None for a value that is not scaled."""
    return value["times"] if isinstance(value, dict) and set(value) == {"times"} else None


def arm_identity(study: Study, arm: str) -> list[dict[str, Any]]:
    """Returns what determines the settings of an arm: the names and changes of its ancestors and of the arm itself, and
    what it starts from.

    The names count because an arm that is not tuned takes the tuned values of an ancestor.
    """
    identity = [{"arm": name, "changes": study.arms[name].changes}
                for name in lineage(study.arms, arm, study.arms_path)]
    branch = branch_of(study.arms, arm, study.arms_path)
    if branch is not None:
        identity.append({"from": arm_identity(study, branch.arm), "step": branch.step})
    return identity


def resolve_with(study: Study, arm: str, best: dict[str, dict[str, Any]]) -> RunConfig:
    """Returns the settings of an arm with the tuned values in best.yaml. best: arm -> dotted key -> value."""
    branch = branch_of(study.arms, arm, study.arms_path)
    return resolve(study, arm, best.get(arm), best.get(branch.arm) if branch else None)


def resolve(study: Study, arm: str, tuned: dict[str, Any] | None = None,
            tuned_before: dict[str, Any] | None = None) -> RunConfig:
    """Returns the settings of an arm: the study's, then `tuned` (dotted key -> value), then the changes of the arm's
    ancestors and of the arm, eldest first. tuned_before: the tuned values of the arm that a branched arm starts from.

    Raises StudyError if the arm does not exist, or if the changes or the branch are invalid.
    """
    if arm not in study.arms:
        raise StudyError(f"{study.params_path}: unknown arm {arm!r}{nearest(arm, study.arms)}")
    config = _resolved(study, arm, tuned)
    branch = branch_of(study.arms, arm, study.arms_path)
    if branch is None:
        return config
    before, where = _resolved(study, branch.arm, tuned_before), f"{study.arms_path}: {arm}.from: step {branch.step}"
    for name, steps in ((branch.arm, before.training.steps), (arm, config.training.steps)):
        if branch.step >= steps:
            raise StudyError(f"{where}: must come before the end of training, but {name} has {steps} steps in "
                             f"{study.params_path}")
    if config == before:
        raise StudyError(f"{where}: nothing changes here, so the arm is {branch.arm}")
    embeddings = config.training.count_embeddings_at
    if embeddings not in (None, before.training.count_embeddings_at) and embeddings < branch.step:
        raise StudyError(f"{where}: training.count_embeddings_at {embeddings} is earlier; it must not be")
    curricula = before.training.curriculum, config.training.curriculum
    if None not in curricula and curricula[0].keep != curricula[1].keep:
        raise StudyError(f"{where}: training.curriculum.keep cannot change here: the arm would read some rows again")
    return config.model_copy(update={"branch": Branch(step=branch.step, before=before)})


def _resolved(study: Study, arm: str, tuned: dict[str, Any] | None) -> RunConfig:
    """The settings of an arm, without what it starts from."""
    content = study.settings.model_dump(include=set(Recipe.model_fields))
    for key, value in (tuned or {}).items():
        section, name = key.split(".")
        content[section][name] = value
    for name in lineage(study.arms, arm, study.arms_path):
        content = _merged(content, study.arms[name].changes)
    return validated(RunConfig, content, f"{study.arms_path}: {arm}.changes")


def _merged(base: dict, changes: dict) -> dict:
    """Returns `base` with `changes` applied, section by section. `{times: x}` scales; an int stays one, at least 1."""
    result = dict(base)
    for key, value in changes.items():
        factor = _factor(value)
        if isinstance(factor, (int, float)) and isinstance(base.get(key), (int, float)):
            scaled = base[key] * factor
            result[key] = max(min(1, base[key]), round(scaled)) if isinstance(base[key], int) else scaled
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            result[key] = _merged(base[key], value)
        else:
            result[key] = value
    return result
