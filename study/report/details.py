"""What is shown of a claim beyond its line in the table of outcomes: source, test, second look and precision."""
from __future__ import annotations

import re

from study.analysis.along_training import Course
from study.analysis.metrics import METRICS
from study.analysis.reasons import Flag
from study.analysis.statistics import MOST_SEEDS
from study.analysis.verdict import DECIDED
from study.report.formatting import in_unit, p_value, signed, unit_of

NO_NUMBERS = ("no number", "none:")         # how `published` begins where no source has numbers
DIFFERENCES = ("direction", "equal")        # claim types whose number is a difference
GATED = (*DIFFERENCES, "range", "point", "spread")      # claim types to which the learning gate can apply
GATE = (Flag.RUN_DIVERGED, Flag.NEVER_ESCAPED, Flag.TRAINED_TOO_SHORT, Flag.ABOVE_COUNT_MODEL)
PLAIN = {Flag.AS_CLAIMED, Flag.OPPOSITE, Flag.BELOW_MARGIN, Flag.WITHIN_MARGIN, Flag.BEYOND_MARGIN}
# labels that the report leaves to `study claims ID` and to tables/claims.csv
TERMINAL_ONLY = ("Source", "Rules", "On its own", "Learning gate", "Correlation", "Along training", "In numbers",
                 "Predicted", "Opposite claims")
SHARED_DETAILS = {"Differs", "Positive control", "Scope"}    # those that claims of a question can have in common
LONG_DETAIL = 40                            # characters; a shorter text is repeated
COURSES = {
    Course.NONE: "no difference that the seeds can show, at a quarter of the steps or at the end",
    Course.HEAD_START: "a head start, with no difference left that the seeds can show",
    Course.LASTING: "a lasting difference",
    Course.GROWING: "a difference that grows",
    Course.SHRINKING: "a difference that is still there at the end, but less than half as large",
    Course.SIGN_CHANGED: "a difference that changes its direction",
    Course.UNKNOWN: "one seed, so no interval can be computed"}


def claim_details(row: dict, along: list[dict]) -> dict[str, str]:
    """Label -> text, in the order in which they are shown; only what there is to say. along: the effects along training
    (study/analysis/along_training.py, `summary`)."""
    entry = _along(row, along)
    texts = {"Reason": row["reason"], "Source": row["source_title"], "Quotation": _quotation(row),
             "Not quoted": row.get("unquoted"), "Published": _published(row), "Differs": row.get("differs"),
             "Predicted": row["expected"], "Test": _test(row), "Rules": _rules(row), "On its own": _alone(row),
             **_beside(row), "Positive control": _control(row), "Learning gate": _gate(row), "Detects": _detects(row),
             "Correlation": _correlation(row), "Along training": entry and COURSES[entry["course"]],
             "In numbers": entry and course_numbers(entry), "Scope": row["scope"],
             "Opposite claims": ", ".join(row["contradicts"])}
    return {label: text for label, text in texts.items() if text}


def for_page(row: dict) -> dict[str, str]:
    """The details that the report shows: the reason where it does not only repeat the outcome, the scope of an outcome,
    the detectable effect where the outcome is open, and the margin of the second metric where that splits it."""
    left_out = {*TERMINAL_ONLY}
    if row["outcome"] in DECIDED:
        left_out.add("Detects")
        left_out |= {"Reason"} if PLAIN.issuperset(row["result"]["flags"]) else set()
    else:
        left_out.add("Scope")
    texts = row["details"] | ({} if row["outcome"] == "split" else _beside(row, margin=False))
    return {label: text for label, text in texts.items() if label not in left_out}


def without_repeats(rows: list[dict]) -> list[dict]:
    """The rows of a question, with `as for L1` on the page where claim L1 before it has the same long text."""
    first: dict[tuple[str, str], str] = {}
    shortened = []
    for row in rows:
        details = dict(row["on_page"])
        for label in SHARED_DETAILS & details.keys():
            earlier = first.setdefault((label, details[label]), row["id"])
            if earlier != row["id"] and len(details[label]) > LONG_DETAIL:
                details[label] = f"as for {earlier}"
        shortened.append(row | {"on_page": details})
    return shortened


def _quotation(row: dict) -> str:
    """A few words of the source with their place."""
    place = f" ({row['place']})" if row["place"] else ""
    return f"“{row['quote']}”{place}" if row["quote"] else ""


def _published(row: dict) -> str:
    """The published numbers; empty if there are none, or if the quotation says as much: it has all of the numbers and
    of the abbreviations that they belong to, and a number of its own or as many words."""
    published, quote, quotation = row["published"], row["quote"] or "", _quotation(row)
    covered = all(part in quotation for part in re.findall(r"[A-Z]{2,}|\d+(?:\.\d+)?(?:e-\d+)?", published))
    quoted = covered and (re.search(r"\d", quote) or len(quote) >= len(published))
    return "" if quoted or published.startswith(NO_NUMBERS) else published


def arms_and_metric(row: dict) -> str:
    """The arms and the metric that decide a claim; empty if training runs do not decide it."""
    if row["claim_type"] == "rate":
        return f"{row['treatment']} − {row['baseline']}, share of runs that diverge"
    if not row.get("metric"):
        return ""
    if row["claim_type"] == "spread":
        return f"two runs of {row['arm']}, {METRICS[row['metric']].label}, root mean square difference"
    arms = row.get("arm") or row["treatment"] + (f" − {row['baseline']}" if row.get("baseline") else "")
    return f"{arms}, {METRICS[row['metric']].label}"


def _test(row: dict) -> str:
    """What is measured, and the margin or band that was fixed beforehand."""
    unit, parts = unit_of(row.get("metric")), [arms_and_metric(row)]
    if row.get("margin") is not None:
        parts.append(f"margin {unit.limit(row['margin'])}")
    if row["claim_type"] == "range":
        bounds = [f"{word} {unit.bare(row[key])}" for word, key in (("from", "low"), ("to", "high"))
                  if row[key] is not None]
        parts.append(f"claimed {' '.join(bounds)}{unit.suffix}")
    return "; ".join(filter(None, parts))


def _rules(row: dict) -> str:
    family = f"family: {row['family']}" if row.get("family") else ""
    seeds = f"at least {row['min_seeds']} seeds" if row.get("min_seeds") else ""
    return "; ".join(filter(None, (family, seeds)))


def _alone(row: dict) -> str:
    """The interval and the p value of a comparison before and after the correction within its family."""
    result = row["result"]
    if result["plain_low"] is None or row["claim_type"] not in DIFFERENCES:
        return ""
    numbers = result | {"low": result["plain_low"], "high": result["plain_high"]}
    adjusted = result["p_adjusted"]
    corrected = "" if adjusted is None else f", corrected for its family {p_value(adjusted)}"
    tests = "p" if row["metric"] == "escape_step" else "the smaller p of its two tests"
    return f"{in_unit(row['metric'], numbers)} (95 %); {tests} = {p_value(result['p'])}{corrected}".replace("= <", "<")


def _beside(row: dict, margin: bool = True) -> dict[str, str]:
    """The difference under the arms' own conditions and on the second metric. margin: with that of the second metric.
    """
    texts: dict[str, list[str]] = {}
    for other in row["beside"]:
        shown = f"{METRICS[other['metric']].label}, {in_unit(other['metric'], other)}"
        if other["role"] == "second metric" and margin:
            shown += f"; margin {unit_of(other['metric']).limit(row['secondary']['margin'])}"
        texts.setdefault(other["role"].capitalize(), []).append(shown)
    return {label: "; ".join(shown) for label, shown in texts.items()}


def _control(row: dict) -> str:
    control, found = row.get("positive_control"), row["control"]
    if not control or not found:
        return ""
    return (f"{control['arm']}, {METRICS[control['metric']].label}, {in_unit(control['metric'], found)}; has to be "
            f"above {unit_of(control['metric']).limit(control['above'])}")


def _gate(row: dict) -> str:
    """What the learning gate says of the arms; empty for claims to which it does not apply or that were not asked."""
    result = row["result"]
    if (row["claim_type"] not in GATED or METRICS[row["metric"]].defined_on_plateau or result["effect"] is None
            or {Flag.TOO_FEW_SEEDS, Flag.CONTROL_FAILED}.intersection(result["flags"])):
        return ""
    return "failed" if set(GATE).intersection(result["flags"]) else "passed by all runs"


def _detects(row: dict) -> str:
    """The effect that the seeds can detect, and how many seeds an effect as small as the margin needs."""
    result, unit = row["result"], unit_of(row.get("metric"))
    if result["smallest_detectable_effect"] is None:
        return ""
    return (f"{unit.text(result['smallest_detectable_effect'], '-')}; its margin needs "
            f"{result['seeds_needed'] or f'more than {MOST_SEEDS}'} seeds")


def _correlation(row: dict) -> str:
    value = row["result"]["correlation"]
    return "" if value is None else f"{value:+.2f} between the two arms over seeds"


def _along(row: dict, along: list[dict]) -> dict | None:
    """The effect along training of the two arms of a claim on NLL."""
    if row.get("metric") != "nll":
        return None
    arms = {row.get("treatment"), row.get("baseline")}
    return next((entry for entry in along if {entry["treatment"], entry["baseline"]} == arms), None)


def course_numbers(entry: dict) -> str:
    """How the validation NLL of an arm minus that of its baseline develops."""
    quarter, half, end = (signed(entry[name]) for name in ("quarter", "half", "end"))
    return (f"{entry['treatment']} − {entry['baseline']}, validation NLL: {quarter} nats at a quarter of the steps, "
            f"{half} at half, {end} at the end")
