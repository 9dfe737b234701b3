"""Leaving the unigram plateau: the section of studies whose runs end soon after they have left it."""
from __future__ import annotations

import math

import numpy as np
import pandas as pd

from study.analysis.decision_rules import ALPHA
from study.analysis.escape import bound_of_difference, escapes
from study.analysis.learning import validations
from study.analysis.questions import QUESTIONS
from study.analysis.results import CellResults, StudyResults
from study.config.study import Study
from study.report.canvas import COLORS
from study.report.claims import with_runs
from study.report.formatting import SAME, difference, span, whole
from study.report.overview import MOST_CURVES, Figure, of_question
from study.report.plateau_figures import around_escape, survival

NEIGHBOURS = (1, 3)                         # places of the offsets -1 and +1 in `attention_offsets` of metrics.jsonl


def plateau_section(results: StudyResults, facts: dict) -> dict | None:
    """The context of plateau.md: rows of escape.csv, the arms whose comparison is a registered claim, and figures. None
    if runs do not end after their escape."""
    study, table = results.study, facts["frames"]["escape"]
    if study.settings.training.stop_after_escape is None:
        return None
    others = [arm for arm in table.arm if arm != study.settings.baseline]
    colors = {study.settings.baseline: "#000000"}
    colors |= {arm: COLORS[place % len(COLORS)] for place, arm in enumerate(others)}
    rows = [row | {"attention": _mean(_last_attention(cell) for cell in results.of_arm(row["arm"])),
                   "interval": _interval(row), **_difference(row, _bound(row, facts["frames"]["cells"]))}
            for row in table.to_dict("records")]
    parts = _together(study, table.arm.tolist())
    drawn = _survival_figures(results, parts, colors) | _attention_figures(results, parts, colors)
    registered = [row["treatment"] for row in with_runs(facts["claims"])
                  if row.get("metric") == "escape_step" and row.get("treatment") and not row["exploratory"]]
    training = study.settings.training
    return {"rows": rows, "registered": registered, "figures": drawn, "limit": training.steps,
            "stop": training.stop_after_escape, "interval": training.eval_steps}


def _together(study: Study, arms: list[str]) -> list[list[str]]:
    """The arms of each survival plot: all of them if they are few, else the baseline with the arms of one question, the
    question with the most arms first."""
    if len(arms) <= MOST_CURVES:
        return [arms]
    parts = [part for question in QUESTIONS for part in of_question(study, question, MOST_CURVES)]
    return sorted(parts, key=len, reverse=True)


def _survival_figures(results: StudyResults, parts: list[list[str]], colors: dict[str, str]) -> dict[str, Figure]:
    return {_numbered("plateau-survival", place): Figure(
        title="Runs that are still on the plateau",
        alt=f"Share of runs that are still on the unigram plateau, by step, for {', '.join(arms)}",
        caption=f"Kaplan-Meier curves of {', '.join(arms)}. A cross is a run that ended on the plateau.",
        svg=survival({arm: escapes(results, results.of_arm(arm)) for arm in arms}, colors))
        for place, arms in enumerate(parts)}


def _attention_figures(results: StudyResults, parts: list[list[str]], colors: dict[str, str]) -> dict[str, Figure]:
    """Nothing for arms of which no run left the plateau or whose attention was not recorded."""
    aligned = [{arm: lines for arm in arms if (lines := _aligned(results, arm))} for arms in parts]
    return {_numbered("plateau-attention", place): Figure(
        title="Attention to a neighbour, before and after the escape",
        alt="Validation NLL and the largest share of attention to a neighbour, by steps since the escape, for "
            f"{', '.join(lines)}",
        caption="Means over the runs of an arm that leave the plateau and have a validation there. Above: "
                "validation NLL minus that of unigram frequencies. Below: the largest share of attention that any "
                "head pays to the token on its left or to the one on its right.",
        svg=around_escape(lines, colors)) for place, lines in enumerate(filter(None, aligned))}


def _numbered(name: str, place: int) -> str:
    return f"{name}-{place + 1}" if place else name


def escape_findings(table: pd.DataFrame, limit: int, baseline: str) -> list[str]:
    """At most two: when the baseline leaves the plateau and which arms leave it earlier, and the other arms: those that
    leave it later or cannot be told apart, and those that are not compared with the baseline of the study. table:
    escape.csv."""
    rows = table.sort_values("median", kind="stable").to_dict("records")
    others = [row for row in rows if row["arm"] != baseline]
    own = [row for row in others if row["baseline"] == baseline]
    compared = [row for row in own if not _unknown(row["p_holm"]) and row["smallest_p"] < ALPHA]
    clear = [row for row in compared if row["p_holm"] < ALPHA]
    first = [f"{row['arm']}, the baseline, leaves the unigram plateau {_when(row, limit)}. All steps are medians over "
             "seeds." for row in rows if row["arm"] == baseline]
    first += _group("Earlier than the baseline", [row for row in clear if row["difference"] < 0], limit)
    rest = {"Later than the baseline": [row for row in clear if row["difference"] > 0],
            "No detectable difference": [row for row in compared if row not in clear or row["difference"] == 0],
            "Too few runs for a test": [row for row in own if row not in compared],
            "Compared with another arm": [row for row in others if row not in own and isinstance(row["baseline"], str)],
            "Compared with no arm of this study": [row for row in others if not isinstance(row["baseline"], str)]}
    second = [sentence for name, part in rest.items() for sentence in _group(name, part, limit)]
    return [" ".join(sentences) for sentences in (first, second) if sentences]


def _group(name: str, rows: list[dict], limit: int) -> list[str]:
    """A sentence with the name of a group and its arms, each with its median step. Empty without arms."""
    leave = ", ".join(f"{row['arm']} ({_median(row, limit)})" for row in rows if row["escaped"])
    *most, last = [row["arm"] for row in rows if not row["escaped"]] or [""]
    never = last and f"{' and '.join(filter(None, (', '.join(most), last)))} in no run within {limit:,} steps"
    return [f"{name}: {'; '.join(filter(None, (leave, never)))}."] if rows else []


def _median(row: dict, limit: int) -> str:
    step = whole(row["median"]) if math.isfinite(row["median"]) else f"beyond {limit:,}"
    return step if row["escaped"] == row["n"] else f"{step}; {row['escaped']} of {row['n']} runs"


def _unknown(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _when(row: dict, limit: int) -> str:
    counted = "" if row["escaped"] == row["n"] else f" ({row['escaped']} of {row['n']} runs)"
    if not row["escaped"]:
        return f"in none of {row['n']} runs within {limit:,} steps"
    if not math.isfinite(row["median"]):
        return f"at a median beyond {limit:,} steps{counted}"
    if _one_step(row):
        return f"at step {whole(row['median'])} at every seed"
    return f"at step {' '.join([whole(row['median']), _interval(row)]).strip()}{counted}"


def _one_step(row: dict) -> bool:
    """Whether all runs of an arm leave the plateau at the same step. Only then does a finite median have no interval.
    """
    return row["escaped"] == row["n"] > 1 and math.isnan(row["median_low"]) and math.isfinite(row["median"])


def _interval(row: dict) -> str:
    """The interval of a median, whose upper end may be infinite; empty if there is none."""
    low, high = row["median_low"], row["median_high"]
    if _one_step(row):
        return SAME
    return "" if math.isnan(low) else f"[{whole(low)}, {whole(high)}]"


def _bound(row: dict, cells: pd.DataFrame) -> str:
    """`≥` or `≤` if the difference of an arm from its baseline is a bound. cells: the table of cells."""
    if _unknown(row["difference"]):
        return ""
    ours, theirs = (cells[cells.arm == row[key]].escape_step.to_numpy(float) for key in ("arm", "baseline"))
    return bound_of_difference(ours, theirs, row["limit"])


def _difference(row: dict, bound: str) -> dict[str, str]:
    """The difference from the baseline as the table shows it, its interval (empty if there is none), and the bound."""
    if row["low"] == row["high"]:
        interval = "at every seed" if bound else SAME
    else:
        interval = span(row["low"], row["high"], 0, bound=bound).replace("-", "−")
    return {"bound": bound, "shown_difference": f"{bound} {difference(row['difference'], 0)}".strip(),
            "difference_interval": interval}


def neighbour_attention(record: dict) -> float | None:
    """The largest share of attention that any head pays to one neighbour; None if the record has none."""
    shares = record.get("attention_offsets")
    return None if shares is None else float(np.array(shares)[..., NEIGHBOURS].max())


def _last_attention(cell: CellResults) -> float | None:
    shares = map(neighbour_attention, reversed(cell.records))
    return next((share for share in shares if share is not None), None)


def _mean(values) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _aligned(results: StudyResults, arm: str) -> list[tuple[int, float, float]]:
    """(steps since the escape, NLL minus the unigram level, attention to a neighbour), means over the runs that leave
    the plateau and have a validation there. Empty if no attention was recorded."""
    cells, points = results.of_arm(arm), []
    runs = escapes(results, cells)
    for cell, step, escaped in zip(cells, runs.step, runs.escaped, strict=True):
        attention = {record["step"]: share for record in cell.records
                     if (share := neighbour_attention(record)) is not None}
        points += [(at - step, nll - results.unigram_nll, attention[at]) for at, nll in validations(cell.records)
                   if escaped and at in attention and at % cell.settings.training.eval_steps == 0]
    if not points:
        return []
    means = pd.DataFrame(points, columns=["since", "nll", "attention"]).groupby("since").mean().reset_index()
    return list(means.itertuples(index=False, name=None))
