"""Data as people have it: functions that put it into a project, and what the stages make of it."""
import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tests.support.bad_input import Spoil, assert_refused, edited, edited_task, exit_status


@dataclass(frozen=True)
class Accepted:
    """The stages run, and `look` at the project then gives `value`."""
    look: Callable[[Path], object]
    value: object


@dataclass(frozen=True)
class Refused:
    """The last stage prints one line with these words, and writes nothing."""
    words: str


Situation = tuple[str, Spoil, Accepted | Refused]


def situations(table: list[Situation]) -> list:
    """Parameters for pytest: a function that makes the input, and the outcome."""
    assert len({name for name, *_ in table}) == len(table)
    return [pytest.param(*row[1:], id=row[0].replace(" ", "-")) for row in table]


def check(root: Path, base: Path, make: Spoil, outcome: Accepted | Refused, capsys, *stages: str) -> None:
    """Makes the input in a copy of `base`, runs the stages and checks the outcome."""
    if isinstance(outcome, Refused):
        def prepare(folder: Path) -> None:
            make(folder)
            assert [exit_status(folder, stage) for stage in stages[:-1]] == [0] * (len(stages) - 1)

        assert_refused(root, base, prepare, outcome.words, capsys, stages[-1])
        return
    shutil.copytree(base, root, symlinks=True)
    make(root)
    for stage in stages:
        assert exit_status(root, stage) == 0, capsys.readouterr().err
    assert outcome.look(root) == outcome.value


def every(*steps: Spoil) -> Spoil:
    """All these changes, one after the other."""
    def make(root: Path) -> None:
        for step in steps:
            step(root)
    return make


def files(folder: str, contents: dict[str, str | bytes]) -> Spoil:
    """Replaces a folder below data/ by these files. A name that ends in .gz is compressed."""
    def make(root: Path) -> None:
        shutil.rmtree(root / "data" / folder, ignore_errors=True)
        for name, content in contents.items():
            path = root / "data" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = content if isinstance(content, bytes) else content.encode()
            path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return make


def text_files(contents: dict[str, str | bytes], held_out: str | bytes, ending: str, **settings) -> Spoil:
    """A corpus of these files, and one file for each held-out split."""
    others = {f"{split}.{ending}": held_out for split in ("validation", "test")}
    return every(files("words", contents | others), edited("corpus", **settings))


def task_rows(train: dict | pd.DataFrame, test: dict | pd.DataFrame | None = None, **settings) -> Spoil:
    """The rows of the task, as columns, and settings of the task. The test rows are like the training rows if they are
    not given."""
    def make(root: Path) -> None:
        for split, columns in (("train", train), ("test", train if test is None else test)):
            pd.DataFrame(columns).to_parquet(root / f"data/topics/{split}.parquet", index=False)
    return every(make, edited_task(**settings))


def documents(root: Path, split: str = "train") -> list[list[list[str]]]:
    """The documents of a split of the corpus: paragraphs of sentences."""
    frame = pd.read_parquet(root / f"runs/tiny/corpus/{split}.parquet")
    return [[part.text.tolist() for _, part in document.groupby("paragraph")]
            for _, document in frame.groupby("document")]


def classes(root: Path, split: str = "train") -> list[int]:
    """The classes of the task's rows."""
    return pd.read_parquet(root / f"runs/tiny/corpus/probe-topic-{split}.parquet").label.tolist()


def summary(stage: str, *keys: str) -> Callable[[Path], object]:
    """Looks at a value in the summary of a stage."""
    def look(root: Path) -> object:
        content = json.loads((root / "runs/tiny" / stage / "summary.json").read_text())
        for key in keys:
            content = content[key]
        return content
    return look


def warned(stage: str, words: str) -> Callable[[Path], bool]:
    """Looks for a warning with these words."""
    return lambda root: any(words in line for line in summary(stage, "warnings")(root))


def pieces(text: str) -> Callable[[Path], list[str]]:
    """Looks at the pieces of a text."""
    def look(root: Path) -> list[str]:
        from study.data.tokenizer import load

        return load(root / "runs/tiny/tokenizer").encode(text, add_special_tokens=False).tokens
    return look
