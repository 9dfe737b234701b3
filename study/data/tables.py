"""Tables without types: .csv, and .tsv, in which quotes are characters like others."""
from __future__ import annotations

import csv
import glob
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from study import StudyError

if TYPE_CHECKING:
    from datasets import Dataset

OPTIONS = {"csv": {}, "tsv": {"sep": "\t", "quoting": csv.QUOTE_NONE}}
REMEDIES = {"csv": "put quotes around fields that contain a comma", "tsv": "remove the tabs inside fields"}


def load_table(kind: str, form: str, paths: tuple[Path, ...], split: str) -> Dataset:
    """Returns the rows of files of a kind, `csv` or `tsv`. form: what the files are called in an error.

    All fields are read as they are written, also those of columns that nobody asks for: a type that fits the first rows
    need not fit the others. Raises StudyError if a row has more fields than the header: pandas would take the first
    column for names of rows, and move the others.
    """
    import datasets
    import pandas as pd

    options = {**OPTIONS[kind], "index_col": False, "keep_default_na": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            columns = [name for path in paths for name in pd.read_csv(path, nrows=0, **options).columns]
            return datasets.load_dataset("csv", data_files={split: [glob.escape(str(path)) for path in paths]},
                                         split=split, converters=dict.fromkeys(columns, str), **options)
    except Exception as error:              # `datasets` wraps what pandas raises
        cause = error.__cause__ or error
        line = re.search(r"Expected \d+ fields in (line \d+)", str(cause))
        if line is None and not isinstance(cause, pd.errors.ParserWarning):
            raise
        raise StudyError(f"{form}: {line[1] if line else 'its first row'} has more fields than the header; "
                         f"{REMEDIES[kind]}") from None
