"""Files that cannot be read: one line that names the file, the reason and the remedy."""
import gzip
import re

import datasets
import pandas as pd
import pytest

from study import StudyError
from study.data.local_files import Files, read_files, read_table

LATIN = "is not UTF-8 text (invalid continuation byte at byte {}); save it as UTF-8"
BAD = {
    "csv in Latin-1": ("rows.csv", "text,id\ncaf\xe9,1\n".encode("latin-1"), f"rows.csv: {LATIN.format(11)}"),
    "json in Latin-1": ("rows.jsonl", '{"text": "caf\xe9."}\n'.encode("latin-1"), f"rows.jsonl: {LATIN.format(13)}"),
    "compressed tsv in Latin-1": ("rows.tsv.gz", gzip.compress("text\nna\xefve\n".encode("latin-1")),
                                  f"rows.tsv.gz: {LATIN.format(7)}"),
    "UTF-16": ("rows.csv", "text\na\n".encode("utf-16"), "rows.csv: is not UTF-8 text (invalid start byte at byte 0)"),
    "a header alone": ("rows.tsv", b"text\tid\n\n", "rows.tsv: has no rows; put some there"),
    "blank lines": ("rows.csv", b"\n\n", "rows.csv: has no rows"),
    "an empty list": ("rows.json", b"[ ]", "rows.json: has no rows"),
    "an empty object": ("rows.json", b"{}\n", "rows.json: has no rows"),
    "an empty compressed file": ("rows.csv.gz", gzip.compress(b""), "rows.csv.gz: has no rows"),
    "empty compressed json": ("rows.jsonl.gz", gzip.compress(b""), "rows.jsonl.gz: has no rows"),
    "a table without rows": ("rows.parquet", None, "rows.parquet: has no rows"),
    "semicolons": ("rows.csv", b"text;id\nHello, world;1\nFoo;2\n", "rows.csv: its header is 'text;id', so ';' seems "
                   "to separate the fields; in .csv files commas do, and in .tsv files tabs"),
    "tabs in csv": ("rows.csv", b"text\tid\na\t1\n", "so '\\t' seems to separate the fields"),
    "a list that is cut": ("rows.json", b'[{"text": "a"},\n{"te', "rows.json, line 2: not JSON (Unterminated string "
                           "starting at, column 2); check the brackets, commas and quotes there"),
    "a line that is cut": ("rows.jsonl", b'{"text": "a"}\n\n{"text" 5}', "rows.jsonl, line 3: not JSON (Expecting ':' "
                           "delimiter, column 9); write one object per line"),
    "a name that says compressed": ("rows.csv.gz", b"text\na\n", "rows.csv.gz: cannot be read as csv: Not a gzipped"),
    "compressed parquet": ("rows.parquet.gz", gzip.compress(b"PAR1"), "rows.parquet.gz: parquet is compressed inside "
                           "and is not read as .gz; unpack it with gunzip"),
    "a folder": (".", b"", "is a folder; name a file in it"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD)
def test_a_file_that_cannot_be_read_is_one_line_with_its_name_and_the_remedy(tmp_path, name, content, message):
    path = tmp_path / name
    if content is None:
        pd.DataFrame({"text": []}).to_parquet(path)
    elif name != ".":
        path.write_bytes(content)
    with pytest.raises(StudyError, match=re.escape(message)) as error:
        read_table(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["rows.CSV", "rows.csv.GZ", "rows.CSV.GZ"])
def test_endings_may_be_in_upper_case(tmp_path, name):
    content = b"text,label\nA cat.,1\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("GZ") else content)
    assert read_table(tmp_path / name).to_dict("list") == {"text": ["A cat."], "label": ["1"]}


def test_a_table_has_the_names_of_its_classes(tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "stars": datasets.Value("int64"),
                                  "label": datasets.ClassLabel(names=["pos", "neg"])})
    rows = {"text": ["a", "b", "c", "d"], "stars": [0, 1, 0, 1], "label": [1, 0, -1, None]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    table = read_table(tmp_path / "rows.parquet")
    assert table.stars.tolist() == [0, 1, 0, 1]
    assert table.label.tolist()[:3] == ["neg", "pos", -1]
    assert table.label.isna().tolist() == [False, False, False, True]


@pytest.mark.parametrize(("content", "message"), [
    (b"caf\xe9 au", "2.txt: is not UTF-8 text (invalid continuation byte at byte 3)"),
    (b"caf\xc3", "2.txt: is not UTF-8 text (unexpected end of data at byte 3)")])
def test_the_part_in_another_encoding_is_named(tmp_path, content, message):
    paths = tuple(tmp_path / name for name in ("1.txt", "2.txt"))
    paths[0].write_text("A cat.\n" * 9)
    paths[1].write_bytes(content)
    with pytest.raises(StudyError, match=re.escape(message)):
        read_files(Files("text", str(tmp_path / "*.txt"), paths), "train")
