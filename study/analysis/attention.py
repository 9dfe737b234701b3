"""The attention of heads to near positions along training, where `training.attention_offsets` records it."""
from __future__ import annotations

import math

import numpy as np
import pandas as pd

from study.analysis.results import CellResults, StudyResults

OFFSETS = ("-2", "-1", "0", "+1", "+2")     # in the order of `attention_offsets` in metrics.jsonl
NEIGHBOURS = [OFFSETS.index("-1"), OFFSETS.index("+1")]
LOOKS = 0.05                                # share of attention to a neighbour from which a head looks at it


def largest_shares(record: dict) -> np.ndarray | None:
    """The largest share of attention that any head pays to each of OFFSETS (5,); None if the record has none."""
    shares = record.get("attention_offsets")
    return None if shares is None else np.array(shares).reshape(-1, len(OFFSETS)).max(0)


def neighbour_attention(record: dict) -> float | None:
    """The largest share of attention that any head pays to one neighbour; None if the record has none."""
    shares = largest_shares(record)
    return None if shares is None else float(shares[NEIGHBOURS].max())


def first_looks(cells: list[CellResults]) -> dict[str, float]:
    """In how many of these runs a head comes to look at a neighbour (`attending`), and the median over them of the
    first validation step at which one does (`attends`). NaN if attention was not recorded."""
    recorded = [[(record["step"], share) for record in cell.records
                 if (share := neighbour_attention(record)) is not None] for cell in cells]
    if not all(recorded):
        return {"attending": math.nan, "attends": math.nan}
    steps = [next((step for step, share in run if share >= LOOKS), None) for run in recorded]
    steps = [step for step in steps if step is not None]
    return {"attending": len(steps), "attends": float(np.median(steps)) if steps else math.nan}


def attention_table(results: StudyResults) -> pd.DataFrame:
    """One row per arm and validation step: the largest share of attention that any head pays to the token at each of
    OFFSETS from its own position, as a mean over the n runs that were still training."""
    rows = []
    for arm in results.study.settings.arms:
        for cell in results.of_arm(arm):
            every = cell.settings.training.eval_steps
            rows += [{"arm": arm, "step": record["step"], "n": 1, **dict(zip(OFFSETS, shares, strict=True))}
                     for record in cell.records if record["step"] % every == 0
                     and (shares := largest_shares(record)) is not None]
    table = pd.DataFrame(rows, columns=["arm", "step", "n", *OFFSETS])
    means = {offset: (offset, "mean") for offset in OFFSETS}
    return table.groupby(["arm", "step"], sort=False).agg(n=("n", "size"), **means).reset_index()
