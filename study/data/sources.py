"""Rows of a data set: from files of this machine if the settings have a `local` folder, else from the hub.

A split in a local folder is one of these, in one of FORMATS, each file also with .gz:

    train.csv                                                one file
    train-00000-of-00002.parquet, ...                        the shards of the hub
    train/ with files, read in the order of their names      parts, or one text per file
    train/ as `save_to_disk` of `datasets` writes it         format `saved`
"""
from __future__ import annotations

import csv
import glob
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from study import StudyError
from study.config.schema import MinimalPairs, ProbeTask, Text
from study.config.study import Study

if TYPE_CHECKING:
    from datasets import Dataset

Source = Text | ProbeTask | MinimalPairs    # settings that name a data set
SPLITS = ("train", "validation", "test")
FORMATS = {"parquet": (".parquet",), "csv": (".csv",), "tsv": (".tsv",), "json": (".json", ".jsonl"),
           "text": (".txt",)}
SAVED = "state.json"                        # in the folder of a split that `save_to_disk` has written
SHOWN_FILES = 5                             # names of files in an error


@dataclass(frozen=True)
class Files:
    """The files of one split and their format. `form`: what they are called in an error. `paths`: one folder if the
    format is `saved`."""
    format: str
    form: str
    paths: tuple[Path, ...]


def data_folder(root: Path) -> Path:
    """Returns the folder with local data sets: STUDY_DATA if it is set, else data/. Both are relative to `root`, the
    folder of the project, so they are the same from every folder."""
    return Path(os.path.normpath(root / Path(os.environ.get("STUDY_DATA") or "data").expanduser()))


def load_rows(study: Study, source: Source, split: str, columns: tuple[str, ...],
              configuration: str | None = None) -> Dataset:
    """Returns one split of a data set: from its local folder if the settings name one, else from the hub.

    configuration: the data set's configuration on the hub. Raises StudyError if the split cannot be loaded or a column
    is missing. With a local folder, nothing is asked of the hub.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    if source.local is None:
        rows, place = load_from_hub(study, source, split, configuration), source.path
    else:
        files = find_files(study, source, split)
        rows = _load_files(files, split, columns, whole_files=getattr(source, "layout", None) == "files")
        place = files.form
    if not len(rows):
        raise StudyError(f"{place}: has no rows; put the split's text there")
    if missing := [column for column in columns if column not in rows.column_names]:
        header = "; is its first line a header?" if source.local and files.format in ("csv", "tsv") else ""
        raise StudyError(f"{place} ({split}): no column {missing[0]!r}; it has {', '.join(rows.column_names)}{header}")
    return rows


def check_local_files(study: Study) -> None:
    """Raises StudyError if a split of the corpus or of a task is not in its local folder. Nothing is read."""
    settings = study.settings
    for source in (settings.corpus, *settings.probe.tasks, *settings.evaluation.minimal_pairs):
        for split in source.splits if source.local is not None else ():
            find_files(study, source, split)


def find_files(study: Study, source: Source, split: str) -> Files:
    """Returns the files of a split in the source's local folder. Raises StudyError if it has none, or more than one
    that could be meant."""
    folder, split = data_folder(study.root) / source.local, local_name(source, split)
    found = {files.form: files for files in candidates(folder, split)}
    if wanted := getattr(source, "format", None):
        found = {form: files for form, files in found.items() if files.format == wanted}
    if not found:
        raise StudyError(_nothing_found(study, source, folder, split))
    if len(found) > 1:
        names = ", ".join(os.path.relpath(form, folder) for form in sorted(found))
        raise StudyError(f"{folder}: the split {split} is there more than once ({names}); keep one, or set `format` "
                         f"next to `local: {source.local}` in {study.params_path}")
    files = next(iter(found.values()))
    _check_files(files, split, getattr(source, "layout", None))
    return files


def local_name(source: Source, split: str) -> str:
    """Returns what a split is called in the local folder: as on the hub, unless that is an expression (`train[:9]`).
    Minimal pairs are always `test`, since the hub may have no such split."""
    name = source.splits[split]
    return split if isinstance(source, MinimalPairs) or not re.fullmatch(r"\w[\w-]*", name) else name


def candidates(folder: Path, split: str) -> Iterable[Files]:
    """Returns the sets of files in a local folder that could be the split."""
    if not folder.is_dir():
        return
    endings = {ending: name for name, endings in FORMATS.items() for ending in endings}
    pattern = re.compile(rf"({re.escape(split)})(-\d+-of-\d+)?({'|'.join(map(re.escape, endings))})(\.gz)?")
    shards: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        match = pattern.fullmatch(path.name)
        if match and match[2]:
            shards.setdefault(match[3], []).append(path)
        elif match:
            yield Files(endings[match[3]], str(path), (path,))
    for ending, paths in shards.items():
        yield Files(endings[ending], str(folder / f"{split}-*{ending}"), tuple(paths))
    if (folder / split / SAVED).exists():
        yield Files("saved", str(folder / split), (folder / split,))
        return
    parts: dict[str, list[Path]] = {}
    for path in sorted((folder / split).rglob("*")):
        match = re.fullmatch(rf"[^.].*({'|'.join(map(re.escape, endings))})(\.gz)?", path.name)
        if match:
            parts.setdefault(endings[match[1]], []).append(path)
    for name, paths in parts.items():
        yield Files(name, str(folder / split / f"*{FORMATS[name][0]}"), tuple(paths))


def _check_files(files: Files, split: str, layout: str | None) -> None:
    """Raises StudyError if a shard is missing, or if the format has no labels or no files of text."""
    counts = {int(match[1]) for path in files.paths if (match := re.search(r"-of-(\d+)\.", path.name))}
    if files.form.startswith(str(files.paths[0].parent / f"{split}-")) and counts != {len(files.paths)}:
        raise StudyError(f"{files.form}: {len(files.paths)} shards are there, but their names say "
                         f"{' or '.join(map(str, sorted(counts)))}; put the missing ones there")
    if files.format == "text" and layout is None:
        raise StudyError(f"{files.form}: text files have no labels; a task needs a table with a column of labels "
                         f"(parquet, csv, tsv, json or a saved data set)")
    if files.format != "text" and layout == "files":
        raise StudyError(f"{files.form}: corpus.layout files reads each text file as one document, and this is "
                         f"{files.format}; choose the layout documents")


def _nothing_found(study: Study, source: Source, folder: Path, split: str) -> str:
    """The message about a local folder that lacks a split."""
    data = data_folder(study.root)
    if not folder.is_dir():
        missing = next(path for path in (data, folder) if not path.is_dir())
        told = " (STUDY_DATA)" if missing == data and os.environ.get("STUDY_DATA") else ""
        found = f"no such folder{told}"
    else:
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        more = f" and {len(names) - SHOWN_FILES} more" if len(names) > SHOWN_FILES else ""
        found = f"it has {', '.join(names[:SHOWN_FILES])}{more}" if names else "it is empty"
        missing = folder
    wanted = getattr(source, "format", None)
    ending, formats = FORMATS.get(wanted, (".parquet",))[0], "" if wanted else " (or csv, tsv, json, txt)"
    return (f"{missing}: {found}; put {split}{ending}{formats} in {folder}, run `study download` to fetch "
            f"{source.path} from the hub, or set `local: null` in {study.params_path} to read it from the hub")


def _load_files(files: Files, split: str, columns: tuple[str, ...], whole_files: bool) -> Dataset:
    """The rows of local files. whole_files: whether a text file is one row; else each of its lines is one."""
    datasets = quiet_datasets()
    # Fields of tables without types are read as they are written. In .tsv, quotes are characters like others.
    table = {"converters": dict.fromkeys(columns, str), "keep_default_na": False}
    options = {"csv": table, "tsv": table | {"sep": "\t", "quoting": csv.QUOTE_NONE},
               "text": {"encoding": "utf-8-sig", "sample_by": "document" if whole_files else "line"}}
    try:
        if files.format == "saved":
            return datasets.load_from_disk(str(files.paths[0]))
        if not any(path.stat().st_size for path in files.paths) or _is_empty(files):
            raise StudyError(f"{files.form}: has no rows; put the split's text there")
        check_cache()
        builder = "csv" if files.format == "tsv" else files.format
        return datasets.load_dataset(builder, data_files={split: [glob.escape(str(path)) for path in files.paths]},
                                     split=split, **options.get(files.format, {}))
    except StudyError:
        raise
    except Exception as error:              # the library raises many unrelated classes
        raise StudyError(f"{files.form}: cannot be read as {files.format}: {_reason(error)}") from None


def load_from_hub(study: Study, source: Source, split: str, configuration: str | None) -> Dataset:
    """Returns one split of a data set on the hub. Raises StudyError if it cannot be loaded."""
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "20")
    if not can_reach_hub():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")        # read when `datasets` is imported
    datasets = quiet_datasets()
    check_cache()
    try:
        return datasets.load_dataset(source.path, configuration, revision=source.revision, split=source.splits[split])
    except Exception as error:              # the hub client raises many unrelated classes
        folder = source.local or Path(source.path).name
        raise StudyError(f"study {study.settings.name}: {source.path} ({split}) could not be loaded from the hub; put "
                         f"{split}.parquet in {data_folder(study.root) / folder} and set `local: {folder}`: "
                         f"{_reason(error)}") from None


def can_reach_hub() -> bool:
    """Returns False if the hub's name has no address. Its client would try again for a minute, and its cache needs no
    connection."""
    import socket
    from urllib.parse import urlparse
    from urllib.request import getproxies

    from huggingface_hub import constants

    try:
        return bool(getproxies()) or bool(socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443))
    except OSError:
        return False


def quiet_datasets():
    """Returns the module `datasets`, which then prints nothing: errors are reported in one line."""
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


def _reason(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())[:160]


def _is_empty(files: Files) -> bool:
    """Whether parquet files have no rows. False if they are damaged, which reading them reports."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if files.format != "parquet":
        return False
    try:
        return not any(pq.read_metadata(path).num_rows for path in files.paths)
    except (OSError, pa.ArrowException):
        return False
