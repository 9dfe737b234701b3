"""Text for the doctor: lines of plain, compressed or tabular files, all of them or a sample.

Plain text and JSON lines are sampled in chunks at random places, each from the start of a line. Parquet is sampled by
row groups in random order. Files that cannot be entered in the middle (gzip, CSV, JSON) are read from the beginning.
"""
from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from study import StudyError
from study.data.tables import table_options

CHUNK = 1 << 18                             # bytes of a plain file that are read at one place
LONGEST_LINE = 1 << 24                      # bytes; the rest of a longer line is skipped
PARQUET_ROWS = 1000                         # that are read at once
TABLES = (".parquet", ".csv", ".tsv", ".json", ".jsonl")
MIB = 1 << 20


@dataclass
class TextSample:
    """Lines without line ends, blank ones left out. `total` and `read`: bytes of all files and of those parts that were
    read; `notes`: how files were sampled."""
    lines: list[str] = field(default_factory=list)
    total: int = 0
    read: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether every line was read."""
        return not self.notes


def read_text(paths: list[Path], column: str, budget: int, seed: int,
              progress: Callable = lambda items, **_: items) -> TextSample:
    """Returns the lines of all files, or about `budget` bytes of them in proportion to their sizes.

    column: of tables and JSON records, whose values are split at line ends. Raises StudyError if a file is missing,
    empty, not UTF-8, damaged or lacks the column.
    """
    for path in paths:
        if not path.is_file():
            raise StudyError(f"{path}: no such file; name files of text, not folders (.txt, .txt.gz, .jsonl, .csv, "
                             f".json or .parquet)")
    sizes = [path.stat().st_size for path in paths]
    sample, rng = TextSample(total=sum(sizes)), np.random.default_rng(seed)
    for path, size in zip(paths, sizes, strict=True):
        share = budget if sum(sizes) <= budget else max(CHUNK, budget * size // max(1, sum(sizes)))
        _reader(path)(_Part(path, size, column, share, rng, progress), sample)
    if not sample.lines:
        raise StudyError(f"{', '.join(map(str, paths))}: no text; every line is blank")
    return sample


@dataclass(frozen=True)
class _Part:
    """A file, its size and the bytes to read of it."""
    path: Path
    size: int
    column: str
    budget: int
    rng: np.random.Generator
    progress: Callable


def _reader(path: Path) -> Callable[[_Part, TextSample], None]:
    kind = format_of(path)
    if path.suffix.lower() == ".gz":
        return _read_gzip
    return {".parquet": _read_parquet, ".csv": _read_csv, ".tsv": _read_csv, ".json": _read_json}.get(kind, _read_plain)


def format_of(path: Path) -> str:
    """The suffix that says what a file holds, in lower case: that before .gz in a compressed file."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def _read_plain(part: _Part, sample: TextSample) -> None:
    """Plain text or JSON lines."""
    before = len(sample.lines)
    if part.size <= part.budget:
        slots = np.arange(-(-part.size // CHUNK))
    else:
        chosen = part.rng.choice(part.size // CHUNK, max(1, part.budget // CHUNK), replace=False)
        slots = np.sort(chosen)
        sample.notes.append(f"{part.path.name}: {len(slots):,} pieces of {CHUNK >> 10} KiB at random places")
    with part.path.open("rb") as file:
        for slot in part.progress(slots, description=f"reading {part.path.name}"):
            begin = int(slot) * CHUNK
            content = lines_that_begin_in(file, begin, begin + CHUNK)
            sample.read += len(content)
            _add(content, begin, part, sample)
    if part.size > part.budget and len(sample.lines) == before:
        raise StudyError(f"{part.path}: no line begins in the {len(slots):,} pieces that were read; put one sentence "
                         f"or paragraph on each line")


def lines_that_begin_in(file, begin: int, end: int) -> bytes:
    """The lines of a binary file that begin in [begin, end): each line of the file belongs to one such range."""
    file.seek(max(0, begin - 1))
    if begin and not file.readline(LONGEST_LINE).endswith(b"\n"):
        return b""                          # the range is inside one very long line, or at the end of the file
    start = file.tell()
    if start >= end:
        return b""
    content = file.read(end - start)
    return content if content.endswith(b"\n") else content + rest_of_line(file)


def rest_of_line(file) -> bytes:
    """What is left of the line, up to a space if the line is longer than LONGEST_LINE."""
    rest = file.readline(LONGEST_LINE)
    return rest if len(rest) < LONGEST_LINE or rest.endswith(b"\n") else rest.rpartition(b" ")[0]


def _add(content: bytes, begin: int, part: _Part, sample: TextSample) -> None:
    """Adds the lines of a piece of a plain file or of JSON lines."""
    lines = decoded(content, part.path, begin).split("\n")
    if format_of(part.path) == ".jsonl":
        noun = "line" if begin == 0 else f"line after byte {begin:,}, number"
        lines = _records(((number, _parse(line, f"{part.path}: {noun} {number}"))
                          for number, line in enumerate(lines, 1) if line.strip()), part, noun)
    sample.lines.extend(line for line in map(str.strip, lines) if line)


def decoded(content: bytes, path: Path, begin: int = 0) -> str:
    """UTF-8 text without a byte order mark. Raises StudyError with the place of the first wrong byte."""
    try:
        text = content.decode("utf-8-sig" if begin == 0 else "utf-8")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path}: not UTF-8 text: byte {content[error.start]:#04x} at offset {begin + error.start:,}; "
                         f"convert it, for example with `iconv -f latin1 -t utf-8`") from None
    if "\0" in text:
        raise StudyError(f"{path}: not text: it has a zero byte; pass UTF-8 text, .jsonl, .csv, .json or .parquet")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _parse(line: str, where: str):
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:   # in JSON lines, its own line number would always be 1
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise StudyError(f"{where}: not JSON ({error.msg}, {place}); write one object per line") from None


def _records(records: Iterable[tuple[int, object]], part: _Part, noun: str = "record") -> Iterator[str]:
    """The lines in the column of numbered records. noun: what the numbers count."""
    for number, record in records:
        value = record.get(part.column) if isinstance(record, dict) else record if isinstance(record, str) else None
        if value is None and not (isinstance(record, dict) and part.column in record):
            have = f"it has {', '.join(map(str, record))}" if isinstance(record, dict) else "it is not an object"
            raise StudyError(f"{part.path}: {noun} {number} has no {part.column!r}; {have}; name the column of the "
                             f"text with --column")
        if value is not None and not isinstance(value, str):
            raise StudyError(f"{part.path}: {noun} {number}: {part.column!r} is {type(value).__name__}, not text; "
                             f"name the column of the text with --column")
        yield from (value or "").splitlines()


def _read_gzip(part: _Part, sample: TextSample) -> None:
    """The beginning of a compressed file of plain text or JSON lines, up to the budget of decompressed bytes."""
    if format_of(part.path) in set(TABLES) - {".jsonl"}:
        raise StudyError(f"{part.path}: only text and JSON lines can be read compressed; decompress it first")
    begin = 0
    try:
        with gzip.open(part.path, "rb") as file:
            for _ in part.progress(range(-(-part.budget // CHUNK)), description=f"reading {part.path.name}"):
                content = file.read(CHUNK)
                content += rest_of_line(file) if content else b""
                _add(content, begin, part, sample)
                begin += len(content)
            if file.read(1):
                sample.notes.append(f"{part.path.name}: the first {begin / MIB:,.0f} MiB, since a compressed file "
                                    f"cannot be sampled")
    except (gzip.BadGzipFile, zlib.error, EOFError, OSError) as error:
        raise StudyError(f"{part.path}: damaged gzip file ({error}); make it again") from None
    sample.read += begin


def _read_parquet(part: _Part, sample: TextSample) -> None:
    import pyarrow as pa

    try:
        _read_row_groups(part, sample)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{part.path}: not a usable parquet file ({reason:.120}); make it again") from None


def _read_row_groups(part: _Part, sample: TextSample) -> None:
    """Row groups in random order, up to the budget."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(part.path)
    if part.column not in file.schema_arrow.names:
        raise StudyError(f"{part.path}: no column {part.column!r}; it has {', '.join(file.schema_arrow.names)}; name "
                         f"the column of the text with --column")
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    batches = ((int(group), place, batch) for group in part.rng.permutation(file.num_row_groups)
               for place, batch in enumerate(file.iter_batches(PARQUET_ROWS, row_groups=[int(group)],
                                                               columns=[part.column])))
    read, rows, groups = 0, 0, set()
    for group, place, batch in part.progress(batches, description=f"reading {part.path.name}"):
        values, first = batch[part.column].to_pylist(), sum(sizes[:group]) + place * PARQUET_ROWS + 1
        for line in _records(enumerate(({part.column: value} for value in values), first), part):
            read += len(line.encode()) + 1
            sample.lines.extend([line.strip()] if line.strip() else [])
        rows, groups = rows + len(values), groups | {group}
        if read > part.budget:
            break
    if rows < file.metadata.num_rows:
        chosen = (f"from {len(groups)} of {file.num_row_groups} row groups at random" if file.num_row_groups > 1 else
                  "the first ones, since the file has a single row group")
        sample.notes.append(f"{part.path.name}: {rows:,} of {file.metadata.num_rows:,} rows, {chosen}")
    sample.read += read


def _read_csv(part: _Part, sample: TextSample) -> None:
    import pandas as pd

    read, rows = 0, 0
    try:
        with table_options(format_of(part.path).removeprefix("."), str(part.path)) as options:
            frames = pd.read_csv(part.path, chunksize=10_000, dtype=str, **options)
            for frame in part.progress(frames, description=f"reading {part.path.name}"):
                lines = list(_records(enumerate(frame.to_dict("records"), rows + 1), part))
                sample.lines.extend(line.strip() for line in lines if line.strip())
                read, rows = read + sum(len(line.encode()) + 1 for line in lines), rows + len(frame)
                if read > part.budget:
                    if _has_more(frames):
                        sample.notes.append(f"{part.path.name}: the first {rows:,} rows, since CSV cannot be sampled")
                    break
    except UnicodeDecodeError as error:
        raise StudyError(f"{part.path}: not UTF-8 text ({error.reason}); convert it, for example with `iconv -f latin1 "
                         f"-t utf-8`") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise StudyError(f"{part.path}: not a table ({str(error).strip()}); quote fields that contain the separator, "
                         f"or pass plain text as .txt") from None
    sample.read += read


def _has_more(frames) -> bool:
    """Whether a reader of pandas has another row."""
    try:
        frames.get_chunk(1)
    except StopIteration:
        return False
    return True


def _read_json(part: _Part, sample: TextSample) -> None:
    """A list of records, or JSON lines under another name."""
    with part.path.open("rb") as file:
        first = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")[:1]
    if first != b"[":
        raise StudyError(f"{part.path}: text in JSON must be a list of records; name JSON lines .jsonl")
    if part.size > 8 * part.budget:
        raise StudyError(f"{part.path}: a list of {part.size / MIB:,.0f} MiB must be read whole; convert it to .jsonl")
    content = part.path.read_bytes()
    lines = list(_records(enumerate(_parse(decoded(content, part.path), str(part.path)), 1), part))
    sample.lines.extend(line.strip() for line in lines if line.strip())
    sample.read += len(content)
