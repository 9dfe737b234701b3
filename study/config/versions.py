"""Versions of the names of settings, in params.yaml and settings.yaml.

The version is raised when a setting is renamed or removed, and then only. UPGRADES has one step per version, so that
older files still load.
"""
from __future__ import annotations

from collections.abc import Callable

from study import StudyError

VERSION = 2

_RENAMED_IN_2 = {
    "study": "name", "corpus.stray": "corpus.smoothing", "examples.length": "examples.max_seq_length",
    "masking.rate": "masking.mlm_probability", "masking.duplicates": "masking.dupe_factor",
    "objective.kind": "objective.token_objective", "objective.pair": "objective.sentence_objective",
    "objective.pair_weight": "objective.sentence_weight", "objective.predicted_share": "objective.target_fraction",
    "training.accumulation": "training.gradient_accumulation_steps", "training.data_share": "training.data_fraction",
    "training.schedule": "training.lr_scheduler_type", "training.beta1": "training.adam_beta1",
    "training.beta2": "training.adam_beta2", "training.epsilon": "training.adam_epsilon",
    "training.clip_norm": "training.max_grad_norm", "training.log_every": "training.logging_steps",
    "training.validate_every": "training.eval_steps", "training.checkpoint_every": "training.save_steps",
    "training.curriculum.share": "training.curriculum.step_fraction",
    "training.curriculum.length": "training.curriculum.length_fraction",
}


def upgraded(content: dict, where: str) -> dict:
    """Returns the content of a settings file under the current names, without its `version`.

    A file without `version` has version 1. Raises StudyError if the version is unknown, for example because a later
    release wrote the file.
    """
    content = dict(content)
    version = content.pop("version", 1)
    if type(version) is not int or not 1 <= version <= VERSION:
        raise StudyError(f"{where}: version {version!r} is unknown; this release reads versions 1 to {VERSION}")
    for number in range(version, VERSION):
        content = UPGRADES[number](content)
        if content.get("branch"):           # of a branched cell: the settings of the arm that it starts from
            content["branch"] = content["branch"] | {"before": UPGRADES[number](content["branch"]["before"])}
    return content


def _to_version_2(content: dict) -> dict:
    content = _renamed(content, _RENAMED_IN_2)
    for section in (content, content.get("search")):
        if isinstance(section, dict) and isinstance(section.get("arms"), list):
            section["arms"] = [_arm_of_version_2(arm) for arm in section["arms"]]
    if "baseline" in content:
        content["baseline"] = _arm_of_version_2(content["baseline"])
    return content


def _arm_of_version_2(arm: str) -> str:
    return "dynamic-reseeded" if arm == "again" else arm


def _renamed(content: dict, names: dict[str, str], prefix: str = "") -> dict:
    """Returns `content` with the last part of each dotted key replaced; keys of search.space are dotted as a whole."""
    result = {}
    for key, value in content.items():
        new = names.get(f"{prefix}{key}", key).rpartition(".")[2] if prefix != "search.space." else names.get(key, key)
        result[new] = _renamed(value, names, f"{prefix}{key}.") if isinstance(value, dict) else value
    return result


UPGRADES: dict[int, Callable[[dict], dict]] = {1: _to_version_2}
