"""Projects with one thing wrong, and the check that a command refuses them.

A `spoil` function changes something in the project whose root it gets. The functions here that return one are its
common kinds.
"""
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from study.cli.app import main
from tests.support.quick_yaml import dump_yaml, load_yaml
from tests.support.studies import ROOT, made_up_documents

Spoil = Callable[[Path], object]


def edited(section: str | None, **values) -> Spoil:
    """Changes keys of params.yaml, or of one of its sections."""
    def spoil(root: Path) -> None:
        path = root / "params.yaml"
        content = load_yaml(path.read_text())
        (content[section] if section else content).update(values)
        path.write_text(dump_yaml(content, sort_keys=False))
    return spoil


def edited_task(**values) -> Spoil:
    """Changes keys of the first probe task."""
    def spoil(root: Path) -> None:
        path = root / "params.yaml"
        content = load_yaml(path.read_text())
        content["probe"]["tasks"][0].update(values)
        path.write_text(dump_yaml(content, sort_keys=False))
    return spoil


def edited_finetuning(part: str, **values) -> Spoil:
    """Changes keys of the recipe for fine-tuning, or of its first task. part: recipe or task."""
    def spoil(root: Path) -> None:
        path = root / "params.yaml"
        content = load_yaml(path.read_text())
        (content["finetune"]["recipe"] if part == "recipe" else content["finetune"]["tasks"][0]).update(values)
        path.write_text(dump_yaml(content, sort_keys=False))
    return spoil


def edited_entry(file: str, name: str, **values) -> Spoil:
    """Changes keys of one arm or claim."""
    def spoil(root: Path) -> None:
        path = root / "experiments" / file
        content = load_yaml(path.read_text())
        content[name] |= values
        path.write_text(json.dumps(content))        # JSON is YAML, and none of its strings is read as a number
    return spoil


def written(name: str, content: bytes | str) -> Spoil:
    """Writes a file, over the one that is there."""
    def spoil(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return spoil


def removed(name: str) -> Spoil:
    """Removes a file or folder."""
    def spoil(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return spoil


def truncated(name: str, fraction: float = 0.5) -> Spoil:
    """Keeps only the first part of a file."""
    def spoil(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[:int(len(content) * fraction)])
    return spoil


def number_in(name: str, *keys: str, value) -> Spoil:
    """Changes one value in a JSON file."""
    def spoil(root: Path) -> None:
        content = json.loads((root / name).read_text())
        part = content
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        (root / name).write_text(json.dumps(content))
    return spoil


def settings_project(root: Path) -> None:
    """A project that has only the tiny study's settings."""
    (root / "experiments").mkdir(parents=True)
    for name in ("arms.yaml", "claims.yaml"):
        shutil.copy(ROOT / "experiments" / name, root / "experiments")
    params = (ROOT / "experiments/tiny/params.yaml").read_text().replace("root: ../..", "root: .")
    (root / "params.yaml").write_text(params.replace("trials: 2", "trials: 0"))


LINES = ["A made up line about nothing ."] * 40


def text_project(root: Path) -> None:
    """A project with a corpus and a probe task in local parquet files."""
    settings_project(root)
    texts = ["\n".join(" ".join(paragraph) for paragraph in document) for document in made_up_documents(30)]
    (root / "data/words").mkdir(parents=True)
    (root / "data/topics").mkdir()
    for split in ("train", "validation", "test"):
        pd.DataFrame({"text": texts}).to_parquet(root / f"data/words/{split}.parquet", index=False)
    for split in ("train", "test"):
        pd.DataFrame({"text": LINES, "label": [i % 2 for i in range(40)]}).to_parquet(
            root / f"data/topics/{split}.parquet", index=False)
    edited(None, corpus={
        "kind": "text", "path": "nobody/words", "name": None, "revision": None, "local": "words", "column": "text",
        "splits": {"train": "train", "validation": "validation", "test": "test"}, "layout": "documents",
        "language": "en", "max_documents": None, "quote": False})(root)
    edited("tokenizer", source="train", vocabulary_size=90)(root)
    edited_task(path="nobody/topics", local="topics", labels=["a", "b"])(root)


def exit_status(root: Path, *arguments: str) -> int:
    """Runs a command in this process, in the folder `root`, without the hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("sys.argv", ["study", *arguments])
        patch.setenv("HF_HUB_OFFLINE", "1")
        try:
            main()
        except SystemExit as end:
            return end.code or 0
        return 0


def _files(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in root.rglob("*") if path.is_file()}


def assert_refused(root: Path, base: Path, spoil: Spoil, message: str, capsys, *command: str) -> None:
    """The command on a spoiled copy of `base` prints one line with the message, exits with 2 and writes nothing."""
    shutil.copytree(base, root, symlinks=True)
    spoil(root)
    before = _files(root)
    capsys.readouterr()
    status, printed = exit_status(root, *command), capsys.readouterr().err
    lines = [line for line in printed.splitlines() if line.strip()]
    assert len(lines) == 1, printed
    assert lines[0].startswith("error: ")
    assert message in lines[0], lines[0]
    assert status == 2
    assert _files(root) == before


def cases(table: list[tuple]) -> list:
    """Parameters for pytest from rows of (name, ..., spoil, message), or (command, name, spoil, message)."""
    return [pytest.param(*row[:-3], *row[-2:], id="-".join(row[:-2]).replace(" ", "-")) for row in table]
