"""YAML files: read strictly, and checked against a model with errors that name the file, the key and the remedy."""
from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from study import StudyError
from study.config.validation_errors import explained

Model = TypeVar("Model", bound=pydantic.BaseModel)


def parse_yaml(content: str | bytes) -> Any:
    """Returns the content of a YAML text. Raises yaml.YAMLError if it is not YAML or repeats a key."""
    return yaml.load(content, Loader=_UniqueKeyLoader)


def read_yaml(path: Path) -> dict:
    """Returns the mapping in a YAML file. Raises StudyError if it cannot be read, repeats a key or is not a mapping."""
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "; a study is a folder with params.yaml (`study create NAME` makes one)"
        raise StudyError(f"{path}: no such file{hint if path.name == 'params.yaml' else ''}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise StudyError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: expected keys and values, found {type(content).__name__}")
    return content


class _UniqueKeyLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """A safe loader that rejects repeated keys and reads 1e-3 as a number (in YAML 1.1 it is a string)."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep) for key, _ in node.value]
        if repeated := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"repeated key {repeated[0]!r}", node.start_mark)
        return super().construct_mapping(node, deep)


_UniqueKeyLoader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
                                       list("-+0123456789"))


def validated(model: type[Model], content: Any, where: str) -> Model:
    """Returns `content` as an instance of `model`. Raises StudyError for the first error, with the key and `where`."""
    text = json.dumps(content, default=str)
    try:
        return model.model_validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        raise StudyError(f"{where}: {explained(model, error, json.loads(text))}") from None


def nearest(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Returns "; did you mean X?" for the known word that is most similar, or `otherwise` if none is."""
    similar = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {similar[0]}?" if similar else otherwise
