"""The figures of a study with their captions: those that the report leads with, and those of its sections."""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study.analysis.comparisons import HEADLINES
from study.analysis.escape import escape_correlation
from study.analysis.ladder import best_count_model, read_ladder
from study.analysis.metrics import METRICS
from study.analysis.questions import QUESTIONS, REFERENCE, question_of_factor
from study.analysis.results import StudyResults
from study.config.arms import resolve
from study.config.fingerprint import flat
from study.config.study import Study
from study.report import figures, panels
from study.report.canvas import COLORS, palette
from study.report.formatting import number, percent, plural, slug, unit_of
from study.report.search import search_figure

MOST_CURVES = 8                             # curves in a plot or panel


@dataclass(frozen=True)
class Figure:
    """A figure: its heading, the SVG, a caption that says how to read it, and a text for those who cannot see it."""
    title: str
    svg: str
    caption: str
    alt: str


def arm_colors(study: Study) -> dict[str, str]:
    """Arm -> colour. Arms of one question share a colour, the same in all figures with arms of several questions."""
    return palette({arm: question_of_factor(study.arms[arm].factor) for arm in study.settings.arms},
                   study.settings.baseline)


def own_colors(arms: list[str], baseline: str) -> dict[str, str]:
    """Arm -> colour, for figures of one question; the baseline is black."""
    others = [arm for arm in arms if arm != baseline]
    return {baseline: "#000000"} | {arm: COLORS[place % len(COLORS)] for place, arm in enumerate(others)}


def trained_arms(study: Study) -> list[str]:
    """The arms that are trained at all, in the order of the study."""
    return [arm for arm in study.settings.arms if resolve(study, arm).training.steps]


def of_question(study: Study, question: str, most: int) -> list[list[str]]:
    """The trained arms of a question with the arms that they are compared with, in parts of at most `most` arms that
    each begin with the study's baseline."""
    parts: list[list[str]] = []
    for arm in trained_arms(study):
        if question_of_factor(study.arms[arm].factor) != question or study.arms[arm].factor == REFERENCE:
            continue
        wanted = [name for name in (study.settings.baseline, study.arms[arm].baseline, arm)
                  if name in study.settings.arms]
        if not parts or len({*parts[-1], *wanted}) > most:
            parts.append([])
        parts[-1] = list(dict.fromkeys([*parts[-1], *wanted]))
    return parts


def ladder_figure(results: StudyResults, rows: list[dict], baseline: dict, cells: pd.DataFrame) -> Figure:
    """The ladder of references with the baseline and its seeds. rows: of ladder.py; baseline: its row of arms.csv;
    cells: the table of cells."""
    seeds, training = cells[cells.arm == baseline["arm"]].nll.dropna().tolist(), results.study.settings.training
    short = "" if training.stop_after_escape is None else (
        f" Its runs end {plural(training.stop_after_escape, 'step')} after they leave the plateau, or after "
        f"{plural(training.steps, 'step')}, so this is where they stop and not how low they could go.")
    levels = ", ".join(f"{row['label']} {number(row['nll'], 3)}" for row in rows)
    return Figure("Ladder of references", figures.ladder(rows, seeds),
                  f"{where_the_baseline_stands(results, baseline)}{short} Rings are its runs. Everything else "
                  "needs no encoder: counts come from the training text, and the weights and exponents of the count "
                  "models were fitted to the validation set.",
                  f"NLL in nats, from the least to the most knowledge: {levels}")


def where_the_baseline_stands(results: StudyResults, baseline: dict) -> str:
    """The baseline against the best count model and, where it is known, the floor. baseline: its row of arms.csv."""
    distance = baseline["nll_mean"] - best_count_model(results.ladder("test")).nll
    text = (f"The baseline, {baseline['arm']}, is {abs(distance):.3f} nats {'below' if distance < 0 else 'above'} the "
            "best count model")
    if math.isfinite(baseline["share_closed_mean"]):
        text += f" and closes {percent(baseline['share_closed_mean'])} % of the way from unigram to the floor"
    return f"{text}."


def control_row(study: Study, comparisons: pd.DataFrame, metric: str) -> dict | None:
    """The A/A control on a metric: the row of the arm that differs from the baseline in its seeds alone."""
    rows = comparisons[(comparisons.metric == metric) & (comparisons.baseline == study.settings.baseline)]
    is_control = [[key for key, _ in flat(study.arms[arm].changes)] == ["training.seed_offset"]
                  for arm in rows.treatment]
    rows = rows[np.array(is_control, bool)].dropna(subset="low")
    return None if rows.empty else rows.to_dict("records")[0]


def effects_figure(study: Study, comparisons: pd.DataFrame, metric: str) -> dict[str, Figure]:
    """A forest plot of all comparisons on one metric, grouped by question, over the band of the A/A control."""
    unit, label, better = unit_of(metric), METRICS[metric].label, f"{METRICS[metric].better} is better"
    rows = comparisons[comparisons.metric == metric].dropna(subset="effect").to_dict("records")
    groups = {question: part for question in QUESTIONS if (part := [
        _scaled(row, unit.scale) for row in rows if study.arms[row["treatment"]].factor != REFERENCE
        and question_of_factor(study.arms[row["treatment"]].factor) == question])}
    if not groups:
        return {}
    control, band = control_row(study, comparisons, metric), ""
    if control:
        band = "Grey band: A/A noise. "
    svg = figures.forest(groups, arm_colors(study), f"difference in {label} ({unit.name}; {better})", unit.digits,
                         (unit.scale * control["low"], unit.scale * control["high"]) if control else None)
    caption = (f"Each arm minus the arm that it is compared with, with 95 % intervals. {band}Hollow: a run of either "
               "arm learnt too little, so the number may only show which one began to learn first."
               if metric == HEADLINES[0] else f"{band}Hollow: a run of either arm learnt too little.")
    return {f"effects-{metric.replace('_', '-')}": Figure(
        f"All comparisons: {label}", svg, caption,
        f"Differences in {label} ({unit.name}) of {plural(sum(map(len, groups.values())), 'comparison')}, by question")}


def _scaled(row: dict, scale: float) -> dict:
    """A row of comparisons.csv in the unit that readers see; `gated`: whether an arm fails the learning gate."""
    return row | {key: scale * row[key] for key in ("effect", "low", "high")} | {
        "gated": row["gated_runs"] + row["baseline_gated_runs"] > 0}


def curve_figures(results: StudyResults, data: dict) -> dict[str, dict[str, Figure]]:
    """Question -> file name -> learning curves of its arms, at most MOST_CURVES in a figure, and at least two: a
    left-to-right arm has none."""
    study, drawn = results.study, {}
    ladder = read_ladder(data["references"], "validation")
    levels = {rung.name: rung.perplexity for rung in ladder if rung.name in ("unigram", "floor")}
    levels["best count model"] = best_count_model(ladder).perplexity

    def has_curve(arm: str) -> bool:
        return any(len(cell.validations) > 1 for cell in results.of_arm(arm))

    for question in QUESTIONS:
        parts = [arms for arms in of_question(study, question, MOST_CURVES) if sum(map(has_curve, arms)) > 1]
        drawn[question] = {
            f"curves-{slug(question)}" + (f"-{place + 1}" if place else ""): _curves(results, arms, levels, question)
            for place, arms in enumerate(parts)}
    return {question: part for question, part in drawn.items() if part}


def _curves(results: StudyResults, arms: list[str], levels: dict[str, float], question: str) -> Figure:
    records = {arm: [cell.records for cell in results.of_arm(arm)] for arm in arms}
    return Figure("Learning curves", figures.curves(records, own_colors(arms, results.study.settings.baseline), levels),
                  "Means over seeds, thin where some runs have ended; the band spans the seeds. Dashed: references on "
                  "the validation tokens.",
                  f"Learning curves: {question}")


def along_figure(study: Study, table: pd.DataFrame) -> dict[str, Figure]:
    """Effects along training; nothing if no two arms were validated."""
    if not len(table):
        return {}
    return {"along-training": Figure(
        "Effects along training", panels.along_training(table, arm_colors(study)),
        "Validation NLL of each arm minus that of its baseline, with 95 % t intervals over seeds; negative is better. "
        "Each arm is read at a percentage of its own steps. The panels of a row share their scale, which may cut bands "
        "off.",
        "Differences in validation NLL along training, of "
        + plural(len(table.drop_duplicates(["treatment", "baseline"])), "comparison"))}


def escape_figure(results: StudyResults, cells: pd.DataFrame) -> dict[str, Figure]:
    """Final NLL against the escape step of every trained run; nothing if no run left the plateau."""
    study, trained = results.study, trained_arms(results.study)
    runs = cells[cells.arm.isin(trained)].dropna(subset="nll")
    if runs.escape_step.isna().all():
        return {}
    names = {arm: "the baseline" if arm == study.settings.baseline else question_of_factor(study.arms[arm].factor)
             for arm in trained}
    order = [name for name in ("the baseline", *QUESTIONS) if name in names.values()]
    points = {name: [(None if pd.isna(run.escape_step) else run.escape_step, run.nll) for run in runs.itertuples()
                     if names[run.arm] == name] for name in order}
    ladder = results.ladder("test")
    levels = {"unigram": next(rung.nll for rung in ladder if rung.name == "unigram"),
              "best count model": best_count_model(ladder).nll}
    by_name = {names[arm]: color for arm, color in arm_colors(study).items() if arm in names}
    rank = escape_correlation(runs)
    correlation = f" Rank correlation over the runs that left the plateau: {rank:+.2f}." if math.isfinite(rank) else ""
    return {"escapes": Figure(
        "Escape step and final NLL", figures.escapes(points, by_name, levels),
        f"A point per run, by question. Dashed: references on the test tokens.{correlation} If the runs that started "
        "early are those that ended low, an effect may be one of starting.",
        f"Final NLL against escape step of {plural(len(runs), 'run')}")}


def decile_figure(study: Study, tokens: pd.DataFrame) -> dict[str, Figure]:
    """NLL by frequency of the token; nothing if the baseline was not scored that way."""
    baseline, table = study.settings.baseline, tokens.query("group == 'decile'")
    if baseline not in set(table.arm):
        return {}
    table = table.assign(part=table.part.astype(int)).pivot(index="arm", columns="part", values="nll")
    table = table.loc[[arm for arm in trained_arms(study) if arm in table.index]]
    return {"deciles": Figure("NLL by token frequency", figures.deciles(table, baseline),
                              f"First row: NLL on [MASK] of {baseline}, in nats. Other rows: the arm minus {baseline}; "
                              f"negative is better. Blank: less than {figures.STEP / 2:g} either way.",
                              f"NLL by frequency of the token: of {baseline}, and differences of other arms from it")}


def search_figures(results: StudyResults) -> dict[str, Figure]:
    """The trials of the search; nothing without any."""
    if not any(trial["value"] is not None for trial in results.trials):
        return {}
    study = results.study
    return {"search": Figure(
        "Hyperparameter search", search_figure(results.trials, study.settings.search.space, arm_colors(study)),
        "Validation NLL of each trial, by trial number (line: best so far) and by each tuned setting. Hollow: pruned "
        "trials.", "Validation NLL of the trials")}
