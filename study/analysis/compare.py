"""The compare stage: tables of cells, arms, comparisons, curves and claims, from result files alone.

Tables go to `reports/<study>/tables/`; what the report needs beside them and is not kept in git goes to
`reports/<study>/data.json`, so that the report can be built again from committed files.
"""
from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial

import pandas as pd

from study.analysis.claims import AnyClaim, exploratory, load_sources
from study.analysis.comparisons import comparisons
from study.analysis.results import arms, cells, curves, read_json, tokens, trained_as_said
from study.analysis.verdicts import Verdict, decide_all, unit_scale
from study.config.load import Study
from study.files import write_json

_write = partial(write_json, sort_keys=True, ensure_ascii=False)


def compare(study: Study, claims: dict[str, AnyClaim], checks: dict[str, dict]) -> dict[str, Verdict]:
    """Writes the tables, metrics.json, data.json and claims.json; returns the verdicts.

    checks: the outcome of each claim about code (study/checks.py).
    """
    examples = study.runs / "examples"
    data = {"corpus": read_json(study.runs / "corpus" / "manifest.json"),
            "references": read_json(examples / "references.json"), "baselines": read_json(examples / "baselines.json")}
    frame = cells(study)
    trained_as_said(study)
    verdicts = decide_all(study, claims, checks)
    tables = {"cells": frame, "arms": arms(study, frame), "comparisons": comparisons(study), "curves": curves(study),
              "tokens": tokens(study), "claims": _claims_table(study, claims, verdicts)}
    folder = study.reports / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    _write(study.reports / "data.json", data)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
    shown = ("perplexity_mean", "nll_mean", "probe_accuracy_mean", "untrained_accuracy_mean")
    metrics = {row["arm"]: {key.removesuffix("_mean"): _plain(row[key]) for key in shown}
               for row in tables["arms"].to_dict("records")}
    _write(study.reports / "metrics.json", metrics)
    changed, sources = exploratory(study, claims), load_sources(study)
    _write(study.reports / "claims.json", {
        name: {**claim.model_dump(mode="json"), "exploratory": name in changed,
               "source_title": sources.get(claim.source, claim.source),
               "outcome": {key: _plain(item) if isinstance(item, float) else item
                           for key, item in asdict(verdicts[name]).items()}}
        for name, claim in claims.items()})
    return verdicts


def _claims_table(study: Study, claims: dict[str, AnyClaim], verdicts: dict[str, Verdict]) -> pd.DataFrame:
    changed = exploratory(study, claims)
    rows = []
    for name, claim in claims.items():
        found = asdict(verdicts[name])
        found.pop("values")
        about = {key: getattr(claim, key, None) for key in ("treatment", "baseline", "metric", "family", "margin")}
        about["treatment"] = about["treatment"] or getattr(claim, "arm", None)
        rows.append({"claim": name, **found, **about, "claim_type": claim.claim_type, "unit": unit_of(about["metric"]),
                     "exploratory": name in changed, "statement": claim.statement, "published": claim.published,
                     "source": claim.source, "expected": claim.expected})
    return pd.DataFrame(rows)


def unit_of(metric: str | None) -> str:
    """The unit of a metric's numbers in tables: of accuracies, which readers see in points, shares."""
    unit = unit_scale(metric)[1]
    return "share" if unit == "points" else unit


def _plain(value: float) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
