"""Claims as readers see them, from reports/<study>/claims.json: a row of the verdict table and a section each."""
from __future__ import annotations

import math
import re

from study.analysis.metrics import METRICS, display_unit
from study.analysis.reasons import Flag
from study.analysis.results import read_json
from study.config.study import Study
from study.report import figures
from study.report.formatting import p_value, slug, span

DIGITS = {"nats": 3, "points": 1, "steps": 0, "share": 2, "": 2}
VERDICTS = ("supported", "contradicted", "equivalent", "inconclusive", "untested", "out of scope")
NOT_TESTED = ("untested", "out of scope")
BY_RUNS = ("direction", "equal", "range", "point", "rate")      # claim types that training runs decide
OWN_SOURCE = "this study"                   # the source of the A/A control, which nobody has published


def claim_rows(study: Study) -> list[dict]:
    """Every claim with its verdict, in the order of the verdicts and then of the ids.

    A row has the keys of the claim in claims.json and: id, anchor (of its section), file (of its figure), verdict,
    reason, below_margin, measured, test, details (sentences).
    """
    rows = [_row(name, claim) for name, claim in read_json(study.reports / "claims.json").items()]
    return sorted(rows, key=lambda row: (VERDICTS.index(row["verdict"]), natural(row["id"])))


def natural(name: str) -> list:
    """A sort key that puts S0.2 before S0.10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _row(name: str, claim: dict) -> dict:
    outcome = claim["outcome"]
    return {**claim, "id": name, "anchor": slug(f"{name}: {claim['statement']}"),
            "file": "claim-" + re.sub(r"[^A-Za-z0-9]+", "-", name), "verdict": outcome["verdict"],
            "reason": outcome["reason"], "below_margin": Flag.BELOW_MARGIN in outcome["flags"],
            "measured": measured(claim), "test": arms_and_metric(claim), "details": _details(claim)}


def measured(claim: dict) -> str:
    """The effect with its unit and interval, or the measurement in words; empty if nothing was measured."""
    outcome = claim["outcome"]
    if outcome["measured"] or outcome["effect"] is None:
        return outcome["measured"]
    scale, unit = display_unit(claim.get("metric"))
    sign = "+" if claim["claim_type"] in ("direction", "equal") else ""
    text = f"{scale * outcome['effect']:{sign}z.{DIGITS[unit]}f} {unit}".strip()
    if outcome["low"] is None:
        return text
    return f"{text} {span(outcome['low'], outcome['high'], DIGITS[unit], scale, sign)}"


def failed_runs(claim: dict, failed: dict[str, int]) -> str:
    """Which failed runs an effect in nats includes at the unigram level; empty if there are none.

    failed: arm -> number of its runs that diverged or overfitted.
    """
    if display_unit(claim.get("metric"))[1] != "nats" or claim["outcome"]["effect"] is None:
        return ""
    arms = dict.fromkeys(claim.get(key) for key in ("treatment", "baseline", "arm"))
    parts = [f"{failed[arm]} of {arm}" for arm in arms if failed.get(arm)]
    return f"failed runs, counted at the unigram level: {' and '.join(parts)}" if parts else ""


def arms_and_metric(claim: dict) -> str:
    """The arms and the metric that decide a claim; empty if training runs do not decide it."""
    if claim["claim_type"] == "rate":
        return f"{claim['treatment']} − {claim['baseline']}: share of runs that diverge"
    if not claim.get("metric"):
        return ""
    arms = claim.get("arm") or claim["treatment"] + (f" − {claim['baseline']}" if claim.get("baseline") else "")
    return f"{arms}: {METRICS[claim['metric']].label}"


def _details(claim: dict) -> list[str]:
    """How a claim was tested and how much the test can show, in sentences."""
    outcome = claim["outcome"]
    scale, unit = display_unit(claim.get("metric"))
    sentences = [sentence for sentence in (_design(claim, scale, unit), _alone(claim, scale, unit)) if sentence]
    if outcome["smallest_detectable_effect"] is not None:
        effect = f"{scale * outcome['smallest_detectable_effect']:.{DIGITS[unit]}f} {unit}"
        needed = outcome["seeds_needed"] or "more than 200"
        sentences.append(f"With {outcome['n']} seeds the smallest detectable effect is {effect} (80 % power); an "
                         f"effect as small as the margin needs {needed} seeds.")
    if outcome["correlation"] is not None:
        sentences.append(f"Correlation between the two arms over seeds: {outcome['correlation']:+.2f}.")
    return sentences


def _design(claim: dict, scale: float, unit: str) -> str:
    """What is compared with what, and what was fixed beforehand."""
    if claim.get("margin") is not None:
        baseline = claim["baseline"] or "zero"
        return (f"Test: {claim['treatment']} against {baseline} on {METRICS[claim['metric']].label}; margin "
                f"{scale * claim['margin']:g} {unit}; at least {claim['min_seeds']} seeds; family: {claim['family']}.")
    if claim["claim_type"] == "range":
        bounds = [f"{word} {scale * claim[key]:.{DIGITS[unit]}f}" for word, key in (("from", "low"), ("to", "high"))
                  if claim[key] is not None]
        return f"Test: {claim['arm']}, {METRICS[claim['metric']].label}; claimed range: {' '.join(bounds)} {unit}."
    return ""


def _alone(claim: dict, scale: float, unit: str) -> str:
    """The interval and the p value of a comparison before and after the correction within its family."""
    outcome = claim["outcome"]
    if outcome["plain_low"] is None or claim["claim_type"] not in ("direction", "equal"):
        return ""
    interval = span(outcome["plain_low"], outcome["plain_high"], DIGITS[unit], scale, "+")
    tost = "two one-sided tests for a difference inside the margin, " if claim["claim_type"] == "equal" else ""
    holm = "" if outcome["p_holm"] is None else f", after Holm's correction {p_value(outcome['p_holm'])}"
    return f"On its own: 95 % interval {interval}; {tost}p = {p_value(outcome['p'])}{holm}.".replace("= <", "<")


def claim_figure(row: dict) -> dict | None:
    """svg and alt of the figure of a claim that compares arms; None for other claims and those without an interval."""
    outcome = row["outcome"]
    if row["claim_type"] not in ("direction", "equal") or outcome["low"] is None:
        return None
    scale, unit = display_unit(row["metric"])
    values = outcome["values"][row["treatment"]]
    if row["baseline"]:
        values = [a - b for a, b in zip(values, outcome["values"][row["baseline"]], strict=True)]
    numbers = [scale * outcome[key] for key in ("effect", "low", "high")] + [scale * row["margin"]]
    label = f"{row['treatment']}{' − ' + row['baseline'] if row['baseline'] else ''} ({unit})"
    seeds = ", ".join(f"{scale * value:+z.{DIGITS[unit]}f}" for value in values if math.isfinite(value))
    return {"svg": figures.claim(numbers, [scale * value for value in values], label),
            "alt": f"{row['id']}: {row['measured']}; per seed: {seeds}; margin {numbers[3]:g} {unit}"}


def verdict_counts(rows: list[dict]) -> dict[str, int]:
    """Verdict -> number of claims, in the order of the verdicts."""
    return {name: sum(row["verdict"] == name for row in rows) for name in VERDICTS}


def published_tests(rows: list[dict]) -> list[dict]:
    """The published claims that the study's training runs test."""
    return [row for row in rows if row["claim_type"] in BY_RUNS and row["source"] != OWN_SOURCE
            and row["verdict"] not in NOT_TESTED]
