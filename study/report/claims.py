"""Claims as readers see them, from reports/<study>/claims.json: a line of the table of outcomes and a part each."""
from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd

from study.analysis.along_training import summary
from study.analysis.claims import OWN_SOURCE
from study.analysis.escape import bound_of_difference
from study.analysis.metrics import METRICS
from study.analysis.questions import QUESTIONS
from study.analysis.reasons import Flag
from study.analysis.results import read_json
from study.analysis.verdict import NOT_TESTABLE, OUTCOMES
from study.config.arms import resolve
from study.config.corruption import sees_mask
from study.config.study import Study
from study.report import figures
from study.report.details import DIFFERENCES, arms_and_metric, claim_details, for_page
from study.report.formatting import in_unit, same_at_every_seed, unit_of
from study.report.stability import stability_of

CONTROL = "A/A"
BY_RUNS = ("direction", "equal", "range", "point", "rate", "spread")      # claim types that training runs decide
BOUNDS = {"≥": "a lower bound", "≤": "an upper bound"}


def claim_rows(study: Study) -> list[dict]:
    """Every claim with its outcome, in the order of the questions and then of the ids; claims without a question last.

    A row has the keys of the claim in claims.json and: id, file (of its figure), outcome (with what it says of the
    claim and whether it is exploratory: `shown`), reason, measured, details (label -> text) and those `on_page`.
    A measured rate of divergence has the measures of stability beside it. The `bound` in its result is `≥` or `≤` for
    a difference in escape steps that is a lower or an upper bound, as some runs end on the plateau.
    """
    claims, tables = read_json(study.reports / "claims.json"), study.reports / "tables"
    table = tables / "along_training.csv"
    along = summary(pd.read_csv(table)) if table.exists() else []
    arms = {row["arm"]: row for row in pd.read_csv(tables / "arms.csv").to_dict("records")}
    cells = pd.read_csv(tables / "cells.csv").groupby("arm").escape_step
    steps = {arm: part.to_numpy(float) for arm, part in cells}      # (seeds,) each; NaN of runs that never escaped
    order = [*QUESTIONS, None]
    return sorted((_row(study, name, claim, along, arms, steps) for name, claim in claims.items()),
                  key=lambda row: (order.index(row["question"]), natural(row["id"])))


def natural(name: str) -> list:
    """A sort key that puts S0.2 before S0.10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _row(study: Study, name: str, claim: dict, along: list[dict], arms: dict[str, dict],
         steps: dict[str, np.ndarray]) -> dict:
    claim = claim | {"result": claim["result"] | {"bound": _bound(claim, steps)}}
    result, stability = claim["result"], stability_of(claim, arms)
    published = claim["verdict"] and claim["source"] != OWN_SOURCE
    notes = [f"claim {claim['verdict']}" if published else "", "below margin" * (Flag.BELOW_MARGIN in result["flags"]),
             "exploratory" * claim["exploratory"]]
    row = {**claim, "id": name, "file": "claim-" + re.sub(r"[^A-Za-z0-9]+", "-", name),
           "outcome": result["outcome"], "reason": result["reason"],
           "measured": measured(claim) + (f"; {stability}" if stability else ""),
           "shown": ", ".join([result["outcome"], *filter(None, notes)])}
    row["details"] = claim_details(row, along) | _of_escape(study, row, steps)
    return row | {"on_page": for_page(row)}


def words(row: dict) -> str:
    """Outcome and fidelity, in the words of all places that name them together. row: of `claim_rows`."""
    return f"{row['shown']}; {row['fidelity']}"


def _bound(claim: dict, steps: dict[str, np.ndarray]) -> str:
    """`≥` or `≤` if a difference in escape steps is a bound; empty for other numbers."""
    values = claim["result"]["values"]
    if claim.get("metric") != "escape_step" or not claim.get("baseline") or not values:
        return ""
    limit = max(map(max, values.values()))      # that of the comparison, since a run that never escaped has it
    return bound_of_difference(steps[claim["treatment"]], steps[claim["baseline"]], limit)


def _of_escape(study: Study, row: dict, steps: dict[str, np.ndarray]) -> dict[str, str]:
    """What is shown of a number of steps or tokens on the plateau: which runs are censored, and how finely steps are
    known, where the number is as small as that."""
    result = row["result"]
    metric = METRICS.get(row.get("metric"))
    if not (metric and metric.censored) or result["effect"] is None or result["measured"]:
        return {}
    interval, between = max(_interval(study, arm) for arm in result["values"])
    small = row["metric"] == "escape_step" and abs(result["effect"]) < 2 * interval
    known = f"an escape step is known to {interval:,} steps, the interval between two {between}"
    texts = {"Censored": _censored(result, steps), "Resolution": known if small or same_at_every_seed(result) else ""}
    return {label: text for label, text in texts.items() if text}


def _censored(result: dict, steps: dict[str, np.ndarray]) -> str:
    """How many runs never escaped, and what their difference is then; empty if all did."""
    never = {arm: int(np.isnan(steps[arm]).sum()) for arm in result["values"]}
    runs = " and ".join(f"{count} of {len(steps[arm])} runs of {arm}" for arm, count in never.items() if count)
    limit = max(map(max, result["values"].values()))
    difference = BOUNDS.get(result["bound"], f"that of the first {limit:,.0f} steps")
    return runs and f"{runs} ended on the plateau, so the difference is {difference}"


def _interval(study: Study, arm: str) -> tuple[int, str]:
    """The steps between two measurements of the loss by which an arm's escape is judged, and what these are."""
    config = resolve(study, arm)
    if sees_mask(config):
        return config.training.eval_steps, "validations"
    return config.training.logging_steps, "logged losses"


def measured(claim: dict) -> str:
    """The effect with its unit and interval, or the measurement in words; empty if nothing was measured."""
    result = claim["result"]
    if result["measured"] or result["effect"] is None:
        return result["measured"]
    kind = claim["claim_type"]
    return in_unit(claim.get("metric"), result, signed=kind in DIFFERENCES, spread=kind == "spread")


def failed_runs(claim: dict, failed: dict[str, int]) -> str:
    """Which diverged runs an effect on NLL includes at the unigram level; empty if there are none.

    failed: arm -> number of its runs that diverged.
    """
    metric = METRICS.get(claim.get("metric"))
    if not (metric and metric.on_fixed_masks) or claim["result"]["effect"] is None:
        return ""
    arms = dict.fromkeys(claim.get(key) for key in ("treatment", "baseline", "arm"))
    parts = [f"{failed[arm]} of {arm}" for arm in arms if failed.get(arm)]
    return f"diverged runs, counted at the unigram level: {' and '.join(parts)}" if parts else ""


def claim_figure(row: dict) -> dict | None:
    """svg and alt of the figure of a claim that compares arms; None for other claims and those without an interval."""
    result = row["result"]
    if row["claim_type"] not in DIFFERENCES or result["low"] is None:
        return None
    unit = unit_of(row["metric"])
    values = result["values"][row["treatment"]]
    if row["baseline"]:
        values = [a - b for a, b in zip(values, result["values"][row["baseline"]], strict=True)]
    numbers = [unit.scale * result[key] for key in ("effect", "low", "high")] + [unit.scale * row["margin"]]
    seeds = [unit.scale * value for value in values if math.isfinite(value)]
    bound = {"≥": ", at least", "≤": ", at most"}.get(result.get("bound"), "")
    return {"svg": figures.claim(numbers, seeds, f"{arms_and_metric(row)} ({unit.name}{bound})"),
            "alt": f"{row['id']}: every seed"}


def outcome_counts(rows: list[dict]) -> dict[str, int]:
    """Outcome -> number of claims, in the order of the outcomes."""
    return {name: sum(row["outcome"] == name for row in rows) for name in OUTCOMES}


def with_runs(rows: list[dict]) -> list[dict]:
    """The claims that the study's training runs test, the A/A control among them."""
    return [row for row in rows if row["claim_type"] in BY_RUNS and row["outcome"] != NOT_TESTABLE]


def but_control(rows: list[dict]) -> list[dict]:
    """The claims that the study's training runs test, without the A/A control."""
    return [row for row in with_runs(rows) if row["id"] != CONTROL]


def by_question(rows: list[dict]) -> dict[str, list[dict]]:
    """Question -> its rows, for the questions that have any."""
    return {name: part for name in QUESTIONS if (part := [row for row in rows if row["question"] == name])}
