"""Labels as a data set has them, turned into the numbers of the classes: the places of their names in `labels`.

    in the data                    its class
    0, 1, ...                      that number
    words                          the name that is the same word
    0, 1, ... with names in the data (ClassLabel)    the name that is the same; the orders of the two may differ
    anything else                  its place in `label_values`
"""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np

from study import StudyError
from study.config.schema import ProbeTask

if TYPE_CHECKING:
    from pandas import Series

UNLABELLED = -1                             # what data sets write for a label that is not given
SHOWN_LABELS = 10                           # labels in an error


def class_numbers(task: ProbeTask, labels: Series, names: list[str] | None, where: str) -> np.ndarray:
    """Returns the class of each row, (rows,) int64, and -1 for rows to leave out.

    labels (rows,): as in the data. names: those that the data set has for 0, 1, ... (ClassLabel), None without. where:
    the task and split, for errors. Raises StudyError if a label has no class, or if names and classes contradict
    each other.
    """
    values = _plain(task, labels, where)
    mapping = _mapping(task, names, values, where) | dict.fromkeys(task.ignored_labels, -1)
    found = Counter(values)
    if unknown := [value for value in found if value not in mapping]:
        raise StudyError(_no_class(task, found, unknown, where))
    return np.array([mapping[value] for value in values], np.int64)


def renamed(task: ProbeTask, names: list[str] | None) -> str | None:
    """Returns a remark on a data set whose own names of the classes are other words than those of the settings."""
    if names is None or task.label_values is not None or set(map(_key, names)) & set(map(_key, task.labels)):
        return None
    pairs = ", ".join(f"{name} is called {label}" for name, label in zip(names, task.labels, strict=False))
    return f"{task.name}: the data has other names of the classes: {pairs}"


def _plain(task: ProbeTask, labels: Series, where: str) -> list[Hashable]:
    """The labels as Python values. Words that are all whole numbers become numbers, as in tables without types."""
    values = labels.tolist()
    for row, value in enumerate(values):
        if not isinstance(value, Hashable):
            raise StudyError(f"{where}: row {row}: column {task.label!r} holds {value!r:.40}, not one label")
    named = {*task.labels, *(task.label_values or ())}
    if all(isinstance(value, str) and re.fullmatch(r"-?\d+", value) for value in values) and not named & set(values):
        return [int(value) for value in values]
    return values


def _mapping(task: ProbeTask, names: list[str] | None, values: list[Hashable], where: str) -> dict[Hashable, int]:
    """Label -> class."""
    if task.label_values is not None:
        classes: dict[Hashable, int] = {value: number for number, value in enumerate(task.label_values)}
        by_name = {index: classes[name] for index, name in enumerate(names or ()) if name in classes}
        return by_name or classes
    if any(isinstance(value, str) for value in values):
        return {name: number for number, name in enumerate(task.labels)}
    if names is not None:
        return _by_name(task, names, where)
    return {number: number for number in range(len(task.labels))}


def _by_name(task: ProbeTask, names: list[str], where: str) -> dict[Hashable, int]:
    """Number in the data -> class, by the names of both. Upper case and punctuation do not count."""
    ours = {_key(label): number for number, label in enumerate(task.labels)}
    theirs = {_key(name): number for number, name in enumerate(names)}
    if len(ours) == len(task.labels) and len(theirs) == len(names) and theirs.keys() >= ours.keys():
        return {theirs[key]: number for key, number in ours.items()}
    moved = [key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]]
    if moved:
        name = names[theirs[moved[0]]]
        raise StudyError(f"{where}: the data calls its classes {', '.join(names)}, and probe.tasks.labels are "
                         f"{', '.join(task.labels)}: {name} is not in the same place; use the names of the data")
    return {number: number for number in range(len(task.labels))}


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold()) or name


def _no_class(task: ProbeTask, found: Counter, unknown: list[Hashable], where: str) -> str:
    """The message about labels without a class: what was found, and the setting that maps it."""
    order = sorted(found, key=lambda value: (isinstance(value, str), value))
    shown = ", ".join(map(repr, order[:SHOWN_LABELS])) + (", ..." if len(order) > SHOWN_LABELS else "")
    rest = [value for value in order if value != UNLABELLED and value not in task.ignored_labels]
    if not rest:
        return (f"{where}: every label is {UNLABELLED}, which marks rows without one; the labels of this split are "
                f"hidden, so name another split in `splits`")
    remedies = []
    if UNLABELLED in unknown:
        remedies.append(f"{found[UNLABELLED]} rows have {UNLABELLED}, which marks rows without a label: leave them out "
                        f"with `ignored_labels: [{UNLABELLED}]`")
    if [value for value in unknown if value != UNLABELLED]:
        if len(rest) == len(task.labels):
            remedies.append(f"say which is which with `label_values: [{', '.join(map(str, rest))}]`, in the order of "
                            f"the names")
        else:
            remedies.append(f"give probe.tasks.labels a name for each of the {len(rest)}, and `label_values` in the "
                            f"same order")
    return (f"{where}: labels [{shown}] do not match the {len(task.labels)} names in probe.tasks.labels "
            f"({', '.join(task.labels)}); {'; '.join(remedies)}")
