"""The summaries of a study's data as tables, which the terminal, the report and MLflow show."""
from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from study.config.study import Study

STAGES = ("corpus", "tokenizer", "examples")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SummaryTable:
    """A table: its first column holds names, the others numbers as text."""
    header: list[str]
    rows: list[list[str]]


def summarised_tasks(study: Study) -> list[str]:
    """Returns the fine-tuning tasks whose rows the study's results depend on: none if no arm is fine-tuned."""
    finetune = study.settings.finetune
    return [task.name for task in finetune.tasks] if finetune.arms else []


def summary_files(runs: Path, tasks: Iterable[str] = ()) -> list[Path]:
    """Returns the summary.json of each stage, and of each of these fine-tuning tasks, that has written one.

    runs: the folder of the study's results.
    """
    folders = [*(runs / stage for stage in STAGES), *(runs / "tasks" / task for task in tasks)]
    return [path for folder in folders if (path := folder / "summary.json").exists()]


def read_summaries(runs: Path, tasks: Iterable[str] = ()) -> dict[str, dict]:
    """Returns the content of these files by stage. That of the stage `tasks` has `tasks`, the splits of each task, and
    the warnings of all tasks."""
    found: dict[str, dict] = {}
    for path in summary_files(runs, tasks):
        content, name = json.loads(path.read_text(encoding="utf-8")), path.parent.name
        if path.parent.parent == runs:
            found[name] = content
        else:
            of_tasks = found.setdefault("tasks", {"tasks": {}, "warnings": []})
            of_tasks["tasks"][name] = content["splits"]
            of_tasks["warnings"] += content["warnings"]
    return found


def warnings_of(summaries: dict[str, dict]) -> list[str]:
    """Returns the warnings of all stages, each once."""
    return list(dict.fromkeys(line for summary in summaries.values() for line in summary["warnings"]))


def summary_tables(summaries: dict[str, dict]) -> list[SummaryTable]:
    """Returns the tables of these stages. summaries: stage -> content of its summary.json."""
    tables: list[SummaryTable] = []
    if "corpus" in summaries:
        tables += _corpus_tables(summaries["corpus"])
    if "tokenizer" in summaries:
        tables.append(_tokenizer_table(summaries["tokenizer"]))
    if "examples" in summaries:
        splits = _ordered(summaries["examples"]["splits"])
        rows = [[split, *map(_count, (facts["tokens"], facts["documents"], facts["shorter_than_row"])),
                 _share(facts["unknown"], facts["tokens"])] for split, facts in splits]
        tables.append(_table("tokens", ["tokens", "documents", "shorter than a row", "[UNK]"], rows))
    for task, splits in summaries.get("tasks", {"tasks": {}})["tasks"].items():
        tables += _task_tables(f"fine-tuning task {task}", splits)
    return tables


def _tokenizer_table(facts: dict) -> SummaryTable:
    """Counts of the training text. Characters are counted if the pieces alone would mislead."""
    columns = {"vocabulary": _count(facts["vocabulary"]), "sentences read": _count(facts["sentences"]),
               "pieces per word": f"{facts['pieces_per_word']:.2f}", "[UNK]": _share(facts["unknown"], facts["pieces"])}
    if "unknown_characters" in facts:
        columns["characters in [UNK]"] = _share(facts["unknown_characters"], facts["characters"])
    columns |= {"[UNK] in the text itself": _share(facts["written_unknown"], facts["pieces"]),
                "longest word, characters": _count(facts["longest_word"])}
    return _table("tokenizer", list(columns), [["training text", *columns.values()]])


def _corpus_tables(summary: dict) -> Iterator[SummaryTable]:
    yield _counts_table("split", "documents", summary["splits"], {"in_training": "also in training text",
                                                                  "in_validation": "also in validation text"})
    for task, splits in summary["tasks"].items():
        yield from _task_tables(f"task {task}", splits)


def _task_tables(name: str, splits: dict[str, dict]) -> Iterator[SummaryTable]:
    """The rows of a task by split, and by class. name: `task` or `fine-tuning task`, and what it is called."""
    yield _counts_table(name, "rows", splits, {"in_training": "also in training rows",
                                               "in_corpus": "also in the corpus"})
    counts = [[rows for _, rows in facts["labels"]] for _, facts in _ordered(splits)]
    labels = [label for label, _ in splits["train"]["labels"]]
    yield _table(f"classes of {name.removeprefix('task ')}", [split for split, _ in _ordered(splits)],
                 [[label, *map(_count, rows)] for label, *rows in zip(labels, *counts, strict=True)])


def _counts_table(name: str, unit: str, splits: dict[str, dict], overlaps: dict[str, str]) -> SummaryTable:
    """Counts of the texts of each split. overlaps: key -> column, for those that a split has."""
    shown = {key: column for key, column in overlaps.items() if any(key in facts for facts in splits.values())}
    rows = [[split, *map(_count, (facts[unit], facts["words"], facts["empty"], facts["duplicates"])),
             *(_overlap(facts, key, unit) for key in shown), _count(facts["shortest"]), _count(facts["longest"])]
            for split, facts in _ordered(splits)]
    return _table(name, [unit, "words", "empty", "duplicates", *shown.values(), "shortest, words", "longest"], rows)


def _ordered(splits: dict[str, dict]) -> list[tuple[str, dict]]:
    """The splits in their usual order. JSON that was sorted has another one."""
    return [(split, splits[split]) for split in SPLITS if split in splits]


def _table(name: str, columns: list[str], rows: list[list[str]]) -> SummaryTable:
    return SummaryTable([name, *columns], rows)


def _count(number: int) -> str:
    return f"{number:,}"


def _overlap(facts: dict, key: str, unit: str) -> str:
    return _share(facts[key], facts[unit]) if key in facts else ""


def _share(part: int, whole: int) -> str:
    """A count with its share, such as `12 (0.34 %)`."""
    return f"{part:,} ({part / max(1, whole):.2%})" if part else "0"
