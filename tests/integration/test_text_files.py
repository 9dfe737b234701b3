"""Text in the files that people have it in: what the corpus stage makes of each, and the line that refuses it."""
import gzip
import json
import shutil
import socket
import sys
import time
from pathlib import Path

import datasets
import pandas as pd
import pytest

from study.data.summary_tables import summary_tables
from tests.support.bad_input import LINES, edited, edited_task, exit_status, removed, text_project, written
from tests.support.inputs import (
    Accepted,
    Refused,
    check,
    documents,
    every,
    files,
    situations,
    summary,
    task_rows,
    text_files,
)
from tests.support.project import run
from tests.support.quick_yaml import dump_yaml, load_yaml
from tests.support.studies import ROOT

TWO = ["A cat sat. It ran.", "Dogs bark."]
AS_TWO = [[["A cat sat.", "It ran."]], [["Dogs bark."]]]
BY_LINE = "A cat sat. It ran.\nDogs bark.\n"
PARTS = [[["A cat sat."], ["It ran."]], [["Dogs bark."]]]          # the first document has two paragraphs
LABELS = [number % 2 for number in range(40)]


def as_json(texts: list[str], lines: bool) -> str:
    rows = [{"text": text} for text in texts]
    return "".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows)


def parquet(texts: list[str], tmp: Path) -> bytes:
    pd.DataFrame({"text": texts}).to_parquet(tmp / "part.parquet", index=False)
    return (tmp / "part.parquet").read_bytes()


def shards(count: int, said: int, digits: str = "", folder: str = ""):
    """A training split in shards, as the hub has it, whose names say how many there are."""
    def make(root: Path) -> None:
        (root / "data/words/train.parquet").unlink()
        (root / "data/words" / folder).mkdir(exist_ok=True)
        for number in range(count):
            name = f"data/words/{folder}train-{number:05}-of-{said:05}{digits}.parquet"
            (root / name).write_bytes(parquet([f"Part {number}."] * 2, root))
    return make


def saved(root: Path) -> None:
    """The corpus as `save_to_disk` writes it."""
    removed("data/words")(root)
    parts = {split: datasets.Dataset.from_dict({"text": TWO}) for split in ("train", "validation", "test")}
    datasets.DatasetDict(parts).save_to_disk(str(root / "data/words"))


def named(folder: str):
    """Moves the corpus to a folder of another name."""
    return every(lambda root: (root / "data/words").rename(root / "data" / folder), edited("corpus", local=folder))


def finetuned(**values):
    """Changes keys of the first fine-tuning task."""
    def make(root: Path) -> None:
        content = load_yaml((root / "params.yaml").read_text())
        content["finetune"]["tasks"][0] |= values
        (root / "params.yaml").write_text(dump_yaml(content, sort_keys=False))
    return make


pairs = edited("evaluation", minimal_pairs=[{
    "name": "pairs", "path": "nobody/pairs", "revision": None, "local": "pairs", "splits": {"test": "train"},
    "good": "good", "bad": "bad", "phenomenon": None, "paradigm": None, "pairs_per_paradigm": None}])


def count(root: Path) -> int:
    return len(documents(root))


TEXT = [
    ("a document per line", text_files({"train.txt": BY_LINE}, BY_LINE, "txt"), Accepted(documents, AS_TWO)),
    ("a document per file", text_files({"train/a.txt": "A cat sat.\nIt ran.", "train/b.txt": "Dogs bark.",
                                        "validation/a.txt": "One.", "validation/b.txt": "Two.", "test/a.txt": "One.",
                                        "test/sub/b.txt": "Two."}, b"", "none", layout="files"),
     Accepted(documents, PARTS)),
    ("a sentence per line", text_files({"train.txt": "A cat sat.\nIt ran. Fast.\n\n\nDogs bark.\n"}, "One.\n\nTwo.\n",
                                       "txt", layout="sentences"),
     Accepted(documents, [[["A cat sat.", "It ran. Fast."]], [["Dogs bark."]]])),
    ("lines of WikiText", text_files({"train.txt": "\n = One = \n\n A cat . \n\n = Two = \n\n Dogs . \n"},
                                     "\n = One = \n\n A cat . \n\n = Two = \n\n Dogs . \n", "txt", layout="wikitext"),
     Accepted(documents, [[["A cat ."]], [["Dogs ."]]])),
    ("compressed text", text_files({"train.txt.gz": BY_LINE}, BY_LINE, "txt.gz"), Accepted(documents, AS_TWO)),
    ("a byte-order mark", text_files({"train.txt": b"\xef\xbb\xbf" + BY_LINE.encode()}, BY_LINE, "txt"),
     Accepted(documents, AS_TWO)),
    ("lines of Windows", text_files({"train.txt": BY_LINE.replace("\n", "\r\n")}, BY_LINE, "txt"),
     Accepted(documents, AS_TWO)),
    ("a line separator in a line", text_files({"train.txt": "A\u2028cat\u0085sat.\nDogs bark."}, BY_LINE, "txt"),
     Accepted(count, 2)),
    ("csv", text_files({"train.csv": 'id,text\n1,"A cat sat. It ran."\n2,Dogs bark.\n'}, "text\nOne.\nTwo.\n", "csv"),
     Accepted(documents, AS_TWO)),
    ("compressed csv", text_files({"train.csv.gz": "text\nA cat sat. It ran.\nDogs bark.\n"}, "text\nOne.\nTwo.\n",
                                  "csv.gz"), Accepted(documents, AS_TWO)),
    ("paragraphs in csv", text_files({"train.csv": 'text\n"A cat sat.\nIt ran."\nDogs bark.\n'}, "text\nOne.\nTwo.\n",
                                     "csv"), Accepted(documents, PARTS)),
    ("words that mean missing elsewhere", text_files({"train.csv": "text\nNA\nNone\nnull\n"}, "text\nOne.\nTwo.\n",
                                                     "csv"), Accepted(documents, [[["NA"]], [["None"]], [["null"]]])),
    ("numbers as text in csv", text_files({"train.csv": "text\n007\n1e5\n"}, "text\nOne.\nTwo.\n", "csv"),
     Accepted(documents, [[["007"]], [["1e5"]]])),
    ("a late blank in a column of numbers", text_files(
        {"train.csv": "text,id\n" + "A cat.,1\n" * 10_001 + "Dogs.,\nDogs.,none\n"}, "text\nOne.\nTwo.\n", "csv"),
     Accepted(count, 10_003)),
    ("a row that is too short", text_files({"train.csv": "id,text,note\n1,A cat.,x\n2,Dogs.\n"}, "text\nOne.\nTwo.\n",
                                           "csv"), Accepted(documents, [[["A cat."]], [["Dogs."]]])),
    ("tsv", text_files({"train.tsv": "text\tid\nA cat sat. It ran.\t1\nDogs bark.\t2\n"}, "text\nOne.\nTwo.\n", "tsv"),
     Accepted(documents, AS_TWO)),
    ("a lone quote in tsv", text_files({"train.tsv": 'text\tid\n"A cat\t1\nDogs\t2\n'}, "text\nOne.\nTwo.\n", "tsv"),
     Accepted(documents, [[['"A cat']], [["Dogs"]]])),
    ("json array", text_files({"train.json": as_json(TWO, False)}, as_json(TWO, False), "json"),
     Accepted(documents, AS_TWO)),
    ("json lines", text_files({"train.jsonl": as_json(TWO, True)}, as_json(TWO, True), "jsonl"),
     Accepted(documents, AS_TWO)),
    ("compressed json lines", text_files({"train.jsonl.gz": as_json(TWO, True)}, as_json(TWO, True), "jsonl.gz"),
     Accepted(documents, AS_TWO)),
    ("shards", shards(2, 2), Accepted(documents, [[["Part 0."]]] * 2 + [[["Part 1."]]] * 2)),
    ("shards with hashes", shards(2, 2, "-a09b74b3ef9c3b56"),
     Accepted(documents, [[["Part 0."]]] * 2 + [[["Part 1."]]] * 2)),
    ("shards of a repository of the hub", shards(2, 2, "-a09b74b3ef9c3b56", "data/"),
     Accepted(documents, [[["Part 0."]]] * 2 + [[["Part 1."]]] * 2)),
    ("a point in the name of a split", text_files({"wiki.train.txt": BY_LINE}, BY_LINE, "txt", splits={
        "train": "wiki.train", "validation": "validation", "test": "test"}), Accepted(documents, AS_TWO)),
    ("a sum of splits", text_files({"train.txt": BY_LINE}, BY_LINE, "txt", splits={
        "train": "train+extra", "validation": "validation", "test": "test"}), Accepted(documents, AS_TWO)),
    ("parts in a folder", text_files({"train/1.jsonl": as_json(TWO, True), "train/2.jsonl": as_json(TWO, True)},
                                     as_json(TWO, True), "jsonl"), Accepted(documents, AS_TWO * 2)),
    ("hidden copies of parts", text_files({"train/1.txt": BY_LINE, "train/.ipynb_checkpoints/1-copy.txt": BY_LINE},
                                          BY_LINE, "txt"), Accepted(documents, AS_TWO)),
    ("saved to disk", saved, Accepted(documents, AS_TWO)),
    ("a chosen format", every(written("data/words/train.txt", BY_LINE), written("data/words/test.txt", BY_LINE),
                              written("data/words/validation.txt", BY_LINE), edited("corpus", format="text")),
     Accepted(documents, AS_TWO)),
    ("another name of a split", every(
        lambda root: (root / "data/words/validation.parquet").rename(root / "data/words/dev.parquet"),
        edited("corpus", splits={"train": "train[:9]", "validation": "dev", "test": "test"})), Accepted(count, 30)),
    ("brackets and spaces in a name", named("my [new] text*"), Accepted(count, 30)),
    ("an ending in upper case", text_files({"train.TXT": BY_LINE}, BY_LINE, "txt"), Accepted(documents, AS_TWO)),
    ("a table with its ending in upper case", text_files({"train.CSV": "text\nA cat sat. It ran.\nDogs bark.\n"},
                                                         "text\nOne.\nTwo.\n", "csv"), Accepted(documents, AS_TWO)),
    ("compressed with both endings in upper case", text_files(
        {"train.JSONL.GZ": gzip.compress(as_json(TWO, True).encode())}, as_json(TWO, True), "jsonl"),
     Accepted(documents, AS_TWO)),
    ("compressed csv with its ending in upper case", text_files(
        {"train.csv.GZ": gzip.compress(b"text\nA cat sat. It ran.\nDogs bark.\n")}, "text\nOne.\nTwo.\n", "csv"),
     Accepted(documents, AS_TWO)),
    ("parts with endings in both cases", text_files(
        {"train/1.jsonl": as_json(TWO, True), "train/2.JSONL": as_json(TWO, True)}, as_json(TWO, True), "jsonl"),
     Accepted(documents, AS_TWO * 2)),
    ("task in csv", every(files("topics", {f"{split}.csv": "text,label\n" + "some words,0\nother words,1\n" * 20
                                           for split in ("train", "test")})), Accepted(count, 30)),
]
REFUSED_TEXT = [
    ("no folder", removed("data/words"), Refused("data/words: no such folder; put train.parquet (or csv, tsv, json, "
                                                 "txt) in")),
    ("no data folder", removed("data"), Refused("data: no such folder; put train.parquet")),
    ("an empty folder", files("words", {".hidden/x": ""}), Refused("words: it has .hidden/x; put train.parquet")),
    ("the remedies", removed("data/words"), Refused("run `study download` to fetch nobody/words from the hub, or set "
                                                    "`local: null` in")),
    ("no split", removed("data/words/train.parquet"), Refused("it has test.parquet, validation.parquet")),
    ("no split of a task", removed("data/topics/test.parquet"),
     Refused("topics: it has train.parquet; put test.parquet")),
    ("two formats", written("data/words/train.csv", "text\na\n"),
     Refused("the split train is there more than once (train.csv, train.parquet); keep one, or set `format`")),
    ("an ending in both cases", text_files({"train.csv": "text\na\n", "train.CSV": "text\na\n"}, "text\na\n", "csv"),
     Refused("the split train is there more than once (train.CSV, train.csv); keep one, or set `format`")),
    ("parquet in gzip", text_files({"train.parquet.gz": "PAR1"}, "text\na\nb\n", "csv"),
     Refused("train.parquet.gz: parquet is compressed inside and is not read as .gz; unpack it with gunzip")),
    ("a format that is not there", edited("corpus", format="json"), Refused("put train.json in")),
    ("a missing shard", shards(2, 3), Refused("2 shards are there, but their names say 3; put the missing ones there")),
    ("a shard too many", shards(2, 1), Refused("their names say 1; remove those of another download")),
    ("a point in the name of a split that is not there", edited("corpus", splits={
        "train": "wiki.train", "validation": "validation", "test": "test"}), Refused("put wiki.train.parquet (or csv")),
    ("a folder of a task with its name on the hub", edited_task(local=None, path="data/topics"),
     Refused("; to read it, move it below")),
    ("hidden files come last", files("words", {".git/HEAD": "", "a.md": ""}),
     Refused("words: it has a.md, .git/HEAD; put")),
    ("a task in text files", files("topics", {"train.txt": "a\n", "test.txt": "b\n"}),
     Refused("text files have no labels")),
    ("a table read as files", edited("corpus", layout="files"), Refused("corpus.layout files reads each text file as")),
    ("csv without a header", text_files({"train.csv": "some words,0\nother words,1\n"}, "text\na\nb\n", "csv"),
     Refused("no column 'text'; it has some words, 0; is its first line a header?")),
    ("csv with a row too long", text_files({"train.csv": "text\na\nb,c,d\n"}, "text\na\nb\n", "csv"),
     Refused("train.csv: line 3 has more fields than the header; put quotes around fields that contain a comma")),
    ("csv with commas in the text", text_files({"train.csv": "text\nHello, world\nFoo bar\nA, b\n"}, "text\na\nb\n",
                                               "csv"), Refused("train.csv: its first row has more fields than the")),
    ("csv with a comma at the end of rows", files("topics", {
        f"{split}.csv": "label,text\n1,good film,\n0,bad film,\n" for split in ("train", "test")}),
     Refused("train.csv: its first row has more fields than the header")),
    ("tsv with a row too long", text_files({"train.tsv": "text\tid\na\t1\nb\t2\tc\n"}, "text\na\nb\n", "tsv"),
     Refused("train.tsv: line 3 has more fields than the header; remove the tabs inside fields")),
    ("tsv with a first row too long", text_files({"train.tsv": "text\tid\na\t1\tc\nb\t2\n"}, "text\na\nb\n", "tsv"),
     Refused("train.tsv: its first row has more fields than the header")),
    ("no split of a fine-tuning task", finetuned(path="nobody/tuned", local="tuned"),
     Refused("tuned: no such folder; put train.parquet (or csv, tsv, json) in")),
    ("pairs in text files", every(files("pairs", {"test.txt": "a\n"}), pairs),
     Refused("test.txt: text files have no columns; minimal pairs need a table with a column for each of the two")),
    ("pairs in two formats", every(files("pairs", {"test.csv": "good,bad\na,b\n", "test.tsv": "good\tbad\na\tb\n"}),
                                   pairs), Refused("more than once (test.csv, test.tsv); keep one of them")),
    ("text in another encoding", text_files({"train.txt": "Caf\xe9.\n".encode("latin-1") * 3}, BY_LINE, "txt"),
     Refused("train.txt: is not UTF-8 text (invalid continuation byte at byte 3); save it as UTF-8")),
    ("an empty file", text_files({"train.txt": ""}, BY_LINE, "txt"), Refused("train.txt: has no rows")),
    ("json that is cut", text_files({"train.jsonl": '{"text": "a"}\n{"te'}, as_json(TWO, True), "jsonl"),
     Refused("train.jsonl, line 2: not JSON (Unterminated string starting at, column 2); write one object per line")),
    ("saved without splits", every(removed("data/words"), lambda root: datasets.Dataset.from_dict(
        {"text": TWO}).save_to_disk(str(root / "data/words"))), Refused("put train.parquet")),
    ("an unknown language", edited("corpus", language="xx"), Refused("corpus.language: 'xx' is not an ISO 639 code")),
    ("the name of a language", edited("corpus", language="Thai"), Refused("did you mean th?")),
    ("a language with its country", edited("corpus", language="de-AT"), Refused("did you mean de?")),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("text") / "base"
    text_project(root)
    return root


@pytest.mark.parametrize(("make", "outcome"), situations(TEXT + REFUSED_TEXT))
def test_text_as_people_have_it(project, tmp_path, capsys, make, outcome):
    check(tmp_path / "root", project, make, outcome, capsys, "corpus")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_reading_files_looks_up_no_other_machine(project, tmp_path, form):
    """`datasets` would report to a server that a file was loaded. It asks the environment once, so a new process reads
    the text."""
    root = Path(shutil.copytree(project, tmp_path / "root"))
    if form == "csv":
        text_files({"train.csv": "text\na\nb\n"}, "text\na\nb\n", "csv")(root)
    code = ("import sys; sys.addaudithook(lambda event, arguments: event == 'socket.getaddrinfo' and "
            "print(arguments, file=sys.stderr)); from study.cli.app import main; main()")
    done = run(sys.executable, "-c", code, "corpus", cwd=root, PYTHONPATH=str(ROOT), HF_UPDATE_DOWNLOAD_COUNTS=None)
    assert "corpus: " in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("file", ["words/test", "topics/test"])
def test_a_missing_file_asks_nobody_and_takes_less_than_a_second(project, tmp_path, capsys, monkeypatch, file):
    """Not even the splits that are there are read."""
    def refuse(*_, **__):
        raise AssertionError("a connection was opened, or a file read")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    began = time.process_time()
    check(tmp_path / "root", project, removed(f"data/{file}.parquet"), Refused("put test.parquet"), capsys, "corpus")
    assert time.process_time() - began < 1


def test_a_download_writes_what_is_missing_and_keeps_what_is_there(project, tmp_path, capsys, monkeypatch):
    """The hub is a folder of parquet files here, which `datasets` reads in the same way."""
    root, load = tmp_path / "root", datasets.load_dataset
    shutil.copytree(project, root)
    (root / "data/topics").rename(root / "hub")
    monkeypatch.setattr(datasets, "load_dataset", lambda path, *rest, **options: load(
        str(root / "hub") if path == "nobody/topics" else path, *rest, **options))
    (root / "data/words/test.parquet").unlink()
    kept = (root / "data/words/train.parquet").stat().st_mtime_ns
    every(edited("corpus", splits={"train": "train", "validation": "validation", "test": "train"}),
          edited_task(splits={"train": "train[:30]", "test": "test"}), finetuned(path="nobody/topics", local="tuned"),
          written("data/topics/test.csv", "text,label\na,0\n"), edited_task(format="parquet"))(root)
    assert exit_status(root, "download") == 0
    written_now = [line.partition("data/")[2] for line in capsys.readouterr().out.splitlines()]
    assert written_now == ["topics/train.parquet", "topics/test.parquet", "tuned/train.parquet", "tuned/test.parquet"]
    assert len(pd.read_parquet(root / "data/topics/train.parquet")) == 30
    assert (root / "data/words/train.parquet").stat().st_mtime_ns == kept
    assert exit_status(root, "download") == 0
    assert capsys.readouterr().out == ""
    assert exit_status(root, "corpus") == 0


def test_a_download_without_folders_says_so(project, tmp_path, capsys):
    check(tmp_path / "root", project, every(edited("corpus", local=None), edited_task(local=None)),
          Refused("no `local` folder is named"), capsys, "download")


def test_a_download_of_another_format_is_refused(project, tmp_path, capsys):
    """The file would be parquet, which the study then would not read."""
    make = every(removed("data/words/test.parquet"), edited("corpus", format="csv"))
    outcome = Refused("a download writes parquet; set format to null")
    check(tmp_path / "root", project, make, outcome, capsys, "download")


def test_a_relative_data_folder_is_below_the_project(project, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", "texts")
    check(tmp_path / "root", project, lambda root: (root / "data").rename(root / "texts"), Accepted(count, 30), capsys,
          "corpus")
    monkeypatch.chdir(tmp_path / "root/texts")
    assert exit_status(tmp_path / "root/texts", "corpus", "..") == 0
    (tmp_path / "root/texts").rename(tmp_path / "root/data")
    assert exit_status(tmp_path / "root", "corpus") == 2
    assert "texts: no such folder (STUDY_DATA)" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_named(project, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file/datasets")
    check(tmp_path / "root", project, lambda root: None, Refused("set HF_HOME to a folder that can be written"), capsys,
          "corpus")


def test_what_is_left_out_is_counted(project, tmp_path, capsys):
    make = text_files({"train.csv": 'text\nA cat.\n"  "\na  CAT.\nDogs bark loud.\n'}, "text\nOne.\nDogs bark loud.\n",
                      "csv")
    facts = {"documents": 3, "words": 7, "duplicates": 1, "shortest": 2, "longest": 3, "empty": 1}
    check(tmp_path / "root", project, make, Accepted(summary("corpus", "splits", "train"), facts), capsys, "corpus")
    assert summary("corpus", "splits", "test", "in_training")(tmp_path / "root") == 1
    assert summary("corpus", "splits", "test", "in_validation")(tmp_path / "root") == 2
    printed = capsys.readouterr().out
    assert "1 of 2 (50.0%) documents of the split test are in the training text too" in printed
    assert "2 of 2 (100.0%) documents of the split test are in the validation text too" in printed
    (table, *_) = summary_tables({"corpus": json.loads((tmp_path / "root/runs/tiny/corpus/summary.json").read_text())})
    assert [row[6] for row in table.rows] == ["", "", "2 (100.00%)"]
    assert table.header[6] == "also in validation text"


def test_the_summary_of_splits_without_a_common_document_does_not_name_validation(tiny):
    splits = json.loads((tiny.runs / "corpus/summary.json").read_text())["splits"]
    assert [list(splits[split])[-2:] for split in ("validation", "test")] == [["empty", "in_training"]] * 2
    header = next(iter(summary_tables({"corpus": {"splits": splits, "tasks": {}}}))).header
    assert header[5:] == ["also in training text", "shortest, words", "longest"]


def test_rows_that_are_in_the_corpus_are_counted(project, tmp_path, capsys):
    make = every(files("words", {f"{split}.txt": f"{LINES[0]} And more.\n{split} alone.\n"
                                 for split in ("train", "validation", "test")}),
                 task_rows({"text": [*LINES[:38], "train alone.", f"{LINES[0]} And  more."], "label": LABELS}))
    check(tmp_path / "root", project, make, Accepted(summary("corpus", "tasks", "topic", "test", "in_corpus"), 2),
          capsys, "corpus")
    assert summary("corpus", "tasks", "topic", "test", "in_training")(tmp_path / "root") == 40
    printed = capsys.readouterr().out
    assert "2 of 40 (5.0%) train rows of topic are in the training text of the corpus" in printed
    assert "40 of 40 (100.0%) test rows of topic are among its training rows" in printed


def test_an_edited_task_may_have_a_single_format(project, tmp_path, capsys):
    make = every(written("data/topics/train.json", "[]"), edited_task(format="parquet"))
    check(tmp_path / "root", project, make, Accepted(count, 30), capsys, "corpus")
