"""Reading text: the same lines from every kind of file, whole or sampled, and one-line errors."""
import gzip
import json

import numpy as np
import pandas as pd
import pytest

from study import StudyError
from study.doctor import text as text_module
from study.doctor.lines import copies_in, literal_unknown_share, row_shares
from study.doctor.text import CHUNK, lines_that_begin_in, read_text

LINES = ["first line", "  second line ", "", "third: é ü", "fourth"]
KEPT = ["first line", "second line", "third: é ü", "fourth"]
WHOLE = 1 << 30
GZIP = gzip.compress(b"a line\n" * 99, mtime=0)    # without the time: test names are the same in every process


def write(folder, kind: str):
    """LINES as a file of this kind."""
    path = folder / f"text.{kind}"
    frame = pd.DataFrame({"text": LINES, "other": range(len(LINES))})
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    elif kind == "json":
        path.write_text(json.dumps(frame.to_dict("records")))
    elif kind.startswith("jsonl"):
        content = "".join(json.dumps({"text": line}) + "\n" for line in LINES).encode()
        path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    else:
        content = "\n".join(LINES).encode()
        path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    return path


@pytest.mark.parametrize("kind", ["txt", "txt.gz", "jsonl", "jsonl.gz", "json", "csv", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_lines(kind, tmp_path):
    sample = read_text([write(tmp_path, kind)], "text", WHOLE, 0)
    assert sample.lines == KEPT
    assert sample.is_whole


def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing(tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(LINES).encode())
    assert read_text([path], "text", WHOLE, 0).lines == KEPT


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_each_line_begins_in_exactly_one_range_of_a_file(size, tmp_path, rng):
    lines = ["x" * int(length) for length in rng.integers(0, 40, 200)]
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(lines))
    with path.open("rb") as file:
        parts = [lines_that_begin_in(file, begin, begin + size) for begin in range(0, path.stat().st_size, size)]
    assert b"".join(parts).decode() == path.read_text()


def big_file(path, chunks: int) -> list[str]:
    """A file of numbered lines, as large as this many chunks."""
    width = 64
    lines = [f"{number:0{width - 1}d}" for number in range(chunks * CHUNK // width)]
    path.write_text("\n".join(lines) + "\n")
    return lines


def test_a_sample_has_whole_lines_from_all_over_the_file_and_says_so(tmp_path):
    path = tmp_path / "big.txt"
    lines = big_file(path, 40)
    sample = read_text([path], "text", 10 * CHUNK, 0)
    places = np.array([int(line) for line in sample.lines]) / len(lines)
    assert set(sample.lines) <= set(lines)
    assert len(sample.lines) == pytest.approx(len(lines) / 4, rel=0.01)
    assert len(set(sample.lines)) == len(sample.lines)
    assert places.min() < 0.25
    assert places.max() > 0.75
    assert sample.notes == [f"big.txt: 10 pieces of {CHUNK >> 10} KiB at random places"]


def test_a_sample_depends_on_the_seed_alone(tmp_path):
    path = tmp_path / "big.txt"
    big_file(path, 20)
    first, same, other = (read_text([path], "text", 4 * CHUNK, seed).lines for seed in (0, 0, 1))
    assert first == same
    assert first != other


def test_files_are_sampled_in_proportion_to_their_sizes(tmp_path):
    sizes = {"small.txt": 8, "large.txt": 24}
    for name, chunks in sizes.items():
        big_file(tmp_path / name, chunks)
    sample = read_text([tmp_path / name for name in sizes], "text", 16 * CHUNK, 0)
    assert [note.split()[1] for note in sample.notes] == ["4", "12"]


def test_parquet_is_sampled_by_row_groups(tmp_path):
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"text": [f"{number:099d}" for number in range(20_000)]}).to_parquet(path, row_group_size=1000)
    sample = read_text([path], "text", CHUNK, 0)
    assert CHUNK <= 100 * len(sample.lines) <= CHUNK + 100 * 1000
    assert "of 20,000 rows" in sample.notes[0]
    assert min(map(int, sample.lines)) != 0


@pytest.mark.parametrize(("rows", "is_whole"), [(9999, True), (10_000, True), (10_001, False)])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_table_is_called_a_sample_only_if_more_rows_follow(rows, is_whole, kind, tmp_path):
    """10,000 rows are read at once, here more than are asked for."""
    path = tmp_path / f"rows.{kind}"
    path.write_text("text\n" + "".join(f"{number:040d}\n" for number in range(rows)))
    sample = read_text([path], "text", CHUNK, 0)
    assert len(sample.lines) == min(rows, 10_000)
    assert sample.is_whole == is_whole
    assert sample.notes == ([] if is_whole else [f"rows.{kind}: the first 10,000 rows, since CSV cannot be sampled"])


def test_compressed_text_is_read_from_its_beginning_and_the_note_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(text_module, "CHUNK", 1000)
    path = tmp_path / "long.txt.gz"
    rng = np.random.default_rng(0)
    lines = [bytes(rng.integers(97, 123, 50, np.uint8)).decode() for _ in range(2000)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    sample = read_text([path], "text", 5000, 0)
    assert lines[:len(sample.lines)] == sample.lines
    assert 90 < len(sample.lines) < 120
    assert "the first" in sample.notes[0]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("missing.txt", None, "missing.txt: no such file"),
    ("empty.txt", b"\n \n", "empty.txt: no text; every line is blank"),
    ("latin.txt", b"caf\xe9 au lait", r"latin.txt: not UTF-8 text: byte 0xe9 at offset 3; convert it"),
    ("binary.txt", b"a\0b\n", "binary.txt: not text: it has a zero byte"),
    ("bad.jsonl", b'{"text": "a"}\n{"text": \n', r"bad.jsonl: line 2: not JSON .*; write one object per line"),
    ("bad.jsonl", b'{"text": "a"}\n{"text" "b"}\n', r"bad.jsonl: line 2: not JSON \(.*, column 9\); write one"),
    ("other.jsonl", b'{"text": "a"}\n\n{"body": "a"}\n', "other.jsonl: line 3 has no 'text'; it has body; name the"),
    ("number.jsonl", b'{"text": 7}\n', "number.jsonl: line 1: 'text' is int, not text"),
    ("list.jsonl", b'[1]\n', "list.jsonl: line 1 has no 'text'; it is not an object"),
    ("shifted.csv", b"text,b\nx, y,1\n", "shifted.csv: its first row has more fields than the header; put quotes"),
    ("ragged.csv", b"text,b\nx,1\nx, y,1\n", "ragged.csv: line 3 has more fields than the header; put quotes around"),
    ("tabs.tsv", b"text\tb\nx\ty\t1\n", "tabs.tsv: its first row has more fields than the header; remove the tabs"),
    ("other.csv", b"a,b\n1,2\n", "other.csv: record 1 has no 'text'; it has a, b; name the column"),
    ("empty.csv", b"", "empty.csv: not a table"),
    ("object.json", b'{"text": "a"}', "object.json: text in JSON must be a list of records; name JSON lines .jsonl"),
    ("bad.parquet", b"PAR1", "bad.parquet: not a usable parquet file"),
    ("table.csv.gz", b"", "table.csv.gz: only text and JSON lines can be read compressed"),
    ("cut.txt.gz", GZIP[:-12], "cut.txt.gz: damaged gzip file"),
    ("torn.txt.gz", GZIP[:10] + b"\xff" * 9, "torn.txt.gz: damaged gzip file .*invalid block type"),
    ("bad.txt.gz", b"no gzip", "bad.txt.gz: damaged gzip file"),
])
def test_unusable_text_is_one_line_with_the_remedy(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StudyError, match=message) as error:
        read_text([path], "text", WHOLE, 0)
    assert len(str(error.value).splitlines()) == 1


def test_a_damaged_page_of_a_parquet_file_is_one_line(tmp_path):
    path = tmp_path / "page.parquet"
    pd.DataFrame({"text": [f"line {number}" for number in range(5000)]}).to_parquet(path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[100:2000] = bytes(1900)
    path.write_bytes(content)
    with pytest.raises(StudyError, match="page.parquet: not a usable parquet file .*; make it again") as error:
        read_text([path], "text", WHOLE, 0)
    assert len(str(error.value).splitlines()) == 1


def test_the_number_of_a_wrong_record_counts_those_of_earlier_pieces(tmp_path):
    """Parquet is read in row groups in random order."""
    path, numbers = tmp_path / "rows.parquet", set()
    pd.DataFrame({"text": range(9000)}).to_parquet(path, row_group_size=3000)
    for seed in range(10):
        with pytest.raises(StudyError, match=r"rows.parquet: record \d+: 'text' is int") as error:
            read_text([path], "text", WHOLE, seed)
        numbers.add(int(str(error.value).split("record ")[1].split(":")[0]))
    assert numbers == {1, 3001, 6001}


def test_a_parquet_file_without_the_column_names_those_it_has(tmp_path):
    pd.DataFrame({"title": ["a"], "body": ["b"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(StudyError, match="no column 'text'; it has title, body; name the column of the text with"):
        read_text([tmp_path / "a.parquet"], "text", WHOLE, 0)
    assert read_text([tmp_path / "a.parquet"], "body", WHOLE, 0).lines == ["b"]


def test_the_share_of_copies_is_exact_in_a_small_file(tmp_path, rng):
    unique = [f"line number {number}" for number in range(600)]
    copied = [unique[place] for place in rng.integers(0, 50, 150)]
    path = tmp_path / "copies.txt"
    path.write_text("\n".join(rng.permutation(unique + copied)))
    found = copies_in(read_text([path], "text", WHOLE, 0), [path])
    assert (found.copies, found.lines, found.is_exact) == (150, 750, True)
    assert found.share == 0.2
    assert found.characters == pytest.approx(sum(map(len, copied)) / sum(map(len, unique + copied)))
    assert found.example in copied


def repeated_file(path):
    """Half of its lines are copies of lines in the other half."""
    lines = [f"{number:063d}" for number in range(10 * CHUNK // 64)]
    path.write_text("\n".join(lines + lines) + "\n")


def test_a_plain_file_that_is_sampled_is_still_searched_for_copies_as_a_whole(tmp_path):
    path = tmp_path / "repeated.txt"
    repeated_file(path)
    found = copies_in(read_text([path], "text", 4 * CHUNK, 0), [path])
    assert found.is_exact
    assert found.share == 0.5


def test_in_a_sample_the_share_of_copies_is_a_lower_bound(tmp_path):
    path = tmp_path / "repeated.txt"
    repeated_file(path)
    for seed in range(5):
        found = copies_in(read_text([path], "text", 12 * CHUNK, seed), [path], exact=0)
        assert not found.is_exact
        assert found.share <= 0.5


def test_padding_and_cut_tokens_are_those_of_rows_with_two_special_tokens():
    rows = row_shares(np.array([2, 6, 14]), 10)
    real, total = (2 + 2) + (6 + 2) + 10, 3 * 10
    assert rows.padding == pytest.approx(1 - real / total)
    assert rows.cut == pytest.approx(6 / 22)
    assert rows.mean == pytest.approx(real / 3)


def test_only_whole_words_count_as_the_literal_unknown_word():
    assert literal_unknown_share(["a <unk> b", "<unk> x<unk> c d e"]) == 2 / 8
