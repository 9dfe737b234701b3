"""Minimal pairs in a file that is given by hand."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from study import StudyError
from study.data.local_files import read_table
from study.data.minimal_pairs import frame_of

if TYPE_CHECKING:
    from pandas import DataFrame


def read_file(path: Path, phenomenon: str | None, paradigm: str | None, most: int | None) -> DataFrame:
    """Returns the pairs in a file with columns sentence_good and sentence_bad, of any format that read_table knows.

    phenomenon, paradigm: columns; None takes BLiMP's `linguistics_term` and `UID` if the file has them. most: as in
    frame_of. Raises StudyError if the file cannot be read or lacks a column.
    """
    rows = read_table(path)
    columns = ["sentence_good", "sentence_bad"]
    columns += [given or (usual if usual in rows else None)
                for given, usual in ((phenomenon, "linguistics_term"), (paradigm, "UID"))]
    if missing := [column for column in columns if column is not None and column not in rows]:
        raise StudyError(f"{path}: no column {missing[0]!r}; it has {', '.join(map(str, rows.columns))}")
    return frame_of(rows, *columns, most, str(path))
