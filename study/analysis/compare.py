"""The compare stage: tables and verdicts, from result files alone.

Tables go to `reports/<study>/tables/`. `reports/<study>/data.json` holds what the report needs from files that are not
in git, so that the report can be rebuilt from committed files.
"""
from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial

import pandas as pd

from study.analysis.along_training import along_training_table
from study.analysis.claims import AnyClaim, fidelity_of, load_sources
from study.analysis.comparisons import comparison_table
from study.analysis.conditions import evidence
from study.analysis.current import check_comparable
from study.analysis.escape import escape_table
from study.analysis.further_tables import further_tables
from study.analysis.metrics import table_unit
from study.analysis.questions import question_of
from study.analysis.registration import exploratory
from study.analysis.results import StudyResults
from study.analysis.tables import (
    arm_table,
    cell_table,
    curve_table,
    finetune_table,
    input_table,
    probe_table,
    token_table,
)
from study.analysis.verdict import NOT_TESTABLE, Verdict, verdict_on
from study.analysis.verdicts import decide_all
from study.config.made_with import MADE_WITH, write_made_with
from study.config.study import Study
from study.files import write_json

HEADLINE_COLUMNS = ("perplexity_mean", "nll_mean", "probe_accuracy_mean", "untrained_accuracy_mean",
                    "finetuned_accuracy_mean", "finetuned_untrained_mean")      # the last two if the study fine-tunes

_write = partial(write_json, sort_keys=True, ensure_ascii=False)


def compare(study: Study, claims: dict[str, AnyClaim], checks: dict[str, dict]) -> dict[str, Verdict]:
    """Writes the tables, metrics.json, data.json and claims.json; returns the verdicts.

    checks: the outcome of each check by name (study/evaluation/exact_claims.py).
    """
    results, folder = StudyResults(study), study.reports / "tables"
    data = {"corpus": results.corpus, "references": results.references, "baselines": results.baselines}
    if summaries := results.summaries:      # studies of older versions have none
        data["summaries"] = summaries
    if study.settings.evaluation.minimal_pairs:
        data["minimal_pairs"] = results.pair_baselines
    check_comparable(results)
    verdicts, changed = decide_all(results, claims, checks), exploratory(study, claims)
    cells = cell_table(results)
    arms = arm_table(results, cells)
    tables = {"cells": cells, "arms": arms, "comparisons": comparison_table(results), "curves": curve_table(results),
              "along_training": along_training_table(results), "tokens": token_table(results),
              "escape": escape_table(results), "probes": probe_table(results), "inputs": input_table(results),
              "claims": _claims_table(study, claims, verdicts, changed), **further_tables(results)}
    if study.settings.finetune.arms:
        tables["finetuned"] = finetune_table(results)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
    write_made_with(study, "compare", folder / MADE_WITH)
    _write(study.reports / "data.json", data)
    _write(study.reports / "metrics.json", {
        row["arm"]: {key.removesuffix("_mean"): _rounded(row[key]) for key in HEADLINE_COLUMNS if key in row}
        for row in arms.to_dict("records")})
    sources = load_sources(study)
    _write(study.reports / "claims.json", {
        name: {**claim.model_dump(mode="json"), "exploratory": name in changed,
               "source_title": sources.get(claim.source, claim.source), "fidelity": fidelity_of(claim),
               "question": question_of(study, claim), "verdict": verdict_on(claim, verdicts[name].outcome),
               "result": _numbers(verdicts[name]), **_plain(_evidence(results, claim, verdicts[name]))}
        for name, claim in claims.items()})
    return verdicts


def _numbers(verdict: Verdict) -> dict:
    return _plain(asdict(verdict)) | {"flags": sorted(verdict.flags), "values": verdict.values}


def _evidence(results: StudyResults, claim: AnyClaim, verdict: Verdict) -> dict:
    """What is shown beside the number that decides a claim; nothing for a claim that this study does not test."""
    return {"beside": [], "control": None} if verdict.outcome == NOT_TESTABLE else evidence(results, claim)


def _plain(content: object) -> object:
    """The content with its numbers rounded, and null for those that are not finite."""
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value) for value in content]
    return _rounded(content) if isinstance(content, float) else content


def _claims_table(study: Study, claims: dict[str, AnyClaim], verdicts: dict[str, Verdict],
                  changed: set[str]) -> pd.DataFrame:
    rows = []
    for name, claim in claims.items():
        result = asdict(verdicts[name])
        del result["values"], result["flags"]
        test = {key: getattr(claim, key, None) for key in ("treatment", "baseline", "metric", "family", "margin")}
        test["treatment"] = test["treatment"] or getattr(claim, "arm", None)
        rows.append({"claim": name, "fidelity": fidelity_of(claim), "outcome": result.pop("outcome"),
                     "verdict": verdict_on(claim, verdicts[name].outcome), **result, **test,
                     "question": question_of(study, claim), "claim_type": claim.claim_type,
                     "unit": table_unit(test["metric"]),
                     "exploratory": name in changed, "statement": claim.statement, "published": claim.published,
                     "source": claim.source, "expected": claim.expected})
    return pd.DataFrame(rows)


def _rounded(value: float) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
