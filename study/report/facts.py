"""Everything that the report states, gathered from the tables of the compare stage and from the result files."""
from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from study import StudyError
from study.analysis.along_training import Course, summary
from study.analysis.claims import load_sources
from study.analysis.decision_rules import STRICTER
from study.analysis.learning import FAILED
from study.analysis.questions import question_of_factor
from study.analysis.reasons import Flag
from study.analysis.registration import Registration, read_registrations, registered_hashes
from study.analysis.results import StudyResults, headline_probe, read_json
from study.data.summary_tables import summary_tables, warnings_of
from study.report.claims import (
    NOT_TESTABLE,
    by_question,
    claim_rows,
    failed_runs,
    natural,
    outcome_counts,
    with_runs,
)
from study.report.discussion import cited_claims, discussion
from study.report.features import further_tasks
from study.report.further import pair_rows, table_names, variance_rows
from study.report.ladder import ladder_rows
from study.report.overview import control_row
from study.report.search import chosen, importances, trial_counts

TABLES = ("cells", "arms", "comparisons", "along_training", "tokens", "escape", "probes")
MAX_SAMPLES = 2                             # test rows that the report shows
GUESSES = 3                                 # predictions per [MASK] that it shows


def gather(results: StudyResults) -> dict:
    """The context of the templates. Raises StudyError if the compare stage has not run."""
    study, settings = results.study, results.study.settings
    frames = {name: _table(study.reports / "tables" / f"{name}.csv") for name in (*TABLES, *table_names(study))}
    data, probe = read_json(study.reports / "data.json"), headline_probe(study)
    reference = results.cell(settings.baseline, settings.seeds[0]).evaluation["mask_only"]
    facts = {"study": settings, "frames": frames, "data": data, "task": probe.task, "pooling": probe.pooling,
             "levels": data["baselines"][probe.task], "reference": reference, "arms": _arms(results, frames),
             "comparisons": frames["comparisons"].to_dict("records"), "courses": _courses(frames["along_training"]),
             "control": control_row(study, frames["comparisons"], "nll"), "totals": _totals(results, frames["cells"]),
             "samples": _samples(results),
             "params": study.params_path.resolve().relative_to(study.root.resolve()).as_posix(),
             "verified": verified(results), "searched": trial_counts(results.trials), "chosen": chosen(results.tuned),
             "importances": importances(results.trials, settings.search.space)}
    facts |= {"summaries": summary_tables(data.get("summaries", {})),
              "data_warnings": warnings_of(data.get("summaries", {}))}
    facts |= _claims(results, facts["arms"])
    registrations = read_registrations(study)
    facts |= {"registrations": registrations, "waiting": waiting(registrations, facts["claims"]),
              "stricter": [(date, rule) for date, rule in STRICTER if registrations and date > registrations[0].date],
              "further": further_tasks(results, facts), "minimal_pairs": pair_rows(study, frames),
              "variances": variance_rows(frames)}
    baseline = next(arm for arm in facts["arms"] if arm["arm"] == settings.baseline)
    facts |= {"baseline": baseline, "ladder": ladder_rows(data["references"], baseline)}
    return facts | {"discussion": discussion(results, facts)}


def _table(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise StudyError(f"{path}: no such file yet; run `study compare` (or `dvc repro`) first")
    return pd.read_csv(path)


def _arms(results: StudyResults, frames: dict[str, pd.DataFrame]) -> list[dict]:
    """The rows of arms.csv with description, question, baseline and start of the arm, and `problems`: how many of its
    runs diverged or overfitted, or fail which part of the learning gate."""
    arms, cells, rows = results.study.arms, frames["cells"], []
    for row in frames["arms"].to_dict("records"):
        arm, runs = arms[row["arm"]], cells[cells.arm == row["arm"]]
        gates = Counter(gate.replace("_", " ") for gate in runs.gate if gate not in ("passed", Flag.RUN_DIVERGED))
        rows.append(row | {"description": arm.description, "question": question_of_factor(arm.factor),
                           "compared_with": arm.baseline,
                           "start": arm.branch and f"{arm.branch.arm} up to step {arm.branch.step:,}",
                           "problems": {status: row[status] for status in FAILED} | dict(gates)})
    return rows


def _claims(results: StudyResults, arms: list[dict]) -> dict:
    """The claims, those of each question, and how many there are of each outcome."""
    failed = {arm["arm"]: arm["diverged"] for arm in arms}
    cited = cited_claims(results.study)
    rows = [row | {"failed": failed_runs(row, failed), "discussed": row["id"] in cited}
            for row in claim_rows(results.study)]
    tested, checks = with_runs(rows), [row for row in rows if row["claim_type"] == "exact"]
    return {"claims": rows, "questions": by_question(tested), "checks": checks,
            "counts": {"runs": outcome_counts(tested), "checks": outcome_counts(checks),
                       "untested": sum(row["outcome"] == NOT_TESTABLE for row in rows)},
            "exploratory": [row["id"] for row in tested if row["exploratory"]],
            "metrics": {row.get("metric") for row in tested},
            "sources": titles(tested, load_sources(results.study))}


def waiting(registrations: list[Registration], rows: list[dict]) -> list[str]:
    """Ids of the registered claims that no run tests, for example because an arm is not trained yet."""
    tested = {row["id"] for row in with_runs(rows)}
    return sorted(registered_hashes(registrations).keys() - tested, key=natural)


def titles(rows: list[dict], sources: dict[str, str]) -> dict[str, str]:
    """The short names among the sources of claims, of which one claim can have several, with their titles."""
    names = {name for row in rows for name in row["source"].split("; ")}
    return {name: title for name, title in sources.items() if name in names}


def _courses(table: pd.DataFrame) -> dict[str, int]:
    """How many differences in validation NLL take each course along training."""
    found = Counter(entry["course"] for entry in summary(table))
    return {f"{course}": found[course] for course in Course}


def _totals(results: StudyResults, cells: pd.DataFrame) -> dict:
    """Sums over all runs; versions, hardware and commits that they had."""
    runs = [cell.training for cell in results.cells]
    of_baseline = [cell.training["tokens"] for cell in results.of_arm(results.study.settings.baseline)]
    return {"cells": len(runs), **{status: int((cells.status == status).sum()) for status in FAILED},
            "tokens_per_run": sum(of_baseline) / len(of_baseline),
            **{key: sum(run[key] for run in runs) for key in ("tokens", "flops", "seconds")},
            **{key: joined([run[key] for run in runs]) for key in ("versions", "hardware")},
            "machines": len({str(run["hardware"]) for run in runs}),
            "commits": sorted({run["commit"][:10] for run in runs if run.get("commit")})}


def joined(records: list[dict]) -> dict:
    """Each key of any record with its value, or with all values as one text if the records differ. A record that lacks
    a value does not differ; None if all do."""
    together = {}
    for key in dict.fromkeys(key for record in records for key in record):
        values = {str(record[key]): record[key] for record in records if record.get(key) is not None}
        together[key] = ", ".join(sorted(values)) if len(values) > 1 else next(iter(values.values()), None)
    return together


def verified(results: StudyResults) -> dict[str, dict]:
    """Cell -> outcome of `study verify`, for verified cells whose results have not changed since."""
    return {cell.name: cell.verification for cell in results.cells if cell.verification}


def _samples(results: StudyResults) -> list[dict]:
    """What the baseline (first seed) predicts at each [MASK] of fixed test rows and of typed sentences: the likeliest
    tokens.

    Without the test rows, which have a truth, if lines of the text may not be quoted; results can be older than that
    setting.
    """
    study = results.study
    if not study.quotable and not study.settings.evaluation.sentences:
        return []
    examples = results.cell(study.settings.baseline, study.settings.seeds[0]).predictions
    typed = [example for example in examples if all(masked["truth"] is None for masked in example["masked"])]
    rows = [example for example in examples if example not in typed][:MAX_SAMPLES] if study.quotable else []
    return [{"text": " ".join(example["tokens"]), "positions": [
        {"truth": masked["truth"], "guesses": masked["top"][:GUESSES]} for masked in example["masked"]]}
        for example in rows + typed]
