"""One section per factor: what its arms change, what they were trained on, and their effects."""
from __future__ import annotations

import math

from study.analysis.along_training import Course
from study.analysis.metrics import METRICS, display_unit
from study.analysis.results import StudyResults
from study.config.fingerprint import flat
from study.report.claims import DIGITS
from study.report.formatting import signed, slug, span
from study.report.overview import REFERENCE, Figure, arm_colors, curve_figure


def factor_sections(results: StudyResults, facts: dict) -> list[dict]:
    """One entry per factor, in the order of the arms: name, arms (see _arm), figures (file name -> Figure)."""
    study = results.study
    by_factor: dict[str, list[str]] = {}
    for arm in study.settings.arms:
        by_factor.setdefault(study.arms[arm].factor, []).append(arm)
    return [{"name": factor, "arms": [_arm(results, facts, arm) for arm in arms],
             "figures": {} if factor == REFERENCE else _figures(results, facts, factor, arms)}
            for factor, arms in by_factor.items()]


def _arm(results: StudyResults, facts: dict, name: str) -> dict:
    """An arm: description, source, source_reports, baseline, changes (in words), inputs, passes (example lines),
    effects (sentences) and whether it starts from another arm."""
    study = results.study
    first, branch = results.cell(name, study.settings.seeds[0]), study.arms[name].branch
    inputs = first.inputs
    changes = [f"{key.removesuffix('.times')} {'×' if key.endswith('.times') else '='} {value}"
               for key, value in flat(study.arms[name].changes)]
    changes += [f"its start: as {branch.arm} up to step {branch.step}"] if branch else []
    effects = [effect_sentence(row) for row in facts["comparisons"]
               if row["treatment"] == name and math.isfinite(row["effect"])]
    effects += dict.fromkeys(f"Learning gate: {row['gate']}." for row in facts["comparisons"]
                             if row["treatment"] == name and fails_gate(row))
    effects += [course_sentence(entry) for entry in facts["along"] if entry["treatment"] == name]
    described = study.arms[name].model_dump(include={"description", "source", "source_reports", "baseline"})
    return {"arm": name, **described, "changes": ", ".join(changes) or "no setting", "inputs": inputs,
            "effects": effects, "is_branched": first.settings.branch is not None,
            "passes": [_tokens(line) for line in inputs["line"]["passes"]] if study.quotable else []}


def _tokens(line: dict) -> list[dict]:
    kinds = line["kinds"] or ["untouched"] * len(line["tokens"])
    return [{"text": text, "kind": kind} for text, kind in zip(line["tokens"], kinds, strict=True)]


def effect_sentence(row: dict) -> str:
    """One row of comparisons.csv in a sentence: effect, interval and what they show."""
    metric = METRICS[row["metric"]]
    scale, unit = display_unit(metric.name)
    digits = DIGITS[unit]
    label = metric.label[0].upper() + metric.label[1:]
    text = f"{label}, {row['treatment']} − {row['baseline']}: {scale * row['effect']:+z.{digits}f} {unit}"
    if not math.isfinite(row["low"]):
        return f"{text} (one seed: no interval can be computed)."
    if row["low"] == row["high"] == 0:
        return f"{text} in every run: the settings that differ had no effect."
    text += f", 95 % interval {span(row['low'], row['high'], digits, scale, '+')}: "
    if fails_gate(row):
        return f"{text}not interpreted (see the learning gate)."
    if row["low"] > 0 or row["high"] < 0:
        return text + ("better." if (row["low"] > 0) == (metric.better == "higher") else "worse.")
    detectable = scale * row["smallest_detectable_effect"]
    if not math.isfinite(detectable):
        return text + "undecided."
    return f"{text}undecided (smallest detectable effect: {detectable:.{digits}f} {unit})."


def fails_gate(row: dict) -> bool:
    """Whether a run of either arm of a row of comparisons.csv fails the learning gate."""
    return row["gated_runs"] + row["baseline_gated_runs"] > 0


COURSES = {
    Course.NONE: "no difference that the seeds can show, at a quarter of the steps or at the end",
    Course.HEAD_START: "a head start, with no difference left that the seeds can show",
    Course.LASTING: "a lasting difference",
    Course.GROWING: "a difference that grows",
    Course.SHRINKING: "a difference that is still there at the end, but less than half as large",
    Course.REVERSED: "a difference that changes its direction",
    Course.UNKNOWN: "one seed, so no interval can be computed"}


def course_sentence(entry: dict) -> str:
    """How an effect develops along training, in a sentence. entry: of study/analysis/along_training.py's `summary`."""
    quarter, half, end = (signed(entry[name]) for name in ("quarter", "half", "end"))
    return (f"Along training, validation NLL, {entry['treatment']} − {entry['baseline']}: {quarter} nats at a quarter "
            f"of the steps, {half} at half, {end} at the end: {COURSES[entry['course']]}.")


def _figures(results: StudyResults, facts: dict, factor: str, arms: list[str]) -> dict[str, Figure]:
    study, file = results.study, slug(factor)
    shown = {study.arms[arm].baseline for arm in arms} | set(arms)
    colors = {arm: color for arm, color in arm_colors(study).items() if arm in shown}
    return {f"curves-{file}": curve_figure(results, colors, list(colors), facts["data"])}
