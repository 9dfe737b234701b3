"""Minimal pairs: two sentences that differ in little, of which only one is acceptable (Warstadt et al. 2020, BLiMP).

A corpus folder holds a file `pairs-<task>.parquet` per task with columns good, bad, phenomenon and paradigm.
"""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from study import StudyError, randomness
from study.config.schema import MinimalPairs
from study.config.study import Study

if TYPE_CHECKING:
    from pandas import DataFrame

ALL = "all"                                 # the phenomenon of pairs without one


def frame_of(rows: DataFrame, good: str, bad: str, phenomenon: str | None, paradigm: str | None,
             most: int | None, where: str) -> DataFrame:
    """Returns the pairs of a table with columns good, bad, phenomenon and paradigm; without paradigms, each pair is
    one. most: how many to draw of each paradigm, without paradigms of each phenomenon; None takes all.

    Raises StudyError, which names the table as `where`, for a sentence that is not text and for a table without rows.
    """
    import pandas as pd

    frame = pd.DataFrame({"good": rows[good], "bad": rows[bad],
                          "phenomenon": ALL if phenomenon is None else rows[phenomenon].astype(str)})
    frame["paradigm"] = [str(number) for number in range(len(rows))] if paradigm is None else rows[paradigm].astype(str)
    is_text = frame[["good", "bad"]].map(lambda text: isinstance(text, str) and bool(text.strip())).all(axis=1)
    if frame.empty or not is_text.all():
        raise StudyError(f"{where}: no pairs; give it rows" if frame.empty else
                         f"{where}: row {int((~is_text).argmax())} lacks a sentence; remove or complete it")
    if most is None:
        return frame
    shuffled = frame.iloc[randomness.permutation(0, randomness.SUBSET, len(frame))]
    drawn = shuffled.groupby("phenomenon" if paradigm is None else "paradigm").head(most)
    return drawn.sort_index().reset_index(drop=True)


def read_pairs(study: Study, task: MinimalPairs) -> DataFrame:
    """Returns the pairs of a task from the corpus folder. Raises StudyError if the file is missing or damaged."""
    import pandas as pd

    path = pairs_path(study.runs / "corpus", task)
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: no usable pairs ({' '.join(str(error).split()):.120}); run `study corpus` (or `dvc "
                         f"repro`)") from None


def pairs_path(folder: Path, task: MinimalPairs) -> Path:
    """Returns the file of a task in a corpus folder."""
    return folder / f"pairs-{task.name}.parquet"
