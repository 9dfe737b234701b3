"""Tables without types: .csv, and .tsv, in which quotes are characters like others."""
from __future__ import annotations

import csv
import glob
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from study import StudyError

if TYPE_CHECKING:
    from datasets import Dataset

OPTIONS = {"csv": {}, "tsv": {"sep": "\t", "quoting": csv.QUOTE_NONE}}
REMEDIES = {"csv": "put quotes around fields that contain a comma, and remove commas at the ends of lines",
            "tsv": "remove the tabs inside fields and at the ends of lines"}


@contextmanager
def table_options(kind: str, form: str) -> Iterator[dict]:
    """Gives the options of pandas' read_csv for a kind of table, `csv` or `tsv`, which is to be read in this context.

    form: what the table is called in an error. Raises StudyError if a row has more fields than the header: pandas would
    take the first column for names of rows, and move the others.
    """
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield {**OPTIONS[kind], "index_col": False, "keep_default_na": False}
    except Exception as error:              # `datasets` wraps what pandas raises
        cause = error.__cause__ or error
        line = re.search(r"Expected \d+ fields in (line \d+)", str(cause))
        if line is None and not isinstance(cause, pd.errors.ParserWarning):
            raise
        raise StudyError(f"{form}: {line[1] if line else 'its first row'} has more fields than the header; "
                         f"{REMEDIES[kind]}") from None


def load_table(kind: str, form: str, paths: tuple[Path, ...], split: str) -> Dataset:
    """Returns the rows of files of a kind. Arguments and errors are those of `table_options`.

    All fields are read as they are written, also those of columns that the caller does not use: a type that fits the
    first rows need not fit the others.
    """
    import datasets
    import pandas as pd

    with table_options(kind, form) as options:
        columns = []
        for path in paths:
            header = list(pd.read_csv(path, nrows=0, **options).columns)
            if kind == "csv" and len(header) == 1 and (other := re.search(r"[;\t|]", header[0])):
                raise StudyError(f"{path}: its header is {header[0]!r:.60}, so {other[0]!r} seems to separate the "
                                 f"fields; in .csv files commas do, and in .tsv files tabs")
            columns += header
        return datasets.load_dataset("csv", data_files={split: [glob.escape(str(path)) for path in paths]},
                                     split=split, converters=dict.fromkeys(columns, str), **options)
