"""The ladder of references with the baseline arm placed on it, as the report and `study claims` show it."""
from __future__ import annotations

import math

import pandas as pd

from study.analysis.ladder import read_ladder
from study.analysis.results import read_json
from study.config.study import Study


def ladder_rows(references: dict, baseline: dict) -> list[dict]:
    """The references on the test tokens and the baseline, from the highest to the lowest NLL.

    A row has `label`, `perplexity`, `nll` (nats), `distance` (how far the baseline's NLL lies above it, nats; None in
    the baseline's own row) and `is_baseline`. references: the content of references.json; a known language also has
    the best predictions given a few words on each side. baseline: the row of arms.csv.
    """
    rows = [{"label": rung.label, "nll": rung.nll} for rung in read_ladder(references, "test")]
    rows += [{"label": f"exact floor given {words} word{'s' if int(words) > 1 else ''} on each side",
              "nll": math.log(perplexity)} for words, perplexity in references.get("contexts", {}).items()]
    nll = baseline["nll_mean"]
    rows = [row | {"distance": nll - row["nll"], "is_baseline": False} for row in rows]
    own = {"label": f"baseline, {baseline['arm']}", "nll": nll, "distance": None, "is_baseline": True}
    rows = sorted([*rows, own], key=lambda row: -row["nll"])
    return [row | {"perplexity": math.exp(row["nll"])} for row in rows]


def study_ladder(study: Study) -> list[dict]:
    """The same from the files of the compare stage. Raises StudyError if it has not run."""
    references = read_json(study.reports / "data.json")["references"]
    arms = pd.read_csv(study.reports / "tables" / "arms.csv")
    return ladder_rows(references, arms[arms.arm == study.settings.baseline].to_dict("records")[0])
