"""Errors of pydantic as one line that names the key and the remedy."""
from __future__ import annotations

import difflib
from typing import Any, get_args, get_origin

import pydantic

SIMILAR = 0.6                               # how much a key resembles the known one that is meant, at least; 1: equal
SAME_SECTION = 0.1                          # advantage of the known keys of the same section over the others

Location = tuple[Any, ...]                  # sections and key: ("training", "steps"), ("probe", "tasks", 0, "name")


def explained(model: type[pydantic.BaseModel], error: pydantic.ValidationError, content: Any) -> str:
    """Returns the first error in `content`, which was to be an instance of `model`.

    Unknown keys are reported before missing ones, since a missing key is usually an unknown one misspelt.
    """
    errors = sorted(error.errors(), key=lambda details: details["type"] != "extra_forbidden")
    paths = [_path(details, content) for details in errors]
    first, path = errors[0], paths[0]
    if first["type"] == "extra_forbidden":
        return f"unknown key {_dotted(path)}{_similar_key(model, path)}"
    if first["type"] == "missing":
        return f"missing key {_dotted(path)}; add it (study/config/schema describes every key)"
    same = [details for details, other in zip(errors, paths, strict=True) if other == path]
    found = "" if isinstance(first["input"], dict) else f" (found {first['input']!r:.80})"
    return f"{_dotted(path) or 'settings'}: {_alternatives(same)}{found}"


def _dotted(path: Location) -> str:
    return ".".join(map(str, path))


def _path(details: dict, content: Any) -> Location:
    """Where an error is. pydantic's location also names members of unions, such as `constrained-int`; they are not in
    the content."""
    path = []
    for part in details["loc"]:
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            continue
        path.append(part)
    return (*path, details["loc"][-1]) if details["type"] == "missing" else tuple(path)


def _alternatives(errors: list[dict]) -> str:
    """The messages of errors in one place, of which there is one per member of a union: `Input should be a or b`."""
    first, *others = dict.fromkeys(details["msg"].removeprefix("Value error, ") for details in errors)
    return " or ".join([first, *(message.removeprefix("Input should be ") for message in others)])


def _similar_key(model: type[pydantic.BaseModel], path: Location) -> str:
    """"; did you mean X?" for the known key that is most similar, in whichever section, or "; remove it".

    A key that another kind of the same section has, such as another kind of corpus, is to be removed.
    """
    def likeness(known: Location) -> float:
        ratio = difflib.SequenceMatcher(None, known[-1], str(path[-1])).ratio()
        return ratio + SAME_SECTION * _same_section(known, path) if ratio >= SIMILAR else 0.0

    known = sorted(_known_keys(model), key=len)         # of keys that are equally similar, the least nested one
    best = max(known, key=likeness)
    if _same_section(best, path):
        best = (*path[:-1], best[-1])
    if best == path or not likeness(best):
        return "; remove it"
    return f"; did you mean {_dotted(tuple(part for part in best if part is not None))}?"


def _same_section(known: Location, path: Location) -> bool:
    outer = zip(known[:-1], path[:-1], strict=False)
    return len(known) == len(path) and all(part in (None, other) for part, other in outer)


def _known_keys(model: type[pydantic.BaseModel], outer: tuple[type, ...] = ()) -> list[Location]:
    """The keys of a model and of the sections in it; None stands for any index of a list or key of a mapping."""
    keys: list[Location] = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        keys.append((key,))
        for index, section in _sections(field.annotation):
            if section not in (*outer, model):
                keys += [(key, *index, *rest) for rest in _known_keys(section, (*outer, model))]
    return keys


def _sections(annotation: Any) -> list[tuple[Location, type[pydantic.BaseModel]]]:
    """The models in a type, each with the indices that lead to it: (None,) in a list or mapping, else ()."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [((), annotation)]
    index = (None,) if get_origin(annotation) in (list, dict) else ()
    return [((*index, *rest), section) for part in get_args(annotation) for rest, section in _sections(part)]
