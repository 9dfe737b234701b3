"""settings.yaml, the record of a cell's settings, and the fingerprint that identifies a cell."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from study import StudyError
from study.config.schema import RunConfig
from study.config.study import Study
from study.config.versions import VERSION, upgraded
from study.config.yaml_files import read_yaml, validated


def recorded(config: RunConfig) -> dict:
    """Returns the settings as they are recorded: settings that were added later are left out at their default."""
    return config.model_dump(mode="json", exclude_defaults=True)


def settings_yaml(config: RunConfig) -> bytes:
    """Returns the content of settings.yaml for these settings."""
    return yaml.safe_dump({"version": VERSION} | recorded(config), sort_keys=False).encode()


def read_settings(path: Path) -> RunConfig:
    """Returns the settings in a settings.yaml file, whatever its version.

    Raises StudyError if the file is missing or invalid.
    """
    return validated(RunConfig, upgraded(read_yaml(path), str(path)), str(path))


def kept_settings_yaml(study: Study, arm: str, config: RunConfig) -> bytes:
    """Returns the settings.yaml of a trained cell of the arm if its settings equal `config`, else a new one.

    So the file, and with it the cells, stay as they are when only names of settings have changed.
    """
    for seed in study.settings.seeds:
        path = study.cell(arm, seed) / "settings.yaml"
        try:
            if path.exists() and read_settings(path) == config:
                return path.read_bytes()
        except StudyError:                  # damaged; training will replace it
            continue
    return settings_yaml(config)


def fingerprint(path: Path, seed: int, data: str) -> str:
    """Returns 16 hex digits that identify a cell by its settings.yaml, its seed and the hash of its training examples.

    The file's version number is ignored.
    """
    settings = {key: value for key, value in read_yaml(path).items() if key != "version"}
    content = {"settings": settings, "seed": seed, "data": data}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def flat(settings: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every setting as (dotted key, value)."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def first_difference(old: dict, new: dict) -> tuple[str, Any, Any] | None:
    """Returns the first setting, by name, in which two nested dicts differ: (dotted key, old value, new value), with
    None for a value that is missing. None if they are equal."""
    before, after = dict(flat(old)), dict(flat(new))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            return key, before.get(key), after.get(key)
    return None
