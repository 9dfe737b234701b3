"""Claims as readers see them, from reports/<study>/claims.json: a row of the table of outcomes and a section each."""
from __future__ import annotations

import math
import re

from study.analysis.claims import OWN_SOURCE
from study.analysis.metrics import METRICS, display_unit
from study.analysis.reasons import Flag
from study.analysis.results import read_json
from study.analysis.verdict import OUTCOMES
from study.config.study import Study
from study.report import figures
from study.report.formatting import p_value, slug, span

DIGITS = {"nats": 3, "points": 1, "steps": 0, "tokens": 0, "norm": 2, "spikes": 1, "share": 2, "": 2}
NOT_TESTABLE = OUTCOMES[-1]
BY_RUNS = ("direction", "equal", "range", "point", "rate")      # claim types that training runs decide
# the questions that the claims answer, in the order of the report -> factors of experiments/arms.yaml
QUESTIONS = {
    "Noise": ("baseline",), "Mask schedule": ("mask schedule",), "Corruption": ("corruption",),
    "Mask rate and selection": ("mask rate", "selection", "targets"),
    "Objective and input format": ("objective", "input format"),
    "Norm, warm-up and optimiser": ("norm and warm-up", "optimiser", "batch size"),
    "Length of the rows": ("length curriculum",), "Positions and the plateau": ("positions", "plateau"),
    "Size and architecture": ("size", "architecture"), "The tutorials' recipes": ("recipe",),
    "What the baseline learns": ()}


def claim_rows(study: Study) -> list[dict]:
    """Every claim with its outcome, in the order of the questions and then of the ids.

    A row has the keys of the claim in claims.json and: id, anchor (of its section), file (of its figure), question,
    outcome, reason, below_margin, measured, test, details (sentences).
    """
    rows = [_row(study, name, claim) for name, claim in read_json(study.reports / "claims.json").items()]
    return sorted(rows, key=lambda row: (list(QUESTIONS).index(row["question"]), natural(row["id"])))


def question(study: Study, claim: dict) -> str:
    """The question that a claim belongs to: that of the factor of its arm. Claims about the baseline alone ask what it
    learns."""
    arm, baseline = claim.get("treatment") or claim.get("arm"), claim.get("baseline")
    factor = study.arms[arm].factor if arm in study.arms else None
    if baseline and factor == "baseline" and arm == study.settings.baseline:
        factor = study.arms[baseline].factor            # the baseline against another arm
    if not baseline and factor in (None, "baseline"):
        return "What the baseline learns"
    return next(name for name, factors in QUESTIONS.items() if factor in factors)


def natural(name: str) -> list:
    """A sort key that puts S0.2 before S0.10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _row(study: Study, name: str, claim: dict) -> dict:
    result = claim["result"]
    return {**claim, "id": name, "anchor": slug(f"{name}: {claim['statement']}"), "question": question(study, claim),
            "file": "claim-" + re.sub(r"[^A-Za-z0-9]+", "-", name), "outcome": result["outcome"],
            "reason": result["reason"], "below_margin": Flag.BELOW_MARGIN in result["flags"],
            "measured": measured(claim), "test": arms_and_metric(claim), "details": _details(claim)}


def measured(claim: dict) -> str:
    """The effect with its unit and interval, or the measurement in words; empty if nothing was measured."""
    result = claim["result"]
    if result["measured"] or result["effect"] is None:
        return result["measured"]
    scale, unit = display_unit(claim.get("metric"))
    sign = "+" if claim["claim_type"] in ("direction", "equal") else ""
    text = f"{scale * result['effect']:{sign}z.{DIGITS[unit]}f} {unit}".strip()
    if result["low"] is None:
        return text
    return f"{text} {span(result['low'], result['high'], DIGITS[unit], scale, sign)}"


def failed_runs(claim: dict, failed: dict[str, int]) -> str:
    """Which failed runs an effect in nats includes at the unigram level; empty if there are none.

    failed: arm -> number of its runs that diverged or overfitted.
    """
    if display_unit(claim.get("metric"))[1] != "nats" or claim["result"]["effect"] is None:
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
    result = claim["result"]
    scale, unit = display_unit(claim.get("metric"))
    sentences = [sentence for sentence in (_design(claim, scale, unit), _alone(claim, scale, unit)) if sentence]
    if result["smallest_detectable_effect"] is not None:
        effect = f"{scale * result['smallest_detectable_effect']:.{DIGITS[unit]}f} {unit}"
        needed = result["seeds_needed"] or "more than 200"
        sentences.append(f"With {result['n']} seeds the smallest detectable effect is {effect} (80 % power); an "
                         f"effect as small as the margin needs {needed} seeds.")
    if result["correlation"] is not None:
        sentences.append(f"Correlation between the two arms over seeds: {result['correlation']:+.2f}.")
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
    result = claim["result"]
    if result["plain_low"] is None or claim["claim_type"] not in ("direction", "equal"):
        return ""
    interval = span(result["plain_low"], result["plain_high"], DIGITS[unit], scale, "+")
    holm = "" if result["p_holm"] is None else f", after Holm's correction {p_value(result['p_holm'])}"
    tests = "p" if claim["metric"] == "escape_step" else "the smaller p of its two tests"
    return f"On its own: 95 % interval {interval}; {tests} = {p_value(result['p'])}{holm}.".replace("= <", "<")


def claim_figure(row: dict) -> dict | None:
    """svg and alt of the figure of a claim that compares arms; None for other claims and those without an interval."""
    result = row["result"]
    if row["claim_type"] not in ("direction", "equal") or result["low"] is None:
        return None
    scale, unit = display_unit(row["metric"])
    values = result["values"][row["treatment"]]
    if row["baseline"]:
        values = [a - b for a, b in zip(values, result["values"][row["baseline"]], strict=True)]
    numbers = [scale * result[key] for key in ("effect", "low", "high")] + [scale * row["margin"]]
    label = f"{row['treatment']}{' − ' + row['baseline'] if row['baseline'] else ''} ({unit})"
    seeds = ", ".join(f"{scale * value:+z.{DIGITS[unit]}f}" for value in values if math.isfinite(value))
    return {"svg": figures.claim(numbers, [scale * value for value in values], label),
            "alt": f"{row['id']}: {row['measured']}; per seed: {seeds}; margin {numbers[3]:g} {unit}"}


def outcome_counts(rows: list[dict]) -> dict[str, int]:
    """Outcome -> number of claims, in the order of the outcomes."""
    return {name: sum(row["outcome"] == name for row in rows) for name in OUTCOMES}


def with_runs(rows: list[dict]) -> list[dict]:
    """The claims that the study's training runs test, the A/A control among them."""
    return [row for row in rows if row["claim_type"] in BY_RUNS and row["outcome"] != NOT_TESTABLE]


def published_tests(rows: list[dict]) -> list[dict]:
    """The published claims that the study's training runs test."""
    return [row for row in with_runs(rows) if row["source"] != OWN_SOURCE]


def by_question(rows: list[dict]) -> dict[str, list[dict]]:
    """Question -> its rows, for the questions that have any."""
    return {name: part for name in QUESTIONS if (part := [row for row in rows if row["question"] == name])}
