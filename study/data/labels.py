"""Labels as a data set has them, turned into the numbers of the classes: the places of their names in `labels`.

    in the data                    its class
    0, 1, ...                      that number; if names are whole numbers in other places, the name that is the same
    words                          the name that is the same, or differs in upper case and punctuation only
    true, false                    as for these words
    0, 1, ... with names in the data (ClassLabel)    as for words; the orders of the two may differ
    anything else                  its place in `label_values`
"""
from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from study import StudyError
from study.config.schema import ProbeTask

if TYPE_CHECKING:
    from pandas import Series

WHOLE_NUMBER = re.compile(r"-?\d+")
UNLABELLED = -1                             # what data sets write for a label that is not given
SHOWN_LABELS = 10                           # labels in an error


def class_numbers(task: ProbeTask, labels: Series, names: list[str] | None, where: str,
                  section: str = "probe.tasks") -> np.ndarray:
    """Returns the class of each row, (rows,) int64, and -1 for rows to leave out.

    labels (rows,): as in the data. names: those that the data set has for 0, 1, ... (ClassLabel), None without. where:
    the task and split, for errors. section: of the settings, with the task. Raises StudyError if a label has no class,
    or if names and classes contradict each other.
    """
    values = _plain(task, labels, where)
    mapping = _mapping(task, names, values, where, section) | dict.fromkeys(_ignored(task), -1)
    counts = Counter(values)
    if unknown := [value for value in counts if value not in mapping]:
        raise StudyError(_no_class(task, counts, unknown, where, section))
    return np.array([mapping[value] for value in values], np.int64)


def renamed(task: ProbeTask, names: list[str] | None) -> str | None:
    """Returns a remark on a data set that has another name for the one class that `_by_name` found by its place."""
    if names is None or task.label_values is not None or set(map(_key, names)) >= set(map(_key, task.labels)):
        return None
    pairs = [f"{name} is called {label}" for name, label in zip(names, task.labels, strict=False)
             if _key(name) != _key(label)]
    return f"{task.name}: the data has another name of a class: {', '.join(pairs)}" if pairs else None


def _plain(task: ProbeTask, labels: Series, where: str) -> list[Hashable]:
    """The labels as Python values, with booleans as words. Words that are all whole numbers, apart from those to leave
    out, become numbers, as in tables without types, unless one is a name or one of the values in the settings."""
    values = labels.tolist()
    for row, value in enumerate(values):
        if not isinstance(value, Hashable):
            raise StudyError(f"{where}: row {row}: column {task.label!r} holds {value!r:.40}, not one label")
    values = _with_words(values)
    named = set(task.labels if task.label_values is None else _with_words(task.label_values))
    kept = set(values) - set(_ignored(task))
    if all(isinstance(value, str) and WHOLE_NUMBER.fullmatch(value) for value in kept) and not named & kept:
        return [int(value) if value in kept else value for value in values]
    return values


def _with_words(values: Iterable[Hashable]) -> list[Hashable]:
    """The values, with booleans as the words true and false. As numbers they would be 1 and 0, the places of names."""
    return [str(value).lower() if isinstance(value, bool) else value for value in values]


def _ignored(task: ProbeTask) -> list[Hashable]:
    """The values of rows to leave out."""
    return _with_words(task.ignored_labels)


def _mapping(task: ProbeTask, names: list[str] | None, values: list[Hashable], where: str,
             section: str) -> dict[Hashable, int]:
    """Label -> class."""
    if task.label_values is not None:
        classes = {value: number for number, value in enumerate(_with_words(task.label_values))}
        by_name = {index: classes[name] for index, name in enumerate(names or ()) if name in classes}
        return by_name or classes
    words = [value for value in dict.fromkeys(values) if isinstance(value, str) and value not in _ignored(task)]
    if words:
        return _by_word(task.labels, words)
    if names is not None:
        return _by_name(task, names, where, section)
    return _by_number(task.labels, values)


def _by_number(labels: list[str], values: list[Hashable]) -> dict[Hashable, int]:
    """Number in the data -> class: the place. If a number is a name in another place, all numbers are names, as they
    would be in a table without types: with the names 1 and 0, the number 1 is the first class."""
    named = {int(label): number for number, label in enumerate(labels)
             if WHOLE_NUMBER.fullmatch(label) and str(int(label)) == label}
    if any(named.get(value, value) != value for value in values):
        return named
    return {number: number for number in range(len(labels))}


def _by_word(labels: list[str], words: list[str]) -> dict[Hashable, int]:
    """Word in the data -> class: of the same name, else of the only name that differs in upper case and punctuation
    only. Words that differ from each other in no more than that must be names themselves."""
    ours, theirs = Counter(map(_key, labels)), Counter(map(_key, words))
    only = {_key(label): number for number, label in enumerate(labels) if ours[_key(label)] == 1}
    near = {word: only[_key(word)] for word in words if theirs[_key(word)] == 1 and _key(word) in only}
    return near | {name: number for number, name in enumerate(labels)}


def _by_name(task: ProbeTask, names: list[str], where: str, section: str) -> dict[Hashable, int]:
    """Number in the data -> class, by the names of both: by the same names, else by names that differ in upper case and
    punctuation only. If all names but one agree and are in the same places, that one is found by its place."""
    exact = {name: number for number, name in enumerate(names)}
    if exact.keys() >= set(task.labels):
        return {exact[label]: number for number, label in enumerate(task.labels)}
    ours = {_key(label): number for number, label in enumerate(task.labels)}
    theirs = {_key(name): number for number, name in enumerate(names)}
    both = f"the data calls its classes {', '.join(names)}, and {section}.labels are {', '.join(task.labels)}"
    remedy = f"use the names of the data, or {_label_values_remedy(task.labels, names)}"
    if len(ours) < len(task.labels) or len(theirs) < len(names):
        raise StudyError(f"{where}: {both}: some differ in punctuation only; {remedy}")
    if theirs.keys() >= ours.keys():
        return {theirs[key]: number for key, number in ours.items()}
    if not (same := ours.keys() & theirs.keys()):
        raise StudyError(f"{where}: {both}: none is the same; {remedy}")
    if moved := [key for key in ours if key in same and ours[key] != theirs[key]]:
        raise StudyError(f"{where}: {both}: {names[theirs[moved[0]]]} is not in the same place; {remedy}")
    other_names, other_labels = (len(keys) - len(same) for keys in (theirs, ours))
    if other_names > 1 or other_names == 1 and other_labels > 1:
        raise StudyError(f"{where}: {both}: several differ; {remedy}")
    return {number: number for number in range(len(task.labels))}


def _label_values_remedy(labels: list[str], values: list[Hashable]) -> str:
    """The setting that gives values of the data to the classes. Values that resemble a name come to its place, the
    others in their order to the places that are left. If a value resembles several names, or names and values differ in
    number, no values are listed."""
    places: dict[int, Hashable] = {}
    rest = list(values)
    for form in (str, str.casefold, _key):
        words = Counter(form(str(value)) for value in rest)
        free = {number: form(label) for number, label in enumerate(labels) if number not in places}
        for number, word in free.items():
            if words[word] == 1 and list(free.values()).count(word) == 1:
                places[number] = next(value for value in rest if form(str(value)) == word)
        rest = [value for value in rest if value not in places.values()]
    names = {_key(label) for label in labels}
    if len(labels) != len(values) or any(_key(str(value)) in names for value in rest):
        return "say which is which with `label_values`, in the order of the names"
    listed = [places[number] if number in places else rest.pop(0) for number in range(len(labels))]
    meant = [f"{value} is {label}" for value, label in zip(listed, labels, strict=True)]
    more = ", ..." if len(meant) > SHOWN_LABELS else ""
    values_in_yaml = ", ".join(json.dumps(value, ensure_ascii=False) for value in listed)   # YAML reads `yes` as true
    return (f"say which is which with `label_values: [{values_in_yaml}]`, in the order of the names "
            f"({', '.join(meant[:SHOWN_LABELS])}{more})")


def _key(name: str) -> str:
    """A name without upper case and punctuation. Marks stay: in some scripts they are vowels."""
    kept = (character for character in name.casefold()
            if character.isalnum() or unicodedata.category(character).startswith("M"))
    return "".join(kept) or name


def _no_class(task: ProbeTask, counts: Counter, unknown: list[Hashable], where: str, section: str) -> str:
    """The message about labels without a class: those in the data, and the setting that maps them. counts: rows of each
    label."""
    order = sorted(counts, key=lambda value: (isinstance(value, str), value))
    shown = ", ".join(map(repr, order[:SHOWN_LABELS])) + (", ..." if len(order) > SHOWN_LABELS else "")
    rest = [value for value in order if value != UNLABELLED and value not in _ignored(task)]
    if not rest:
        return (f"{where}: every label is {UNLABELLED}, which marks rows without one; the labels of this split are "
                f"hidden, so name another split in `splits`")
    remedies = []
    if UNLABELLED in unknown:
        remedies.append(f"{counts[UNLABELLED]} rows have {UNLABELLED}, which marks rows without a label: leave them "
                        f"out with `ignored_labels: [{UNLABELLED}]`")
    if [value for value in unknown if value != UNLABELLED]:
        if not all(isinstance(value, (int, str)) for value in rest):
            remedies.append(f"convert the column {task.label!r} to whole numbers or words")
        elif len(rest) == len(task.labels):
            remedies.append(_label_values_remedy(task.labels, rest))
        else:
            remedies.append(f"give {section}.labels a name for each of the {len(rest)}, and `label_values` in the "
                            f"same order")
    return (f"{where}: labels [{shown}] do not match the {len(task.labels)} names in {section}.labels "
            f"({', '.join(task.labels)}); {'; '.join(remedies)}")
