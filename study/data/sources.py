"""Rows of a data set: from files of this machine if the settings have a `local` folder, else from the hub.

A split in a local folder is one of these, in one of FORMATS (local_files.py), all but parquet also with .gz:

    train.csv                                                one file
    train-00000-of-00002.parquet, ...                        the shards of the hub
    data/ with one of the above                              a repository of the hub
    train/ with files, read in the order of their names      parts, or one text per file
    train/ as `save_to_disk` of `datasets` writes it         format `saved`
"""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from study import StudyError
from study.config.schema import MinimalPairs, ProbeTask, Text
from study.config.study import Study
from study.data.hub import prepare_client
from study.data.local_files import (
    FORMATS,
    Files,
    check_cache,
    files_of,
    quiet_datasets,
    read_files,
    reason,
    shard_counts,
)

if TYPE_CHECKING:
    from datasets import Dataset

Source = Text | ProbeTask | MinimalPairs    # settings that name a data set
SPLITS = ("train", "validation", "test")
DOWNLOADED = (None, "parquet")              # settings of `format` that find what `study download` writes
SHOWN_FILES = 5                             # names of files in an error


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
    if source.local is None:
        rows, place = load_from_hub(study, source, split, configuration), source.path
    else:
        files = find_files(study, source, split)
        rows = read_files(files, split, whole_files=getattr(source, "layout", None) == "files")
        place = files.form
    if not len(rows):
        raise StudyError(f"{place}: has no rows; put the split's text there")
    if missing := [column for column in columns if column not in rows.column_names]:
        header = "; is its first line a header?" if source.local and files.format in ("csv", "tsv") else ""
        raise StudyError(f"{place} ({split}): no column {missing[0]!r}; it has {', '.join(rows.column_names)}{header}")
    return rows


def check_local_files(study: Study) -> None:
    """Raises StudyError if a split of the corpus or of a task is not in its local folder. Nothing is read."""
    for source in local_sources(study):
        for split in source.splits:
            find_files(study, source, split)


def local_sources(study: Study) -> list[Source]:
    """Returns the settings of each data set that has a local folder: of the corpus, of tasks and of minimal pairs."""
    settings = study.settings
    tasks = [task for task in (*settings.probe.tasks, *settings.finetune.tasks) if task.path != "corpus"]
    sources = (settings.corpus, *tasks, *settings.evaluation.minimal_pairs)
    return [source for source in sources if getattr(source, "local", None) is not None]


def find_files(study: Study, source: Source, split: str) -> Files:
    """Returns the files of a split in the source's local folder. Raises StudyError if it has none, or more than one
    that could be meant."""
    folder, name = data_folder(study.root) / source.local, local_name(source, split)
    found = candidates(study, source, split)
    if not found:
        raise StudyError(_nothing_found(study, source, folder, name))
    if len(found) > 1:
        names = ", ".join(os.path.relpath(form, folder) for form in sorted(found))
        remedy = "keep one of them" if isinstance(source, MinimalPairs) else (
            f"keep one, or set `format` next to `local: {source.local}` in {study.params_path}")
        raise StudyError(f"{folder}: the split {name} is there more than once ({names}); {remedy}")
    files = next(iter(found.values()))
    _check_files(files, name, source)
    return files


def candidates(study: Study, source: Source, split: str) -> dict[str, Files]:
    """Returns the sets of files in the source's local folder that could be the split, by what errors call them. If the
    settings name a format, others do not count."""
    files_there = files_of(data_folder(study.root) / source.local, local_name(source, split))
    wanted = getattr(source, "format", None)
    return {files.form: files for files in files_there if wanted in (None, files.format)}


def local_name(source: Source, split: str) -> str:
    """Returns what a split is called in the local folder: as on the hub, unless that is an expression (`train[:9]`,
    `train[:9%]`, `train+test`). Minimal pairs are always `test`, since the hub may have no such split."""
    name = source.splits[split]
    return split if isinstance(source, MinimalPairs) or not name or re.search(r"[\[%+]", name) else name


def _check_files(files: Files, split: str, source: Source) -> None:
    """Raises StudyError if a shard is missing, or if the format has no labels or no files of text."""
    layout = getattr(source, "layout", None)
    counts = shard_counts(files)
    if counts - {len(files.paths)}:
        remedy = "put the missing ones there" if max(counts) > len(files.paths) else "remove those of another download"
        raise StudyError(f"{files.form}: {len(files.paths)} shards are there, but their names say "
                         f"{' or '.join(map(str, sorted(counts)))}; {remedy}")
    if files.format == "text" and layout is None:
        needed = ("columns; minimal pairs need a table with a column for each of the two sentences"
                  if isinstance(source, MinimalPairs) else "labels; a task needs a table with a column of labels")
        raise StudyError(f"{files.form}: text files have no {needed} (parquet, csv, tsv, json or a saved data set)")
    if files.format != "text" and layout == "files":
        raise StudyError(f"{files.form}: corpus.layout files reads each text file as one document, and this is "
                         f"{files.format}; choose the layout documents")


def _nothing_found(study: Study, source: Source, folder: Path, split: str) -> str:
    """The message about a local folder that lacks a split."""
    data = data_folder(study.root)
    if not folder.is_dir():
        missing = next(path for path in (data, folder) if not path.is_dir())
        variable = " (STUDY_DATA)" if missing == data and os.environ.get("STUDY_DATA") else ""
        found = f"no such folder{variable}"
    else:
        names = sorted((str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
                       key=lambda name: (name.startswith("."), name))
        more = f" and {len(names) - SHOWN_FILES} more" if len(names) > SHOWN_FILES else ""
        found = f"it has {', '.join(names[:SHOWN_FILES])}{more}" if names else "it is empty"
        missing = folder
    wanted = getattr(source, "format", None)
    others = " (or csv, tsv, json, txt)" if isinstance(source, Text) else " (or csv, tsv, json)"
    ending, formats = FORMATS.get(wanted, (".parquet",))[0], "" if wanted else others
    fetch = f" run `study download` to fetch {source.path} from the hub," if wanted in DOWNLOADED else ""
    return (f"{missing}: {found}; put {split}{ending}{formats} in {folder},{fetch} or set `local: null` in "
            f"{study.params_path} to read it from the hub")


def load_from_hub(study: Study, source: Source, split: str, configuration: str | None) -> Dataset:
    """Returns one split of a data set on the hub. Raises StudyError if it cannot be loaded, or if the current folder
    has something of that name, which `datasets` would read in its place."""
    data, where = data_folder(study.root), f"study {study.settings.name}: {source.path} ({split})"
    if Path(source.path).exists():
        remedy = "" if source.local else f"; to read it, move it below {data} and set `local: {source.path}`"
        raise StudyError(f"{where} is to be read from the hub, but {Path(source.path).resolve()} has the same name; "
                         f"rename it, or run the command in another folder{remedy}")
    datasets = quiet_datasets()
    prepare_client()
    check_cache()
    try:
        return datasets.load_dataset(source.path, configuration, revision=source.revision, split=source.splits[split])
    except Exception as error:              # the hub client raises many unrelated classes
        folder = source.local or Path(source.path).name
        setting = "" if source.local else f" and set `local: {folder}`"
        raise StudyError(f"{where} could not be loaded from the hub; put {local_name(source, split)}.parquet in "
                         f"{data / folder}{setting}: {reason(error)}") from None
