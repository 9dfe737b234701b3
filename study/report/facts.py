"""Everything that the report states, gathered from the tables of the compare stage and from the result files."""
from __future__ import annotations

from pathlib import Path

import pandas as pd

from study import StudyError
from study.analysis.along_training import summary
from study.analysis.learning import FAILED
from study.analysis.metrics import METRICS
from study.analysis.registration import read_registrations
from study.analysis.results import StudyResults, headline_probe, read_json
from study.config.fingerprint import flat
from study.report.claims import NOT_TESTABLE, by_question, claim_rows, failed_runs, outcome_counts, with_runs
from study.report.discussion import cited_claims, discussion
from study.report.ladder import ladder_rows
from study.report.overview import further_tasks
from study.report.search import chosen, importances, trial_counts

TABLES = ("cells", "arms", "comparisons", "along_training", "tokens", "escape")
MAX_SAMPLES = 4                             # sample rows that the report shows


def gather(results: StudyResults) -> dict:
    """The context of the templates. Raises StudyError if the compare stage has not run."""
    study, settings = results.study, results.study.settings
    frames = {name: _table(study.reports / "tables" / f"{name}.csv") for name in TABLES}
    data, probe = read_json(study.reports / "data.json"), headline_probe(study)
    reference = results.cell(settings.baseline, settings.seeds[0]).evaluation["mask_only"]
    facts = {"study": settings, "frames": frames, "data": data, "task": probe.task, "pooling": probe.pooling,
             "levels": data["baselines"][probe.task], "reference": reference, "arms": _arms(results, frames["arms"]),
             "comparisons": frames["comparisons"].to_dict("records"), "cells": frames["cells"].to_dict("records"),
             "along": summary(frames["along_training"]),
             "labels": {name: metric.label for name, metric in METRICS.items()},
             "totals": _totals(results, frames["cells"]), "samples": _samples(results), "quotable": study.quotable,
             "settings": dict(flat(settings.model_dump(mode="json"))), "verified": verified(results),
             "searched": trial_counts(results.trials), "chosen": chosen(results.tuned),
             "importances": importances(results.trials, settings.search.space)}
    failed = {arm["arm"]: sum(arm[status] for status in FAILED) for arm in facts["arms"]}
    cited = cited_claims(study)
    claims = [row | {"failed": failed_runs(row, failed), "discussed": row["id"] in cited} for row in claim_rows(study)]
    facts |= {"claims": claims, "questions": by_question(with_runs(claims)), "counts": _counts(claims),
              "registrations": read_registrations(study), "further": further_tasks(results, facts),
              "sources": {row["source"]: row["source_title"] for row in claims
                          if row["source_title"] != row["source"]}}
    baseline = next(arm for arm in facts["arms"] if arm["arm"] == settings.baseline)
    facts |= {"baseline": baseline, "ladder": ladder_rows(data["references"], baseline)}
    return facts | {"discussion": discussion(results, facts)}


def _table(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise StudyError(f"{path}: no such file yet; run `study compare` (or `dvc repro`) first")
    return pd.read_csv(path)


def _arms(results: StudyResults, table: pd.DataFrame) -> list[dict]:
    """The rows of arms.csv with factor and baseline of the arm."""
    arms = results.study.arms
    return [row | {key: getattr(arms[row["arm"]], key) for key in ("factor", "baseline")}
            for row in table.to_dict("records")]


def _counts(claims: list[dict]) -> dict:
    """Outcome -> number of claims, for claims that runs test and for checks of code and arithmetic."""
    return {"runs": outcome_counts(with_runs(claims)),
            "checks": outcome_counts([row for row in claims if row["claim_type"] == "exact"]),
            "untested": sum(row["outcome"] == NOT_TESTABLE for row in claims)}


def _totals(results: StudyResults, cells: pd.DataFrame) -> dict:
    """Sums over all runs; versions, hardware and commits that they had."""
    runs = [cell.training for cell in results.cells]
    return {"cells": len(runs), **{status: int((cells.status == status).sum()) for status in FAILED},
            **{key: sum(run[key] for run in runs) for key in ("tokens", "flops", "seconds")},
            **{key: _joined([run[key] for run in runs]) for key in ("versions", "hardware")},
            "machines": len({str(run["hardware"]) for run in runs}),
            "commits": sorted({run["commit"][:10] for run in runs if run.get("commit")})}


def _joined(records: list[dict]) -> dict:
    """Each key of the first record with its value, or with all values if the records differ."""
    joined = {}
    for key, value in records[0].items():
        values = sorted({str(record.get(key)) for record in records})
        joined[key] = value if len(values) == 1 else ", ".join(values)
    return joined


def verified(results: StudyResults) -> dict[str, dict]:
    """Cell -> outcome of `study verify`, for verified cells whose results have not changed since."""
    return {cell.name: cell.verification for cell in results.cells if cell.verification}


def _samples(results: StudyResults) -> list[dict]:
    """Fixed test rows with the three likeliest tokens of each arm (first seed) at each masked position.

    Empty if lines of the text may not be quoted; results can be older than that setting.
    """
    study = results.study
    if not study.quotable:
        return []
    predictions = {arm: results.cell(arm, study.settings.seeds[0]).predictions for arm in study.settings.arms}
    samples = []
    for index, sample in enumerate(predictions[study.settings.baseline][:MAX_SAMPLES]):
        positions = [{"truth": position["truth"],
                      "guesses": {arm: rows[index]["masked"][place]["top"][:3] for arm, rows in predictions.items()
                                  if len(rows) > index}}
                     for place, position in enumerate(sample["masked"])]
        samples.append({"text": " ".join(sample["tokens"]), "positions": positions})
    return samples
