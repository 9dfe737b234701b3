"""Unusable text: one line that names the file, column or row and says what to do, exit status 2, nothing written."""
from pathlib import Path

import pandas as pd
import pytest

from tests.support.bad_input import (
    LINES,
    assert_refused,
    cases,
    edited,
    edited_task,
    exit_status,
    removed,
    text_project,
    truncated,
    written,
)


def rows(split: str, **columns):
    """Replaces the rows of a split of the corpus."""
    def spoil(root: Path) -> None:
        pd.DataFrame(columns).to_parquet(root / f"data/words/{split}.parquet", index=False)
    return spoil


def labels(values):
    """Replaces the labels of the probe task's training rows."""
    def spoil(root: Path) -> None:
        path = root / "data/topics/train.parquet"
        frame = pd.read_parquet(path)
        frame["label"] = [values[i % len(values)] for i in range(len(frame))]
        frame.to_parquet(path, index=False)
    return spoil


TEXT = [
    ("empty corpus", rows("train", text=[]), "train.parquet: has no rows"),
    ("one document", rows("train", text=LINES[:1]), "1 documents with text; at least 2 are needed"),
    ("blank rows", rows("train", text=["", " ", "\n"]), "0 documents with text"),
    ("not parquet", written("data/words/train.parquet", b"\x00\x01" * 999), "train.parquet: cannot be read as parquet"),
    ("cut parquet", truncated("data/words/train.parquet"), "train.parquet: cannot be read as parquet"),
    ("missing column", rows("train", words=LINES), "no column 'text'; it has words"),
    ("numbers for text", rows("train", text=list(range(40))), "row 0: column 'text' holds 0, not text"),
    ("null row", rows("train", text=[*LINES, None, *LINES]), "row 40: column 'text' holds None, not text"),
    ("gigantic line", rows("train", text=[*LINES, "word " * 3_000_000]), "row 40"),
    ("no such split", removed("data/words/validation.parquet"),
     "words: it has test.parquet, train.parquet; put validation.parquet"),
    ("labels out of range", labels([0, 1, 7]), "labels [0, 1, 7] do not match the 2 names"),
    ("negative labels", labels([-1, 0, 1]), "labels [-1, 0, 1] do not match"),
    ("labels that are words", labels(["a", "c"]), "labels ['a', 'c'] do not match"),
    ("a label alone", labels([0]), "labels [0] do not match the 2 names"),
    ("label column", edited_task(label="class"), "no column 'class'; it has text, label"),
    ("rows without text", lambda root: pd.DataFrame({"text": ["a", None], "label": [0, 1]}).to_parquet(
        root / "data/topics/test.parquet"), "row 1: column 'text' has no value"),
    ("one draw takes all rows", edited_task(train_rows=40, draws=2),
     "40 training rows are too few for 2 draws of 40; lower probe.tasks.train_rows"),
    ("one draw leaves out one row", edited_task(train_rows=39, draws=2), "too few for 2 draws of 39"),
    ("a class too small for a draw", lambda root: (labels([0] * 7 + [1])(root),
                                                   edited_task(train_rows=8, draws=5)(root)),
     "a class has 1 training rows, fewer than probe.folds (2); raise probe.tasks.train_rows"),
    ("topics of a text", edited_task(path="corpus"), "path `corpus` means the synthetic corpus's topics"),
]
TOKENIZER = [
    ("no such vocabulary", edited("tokenizer", source="nowhere.txt"), "nowhere.txt: no such file"),
    ("specials", lambda root: (written("words.txt", "a\nb\n[PAD]\n")(root),
                               edited("tokenizer", source="words.txt")(root)),
     "the vocabulary lacks [UNK], [CLS], [SEP], [MASK]"),
    ("a word twice", lambda root: (written("words.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\na\n")(root),
                                   edited("tokenizer", source="words.txt")(root)), "'a' appears twice"),
    ("no corpus", removed("runs/tiny/corpus"), "run `study corpus`"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Text as downloaded, and a copy in which the corpus stage has run."""
    root = tmp_path_factory.mktemp("text")
    text_project(root / "downloaded")
    text_project(root / "imported")
    assert exit_status(root / "imported", "corpus") == 0
    return root


def test_the_text_is_usable_before_it_is_spoiled(project):
    assert exit_status(project / "imported", "tokenizer") == 0


@pytest.mark.parametrize(("spoil", "message"), cases(TEXT))
def test_unusable_text_is_refused(project, tmp_path, capsys, spoil, message):
    assert_refused(tmp_path / "root", project / "downloaded", spoil, message, capsys, "corpus")


@pytest.mark.parametrize(("spoil", "message"), cases(TOKENIZER))
def test_an_unusable_vocabulary_is_refused(project, tmp_path, capsys, spoil, message):
    assert_refused(tmp_path / "root", project / "imported", spoil, message, capsys, "tokenizer")
