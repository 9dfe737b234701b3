"""Leaving the unigram plateau: the section of studies whose runs end soon after they have left it."""
from __future__ import annotations

import math

import pandas as pd

from study.analysis.attention import LOOKS, OFFSETS, neighbour_attention
from study.analysis.decision_rules import ALPHA
from study.analysis.escape import bound_of_difference, escapes
from study.analysis.learning import validations
from study.analysis.questions import QUESTIONS, question_of_factor
from study.analysis.results import CellResults, StudyResults
from study.config.study import Study
from study.report import figures
from study.report.canvas import COLORS
from study.report.claims import with_runs
from study.report.formatting import SAME, difference, span, whole
from study.report.overview import MOST_CURVES, Figure, arm_colors, of_question
from study.report.plateau_figures import around_escape, by_offset, survival


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
                   "interval": _interval(row), "looks": _looks(row), "in_tokens": _in_tokens(row),
                   **_difference(row, _bound(row, facts["frames"]["cells"]))} for row in table.to_dict("records")]
    parts = _together(study, table.arm.tolist())
    drawn = _survival_figures(results, parts, colors) | _forest(study, rows)
    drawn |= _attention_figures(results, parts, colors)
    drawn |= _offset_figure(study.settings.baseline, facts["frames"].get("attention"))
    registered = [row["treatment"] for row in with_runs(facts["claims"])
                  if row.get("metric") == "escape_step" and row.get("treatment") and not row["exploratory"]]
    training = study.settings.training
    return {"rows": rows, "registered": registered, "figures": drawn, "limit": training.steps,
            "stop": training.stop_after_escape, "interval": training.eval_steps, "share": LOOKS}


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


def _forest(study: Study, rows: list[dict]) -> dict[str, Figure]:
    """The differences from the baselines, by question. An interval is open where the difference is a bound."""
    groups: dict[str, list[dict]] = {}
    for row in (row for row in rows if not _unknown(row["difference"])):
        low = -math.inf if row["bound"] == "≤" else row["low"]
        high = math.inf if row["bound"] == "≥" else row["high"]
        groups.setdefault(question_of_factor(study.arms[row["arm"]].factor), []).append(
            {"treatment": row["arm"], "baseline": row["baseline"], "effect": row["difference"], "low": low,
             "high": high, "gated": bool(row["bound"])})
    ordered = {question: groups[question] for question in QUESTIONS if question in groups}
    return {"plateau-differences": Figure(
        title="All comparisons: steps on the plateau",
        alt=f"Differences in steps on the plateau of {sum(map(len, groups.values()))} comparisons, by question",
        caption="Each arm minus the arm that it is compared with, in steps, with 95 % t intervals; left of zero, it "
                "leaves the plateau earlier. Hollow: runs of one of the two arms never left it, so the difference is a "
                "bound.",
        svg=figures.forest(ordered, arm_colors(study), "difference in steps on the plateau (lower is better)", 0))
    } if groups else {}


def _offset_figure(baseline: str, table: pd.DataFrame | None) -> dict[str, Figure]:
    """Attention to each near position along training, of the baseline and the arms in which a head looks at one."""
    if table is None or table.empty:
        return {}
    offsets, table = list(OFFSETS), table[table.n == table.groupby("arm").n.transform("max")]
    arms = {arm: part for arm, part in table.groupby("arm", sort=False)
            if arm == baseline or part[offsets].max(axis=None) >= LOOKS}
    return {"plateau-offsets": Figure(
        title="Attention to near positions along training",
        alt=f"Largest share of attention to the tokens at most two positions away, by step, for {', '.join(arms)}",
        caption="The largest share of attention that any head pays to the token two places to the left (-2), one place "
                "to the left (-1), at its own place (0), and so on; means over the runs, up to the step at which the "
                f"first of them ends. Arms are shown if a share reaches {100 * LOOKS:.0f} %, and the baseline.",
        svg=by_offset({arm: (part.step.tolist(), {offset: part[offset].tolist() for offset in offsets})
                       for arm, part in arms.items()}))}


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


def _looks(row: dict) -> str:
    """In how many runs a head looks at a neighbour and, in brackets, the median of its first step; empty if unknown."""
    if _unknown(row["attending"]):
        return ""
    count = f"{row['attending']:.0f} of {row['n']}"
    return f"{count} ({whole(row['attends'])})" if row["attending"] else count


def _in_tokens(row: dict) -> str:
    """The comparison in tokens as a sentence; empty where the comparison in steps says the same."""
    if _unknown(row["tokens_difference"]):
        return ""
    sign = 1 if row["tokens_difference"] >= 0 else -1
    size, *ends = (sign * row[key] / 1e6 for key in ("tokens_difference", "tokens_low", "tokens_high"))
    return (f"{row['arm']} reads another number of tokens per step than {row['baseline']}. Counted in tokens, its runs "
            f"leave the plateau {size:.1f} million tokens {'later' if sign > 0 else 'earlier'} [{min(ends):.1f}, "
            f"{max(ends):.1f}] (log-rank p {row['tokens_p']:.2g}; this comparison belongs to no claim).")


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
