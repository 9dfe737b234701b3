"""Files with the rows of one split: which formats there are, where a folder has a split, and how files are read.

Local folders that settings name and files given by hand are read here, so both take the same files.
"""
from __future__ import annotations

import codecs
import glob
import gzip
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from study import StudyError
from study.data.tables import load_table

if TYPE_CHECKING:
    from datasets import Dataset
    from pandas import DataFrame

FORMATS = {"parquet": (".parquet",), "csv": (".csv",), "tsv": (".tsv",), "json": (".json", ".jsonl"),
           "text": (".txt",)}
ENDINGS = {ending: name for name, endings in FORMATS.items() for ending in endings}
ENDING = rf"((?i:{'|'.join(map(re.escape, ENDINGS))}))((?i:\.gz))?"
SHARD = r"-\d+-of-(\d+)(?:-[0-9a-f]{16})?"  # the hub once added 16 digits of a hash
SHARDS = "data"                             # folder of a repository of the hub that has its files
SAVED = "state.json"                        # in the folder of a split that `save_to_disk` has written
BLOCK = 1 << 20                             # bytes read at once
# What the hub's client reads when it is imported.
ENVIRONMENT = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0", "HF_HUB_DOWNLOAD_TIMEOUT": "20"}


@dataclass(frozen=True)
class Files:
    """The files of one split and their format. `form`: what they are called in an error. `paths`: one folder if the
    format is `saved`."""
    format: str
    form: str
    paths: tuple[Path, ...]


def files_of(folder: Path, split: str) -> Iterable[Files]:
    """Yields the sets of files in a local folder that could be the split. Hidden files and folders are passed over."""
    pattern = re.compile(rf"{re.escape(split)}({SHARD})?{ENDING}")
    for place in (folder, folder / SHARDS):
        shards: dict[str, list[Path]] = {}
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            match = pattern.fullmatch(path.name)
            if match and match[1]:
                shards.setdefault(match[3].lower(), []).append(path)
            elif match:
                yield Files(_format(match[3]), str(path), (path,))
        for ending, paths in shards.items():
            yield Files(_format(ending), str(place / f"{split}-*{ending}"), tuple(paths))
    if (folder / split / SAVED).exists():
        yield Files("saved", str(folder / split), (folder / split,))
        return
    parts: dict[str, list[Path]] = {}
    for path in sorted((folder / split).rglob("*")):
        match = re.fullmatch(rf".+{ENDING}", path.name)
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if match and not hidden:
            parts.setdefault(_format(match[1]), []).append(path)
    for name, paths in parts.items():
        yield Files(name, str(folder / split / f"*{FORMATS[name][0]}"), tuple(paths))


def shard_counts(files: Files) -> set[int]:
    """Returns the numbers of shards that the names of the files give; empty if they are not shards."""
    matches = (re.search(rf"{SHARD}{ENDING}$", path.name) for path in files.paths)
    return {int(match[1]) for match in matches if match and "-*" in Path(files.form).name}


def _format(ending: str) -> str:
    """The format of files with this ending, in upper or lower case."""
    return ENDINGS[ending.lower()]


def read_table(path: Path) -> DataFrame:
    """Returns the table in a file that is given by hand: of any format with columns, and perhaps compressed.

    Where the file has names for the numbers in a column (ClassLabel), the column has the names. Raises StudyError if
    the file is missing or cannot be read.
    """
    if not path.is_file():
        raise StudyError(f"{path}: {'is a folder; name a file in it' if path.is_dir() else 'no such file'}")
    match = re.fullmatch(rf".+{ENDING}", path.name)
    if match is None or _format(match[1]) == "text":
        tables = [ending for ending, name in ENDINGS.items() if name != "text"]
        raise StudyError(f"{path}: its name must end in {', '.join(tables[:-1])} or {tables[-1]} (to all but .parquet "
                         f".gz may be added); rename or convert the file")
    return _with_names_of_classes(read_files(Files(_format(match[1]), str(path), (path,)), "train"))


def _with_names_of_classes(rows: Dataset) -> DataFrame:
    """The rows as a table. Numbers without a name, such as -1, stay."""
    from datasets import ClassLabel

    frame = rows.to_pandas()
    for column, feature in rows.features.items():
        if isinstance(feature, ClassLabel) and feature.names:
            names = dict(enumerate(feature.names))
            frame[column] = [names.get(number, number) for number in frame[column]]
    return frame


def read_files(files: Files, split: str, whole_files: bool = False) -> Dataset:
    """Returns the rows of files. whole_files: whether a text file is one row; else each of its lines is one.

    Raises StudyError, with the name of the file that is the reason, if they cannot be read or have no rows.
    """
    datasets = quiet_datasets()
    try:
        if files.format == "saved":
            return datasets.load_from_disk(str(files.paths[0]))
        if files.format == "parquet" and (compressed := [path for path in files.paths if _is_compressed(path)]):
            raise StudyError(f"{compressed[0]}: parquet is compressed inside and is not read as .gz; unpack it with "
                             f"gunzip")
        if all(_is_empty(path, files.format) for path in files.paths):
            raise StudyError(f"{files.form}: has no rows; put some there")
        if files.format == "json":          # `datasets` would find it only when it reads the row
            _check_encoding(files.paths)
        check_cache()
        if files.format in ("csv", "tsv"):
            return load_table(files.format, files.form, files.paths, split)
        options = {"encoding": "utf-8-sig", "sample_by": "document" if whole_files else "line"}
        return datasets.load_dataset(files.format, data_files={split: [glob.escape(str(path)) for path in files.paths]},
                                     split=split, **(options if files.format == "text" else {}))
    except StudyError:
        raise
    except Exception as error:              # the library raises many unrelated classes
        _name_the_file(files)
        raise StudyError(f"{files.form}: cannot be read as {files.format}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """Returns why a library failed, in a line."""
    return " ".join(str(error.__cause__ or error).split())[:160]


def _is_empty(path: Path, kind: str) -> bool:
    """Whether a file has no rows. False if it is damaged, which reading it reports."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if kind == "parquet":
            return not pq.read_metadata(path).num_rows
        with _opened(path) as file:
            if kind in ("csv", "tsv"):
                lines = (line for line in file if line.strip())
                return next(lines, None) is None or next(lines, None) is None
            begin = file.read(BLOCK)
    except (OSError, EOFError, pa.ArrowException):
        return False
    return not begin or kind == "json" and re.fullmatch(rb"(\[\]|\{\})*", b"".join(begin.split())) is not None


def _name_the_file(files: Files) -> None:
    """Raises StudyError if one of the files is the reason why all could not be read."""
    try:
        if files.format not in ("parquet", "saved"):
            _check_encoding(files.paths)
        for path in files.paths:
            if _is_empty(path, files.format):
                raise StudyError(f"{path}: has no rows; put some there, or remove it")
            if files.format == "json":
                _check_json(path)
    except (OSError, EOFError):             # not a compressed file, or damaged
        return


def _check_encoding(paths: Iterable[Path]) -> None:
    """Raises StudyError for a file that is not UTF-8."""
    for path in paths:
        decoder, read = codecs.getincrementaldecoder("utf-8")(), 0
        with _opened(path) as file:
            try:
                while block := file.read(BLOCK):
                    waiting = len(decoder.getstate()[0])
                    decoder.decode(block)
                    read += len(block)
                waiting = len(decoder.getstate()[0])
                decoder.decode(b"", final=True)
            except UnicodeDecodeError as error:
                raise StudyError(f"{path}: is not UTF-8 text ({error.reason} at byte {read - waiting + error.start}); "
                                 f"save it as UTF-8") from None


def _check_json(path: Path) -> None:
    """Raises StudyError for the first line that is not JSON. A file that begins with a bracket is one list of rows."""
    for number, text in _json_texts(path):
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            remedy = "write one object per line" if number else "check the brackets, commas and quotes there"
            raise StudyError(f"{path}, line {number or error.lineno}: not JSON ({error.msg}, column {error.colno}); "
                             f"{remedy}") from None


def _json_texts(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers; or the whole file, with 0, if it is one list."""
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            text = line.decode("utf-8-sig")
            if number == 1 and text.lstrip().startswith("["):
                yield 0, text + file.read().decode()
            elif text.strip():
                yield number, text


def _opened(path: Path) -> BinaryIO:
    return gzip.open(path) if _is_compressed(path) else path.open("rb")


def _is_compressed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def quiet_datasets():
    """Returns the module `datasets`, which then prints nothing (errors are reported in one line) and does not tell the
    hub what is loaded."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    return datasets


def check_cache() -> None:
    """Raises StudyError if the folder in which `datasets` keeps what it has read cannot be written."""
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StudyError(f"{folder}: `datasets` cannot keep its files there ({error.strerror}); set HF_HOME to a "
                         f"folder that can be written") from None
