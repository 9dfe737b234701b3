"""`study download`: the data sets of a study, from the hub into their local folders."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from study import StudyError
from study.config.schema import MinimalPairs, Text
from study.config.study import Study
from study.data.local_files import quiet_datasets
from study.data.sources import (
    DOWNLOADED,
    Source,
    candidates,
    data_folder,
    load_from_hub,
    local_name,
    local_sources,
)
from study.data.tasks import configurations
from study.files import PART

if TYPE_CHECKING:
    from datasets import Dataset


def download(study: Study, progress=lambda items, **_: items) -> Iterator[Path]:
    """Writes each split that is not there as a parquet file, and yields its path. `progress` wraps iterables.

    Raises StudyError if no setting names a local folder, if one asks for a format other than parquet, or if a split
    cannot be loaded from the hub, or if two different ones would have one file.
    """
    sources = local_sources(study)
    if not sources:
        raise StudyError(f"{study.params_path}: no `local` folder is named, so each stage reads the hub itself; name "
                         f"folders below {data_folder(study.root)} to keep copies")
    splits = [(source, split) for source in sources for split in source.splits]
    _check_names(study, splits)
    for source, split in progress(splits, description="download"):
        if candidates(study, source, split):
            continue
        folder, name = data_folder(study.root) / source.local, local_name(source, split)
        if (wanted := getattr(source, "format", None)) not in DOWNLOADED:
            raise StudyError(f"{study.params_path}: {folder} has no split {name} of the `format: {wanted}` that stands "
                             f"next to `local: {source.local}`, and a download writes parquet; set format to null")
        rows = _rows(study, source, split)
        path = folder / f"{name}.parquet"
        part = path.with_name(f".{path.name}{PART}")
        folder.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(part)
        part.replace(path)
        yield path


def _check_names(study: Study, splits: list[tuple[Source, str]]) -> None:
    """Raises StudyError if two of the splits would have the same file, but differ on the hub."""
    first: dict[tuple[str, str], tuple] = {}
    for source, split in splits:
        file = source.local, local_name(source, split)
        origin = source.path, source.name if isinstance(source, Text) else None, source.splits[split]
        if (other := first.setdefault(file, origin)) != origin:
            raise StudyError(f"{study.params_path}: `local: {source.local}` would have one file {file[1]} for "
                             f"{other[2]} of {other[0]} and for {origin[2]} of {origin[0]}; give one of the two "
                             f"another folder")


def _rows(study: Study, source: Source, split: str) -> Dataset:
    """A split on the hub; of minimal pairs, that of all configurations."""
    if isinstance(source, MinimalPairs):
        names = configurations(source)
    else:
        names = [source.name if isinstance(source, Text) else None]
    parts = [load_from_hub(study, source, split, name) for name in names]
    return quiet_datasets().concatenate_datasets(parts)
