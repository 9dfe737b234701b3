"""Claims as readers see them: one row of the verdict table and one section each, from reports/<study>/claims.json."""
from __future__ import annotations

import math
import re

from study.analysis.metrics import METRICS
from study.analysis.results import read_json
from study.analysis.verdicts import NAMES, unit_scale
from study.config.load import Study
from study.report import figures

DIGITS = {"nats": 3, "points": 1, "steps": 0, "share": 2, "": 2}


def claim_rows(study: Study) -> list[dict]:
    """Every claim with what was published, what was measured, the verdict and why, in the order of claims.yaml."""
    content = read_json(study.reports / "claims.json")
    order = {name: place for place, name in enumerate(content)}
    shown = sorted(content.items(), key=lambda item: (NAMES.index(item[1]["outcome"]["verdict"]), natural(item[0]),
                                                      order[item[0]]))
    return [_row(name, {**claim, "statement": _said(name, content)}) for name, claim in shown]


def natural(name: str) -> list:
    """A key that sorts S0.2 before S0.10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _said(name: str, claims: dict) -> str:
    """What a claim says; one that says "the same" of another, together with that one (S0.8b with S0.8)."""
    says = claims[name]["statement"]
    first = re.match(r"[A-Z]\d+(\.\d+)?", name)
    other = claims.get(first[0]) if first and says.startswith("The same") else None
    return f"{other['statement']} {says}" if other else says


def _row(name: str, claim: dict) -> dict:
    outcome = claim["outcome"]
    return {**claim, "id": name, "slug": re.sub(r"[^A-Za-z0-9]+", "-", name), "verdict": outcome["verdict"],
            "reason": outcome["reason"], "measured": measured(claim), "tested": tested(claim), "about": _about(claim),
            "figure": _figure(name, claim)}


def measured(claim: dict) -> str:
    """What came out, with its interval and unit."""
    outcome = claim["outcome"]
    if outcome["measured"] or outcome["effect"] is None:
        return outcome["measured"]
    scale, unit = unit_scale(claim.get("metric"))
    digits = DIGITS[unit]
    sign = "+" if claim["claim_type"] in ("direction", "equal") else ""
    text = f"{scale * outcome['effect']:{sign}z.{digits}f} {unit}".strip()
    if outcome["low"] is None:
        return text
    return f"{text} [{scale * outcome['low']:{sign}z.{digits}f}, {scale * outcome['high']:{sign}z.{digits}f}]"


def counted(claim: dict, failed: dict[str, int]) -> str:
    """Which runs a number in nats does not measure, for they failed and count at the level of word frequencies.

    failed: arm -> number of its runs that did.
    """
    if unit_scale(claim.get("metric"))[1] != "nats" or claim["outcome"]["effect"] is None:
        return ""
    arms = dict.fromkeys(claim.get(key) for key in ("treatment", "baseline", "arm"))
    said = [f"{failed[arm]} of {arm}" for arm in arms if failed.get(arm)]
    return f"failed runs, counted as knowing word frequencies alone: {' and '.join(said)}" if said else ""


def tested(claim: dict) -> str:
    """What was measured on which arms, in short; nothing for a claim that no run decides."""
    if not claim.get("metric"):
        return f"{claim['treatment']} − {claim['baseline']}: runs that diverge" if claim["claim_type"] == "rate" else ""
    arms = claim.get("arm") or claim["treatment"] + (f" − {claim['baseline']}" if claim.get("baseline") else "")
    return f"{arms}: {METRICS[claim['metric']].label}"


def _about(claim: dict) -> list[str]:
    """What a reader needs to judge a verdict, in sentences."""
    outcome, said = claim["outcome"], []
    scale, unit = unit_scale(claim.get("metric"))
    digits = DIGITS[unit]
    if claim.get("margin") is not None:
        against = f" against {claim['baseline']}" if claim["baseline"] else ", against nothing"
        said.append(f"Test: {claim['treatment']}{against}, {METRICS[claim['metric']].label}; margin "
                    f"{scale * claim['margin']:g} {unit}, at least {claim['min_seeds']} seeds; family: "
                    f"{claim['family']}.")
    elif claim.get("arm"):
        band = [f"from {scale * claim['low']:.{digits}f}" if claim.get("low") is not None else "",
                f"up to {scale * claim['high']:.{digits}f}" if claim.get("high") is not None else ""]
        said.append(f"Test: {claim['arm']}, {METRICS[claim['metric']].label}; band {' '.join(filter(None, band))} "
                    f"{unit}.".replace("  ", " "))
    if outcome["plain_low"] is not None and claim["claim_type"] in ("direction", "equal"):
        family = "" if outcome["p_holm"] is None else f"; within its family (Holm) p {p_value(outcome['p_holm'])}"
        which = "two one-sided tests that it lies inside the margin: " if claim["claim_type"] == "equal" else ""
        said.append(f"This claim alone: 95 % interval [{scale * outcome['plain_low']:+z.{digits}f}, "
                    f"{scale * outcome['plain_high']:+z.{digits}f}], {which}p {p_value(outcome['p'])}{family}.")
    if outcome["smallest_detectable_effect"] is not None:
        needed = outcome["seeds_needed"]
        said.append(f"These {outcome['n']} seeds find a true difference of "
                    f"{scale * outcome['smallest_detectable_effect']:.{digits}f} {unit} in four studies of five; one "
                    f"as small as the margin {f'needs {needed}' if needed else 'would need more than 200'} seeds.")
    if outcome["correlation"] is not None:
        said.append(f"Correlation of the two arms over seeds, which is what pairing bought: "
                    f"{outcome['correlation']:+.2f}.")
    return said


def p_value(p: float | None) -> str:
    """A p value, or a dash where there is none."""
    if p is None or math.isnan(p):
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _figure(name: str, claim: dict) -> dict | None:
    """Differences of the seeds with the interval and the margin, for claims that compare."""
    outcome = claim["outcome"]
    if claim["claim_type"] not in ("direction", "equal") or outcome["low"] is None:
        return None
    scale, unit = unit_scale(claim["metric"])
    values = outcome["values"][claim["treatment"]]
    if claim["baseline"]:
        values = [a - b for a, b in zip(values, outcome["values"][claim["baseline"]], strict=True)]
    numbers = [scale * x for x in (outcome["effect"], outcome["low"], outcome["high"], claim["margin"])]
    label = f"{claim['treatment']}{' − ' + claim['baseline'] if claim['baseline'] else ''}, {unit}"
    shown = ", ".join(f"{scale * value:+z.{DIGITS[unit]}f}" for value in values if math.isfinite(value))
    return {"svg": figures.claim(numbers, [scale * value for value in values], label),
            "alt": f"{name}: {measured(claim)}; the seeds: {shown}; margin {numbers[3]:g} {unit}."}


def verdict_counts(rows: list[dict]) -> list[tuple[str, int]]:
    """How many claims came to each verdict, in the order of the verdicts."""
    return [(name, count) for name in NAMES if (count := sum(row["verdict"] == name for row in rows))]
