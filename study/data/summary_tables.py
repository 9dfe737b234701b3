"""The summaries of a study's data as tables, which the terminal, the report and MLflow show."""
from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STAGES = ("corpus", "tokenizer", "examples")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SummaryTable:
    """A table: its first column holds names, the others numbers as text."""
    header: list[str]
    rows: list[list[str]]


def read_summaries(runs: Path) -> dict[str, dict]:
    """Returns the summary.json of each stage that has written one. runs: the folder of the study's results."""
    paths = {stage: runs / stage / "summary.json" for stage in STAGES}
    return {stage: json.loads(path.read_text(encoding="utf-8")) for stage, path in paths.items() if path.exists()}


def warnings_of(summaries: dict[str, dict]) -> list[str]:
    """Returns the warnings of all stages, each once."""
    return list(dict.fromkeys(line for summary in summaries.values() for line in summary["warnings"]))


def summary_tables(summaries: dict[str, dict]) -> list[SummaryTable]:
    """Returns the tables of these stages. summaries: stage -> content of its summary.json."""
    tables: list[SummaryTable] = []
    if "corpus" in summaries:
        tables += _corpus_tables(summaries["corpus"])
    if "tokenizer" in summaries:
        facts = summaries["tokenizer"]
        tables.append(_table("tokenizer", ["vocabulary", "sentences read", "pieces per word", "[UNK]",
                                           "[UNK] in the text itself", "longest word, characters"],
                             [["training text", _count(facts["vocabulary"]), _count(facts["sentences"]),
                               f"{facts['pieces_per_word']:.2f}", _share(facts["unknown"], facts["pieces"]),
                               _share(facts["written_unknown"], facts["pieces"]), _count(facts["longest_word"])]]))
    if "examples" in summaries:
        splits = _ordered(summaries["examples"]["splits"])
        rows = [[split, *map(_count, (facts["tokens"], facts["documents"], facts["shorter_than_row"])),
                 _share(facts["unknown"], facts["tokens"])] for split, facts in splits]
        tables.append(_table("tokens", ["tokens", "documents", "shorter than a row", "[UNK]"], rows))
    return tables


def _corpus_tables(summary: dict) -> Iterator[SummaryTable]:
    yield _table("split", ["documents", "words", "empty", "duplicates", "also in training text", "shortest, words",
                           "longest"],
                 [[split, *map(_count, (facts["documents"], facts["words"], facts["empty"], facts["duplicates"])),
                   _overlap(facts, "in_training", "documents"), _count(facts["shortest"]), _count(facts["longest"])]
                  for split, facts in _ordered(summary["splits"])])
    for task, splits in summary["tasks"].items():
        yield _table(f"task {task}", ["rows", "words", "empty", "duplicates", "also in training rows",
                                      "also in the corpus", "shortest, words", "longest"],
                     [[split, *map(_count, (facts["rows"], facts["words"], facts["empty"], facts["duplicates"])),
                       _overlap(facts, "in_training", "rows"), _overlap(facts, "in_corpus", "rows"),
                       _count(facts["shortest"]), _count(facts["longest"])] for split, facts in _ordered(splits)])
        counts = [[rows for _, rows in facts["labels"]] for _, facts in _ordered(splits)]
        names = [name for name, _ in splits["train"]["labels"]]
        yield _table(f"classes of {task}", [split for split, _ in _ordered(splits)],
                     [[name, *map(_count, rows)] for name, *rows in zip(names, *counts, strict=True)])


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
