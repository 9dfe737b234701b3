"""Arms: which changes an arm makes to a study, and the settings that result."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from study import StudyError
from study.config.schema import Arm, RunConfig
from study.config.study import Study
from study.config.yaml_files import nearest, read_yaml, validated


def load_arms(path: Path) -> dict[str, Arm]:
    """Returns the arms in arms.yaml. Raises StudyError if an arm is invalid or a baseline does not exist."""
    arms = {name: validated(Arm, content, f"{path}: {name}") for name, content in read_yaml(path).items()}
    for name, arm in arms.items():
        if arm.baseline is not None and arm.baseline not in arms:
            raise StudyError(f"{path}: {name}: there is no arm {arm.baseline!r} to be its baseline"
                             f"{nearest(arm.baseline, arms)}")
        lineage(arms, name, path)
    return arms


def lineage(arms: dict[str, Arm], name: str, path: Path) -> list[str]:
    """Returns the names of the arm's ancestors and of the arm, eldest first. Raises StudyError if they form a cycle."""
    names = [name]
    while (baseline := arms[names[0]].baseline) is not None:
        if baseline in names:
            raise StudyError(f"{path}: {name}: its baselines form a cycle ({' <- '.join([baseline, *names])})")
        names.insert(0, baseline)
    return names


def arm_identity(study: Study, arm: str) -> list[dict[str, Any]]:
    """Returns what determines the settings of an arm: the names and changes of its ancestors and of the arm itself.

    The names count because an arm that is not tuned takes the tuned values of an ancestor.
    """
    return [{"arm": name, "changes": study.arms[name].changes}
            for name in lineage(study.arms, arm, study.arms_path)]


def resolve(study: Study, arm: str, tuned: dict[str, Any] | None = None) -> RunConfig:
    """Returns the settings of an arm: the study's, then `tuned` (dotted key -> value), then the changes of the arm's
    ancestors and of the arm, eldest first.

    Raises StudyError if the arm does not exist or the changes are invalid.
    """
    if arm not in study.arms:
        raise StudyError(f"{study.params_path}: unknown arm {arm!r}{nearest(arm, study.arms)}")
    content = study.settings.model_dump(include=set(RunConfig.model_fields))
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
        factor = value["times"] if isinstance(value, dict) and set(value) == {"times"} else None
        if isinstance(factor, (int, float)) and isinstance(base.get(key), (int, float)):
            scaled = base[key] * factor
            result[key] = max(min(1, base[key]), round(scaled)) if isinstance(base[key], int) else scaled
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            result[key] = _merged(base[key], value)
        else:
            result[key] = value
    return result
