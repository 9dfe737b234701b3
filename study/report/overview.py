"""The figures over all arms of a study, and the tables that belong to them."""
from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from study.analysis import statistics
from study.analysis.comparisons import HEADLINES
from study.analysis.ladder import best_count_model, read_ladder
from study.analysis.metrics import METRICS, display_unit
from study.analysis.results import StudyResults
from study.config.arms import resolve
from study.config.fingerprint import flat
from study.config.study import Study
from study.report import figures
from study.report.canvas import palette
from study.report.claims import DIGITS
from study.report.search import search_figure

REFERENCE = "baseline"                      # the factor of the arms that are points of reference
MAX_NAMED = 32                              # arms that a figure names at the ends of lines; beyond, only the baseline
DIRECTION = {"nll": "lower is better", "probe_accuracy": "higher is better"}


@dataclass(frozen=True)
class Figure:
    """A figure: its heading, the SVG, a caption that says how to read it, and a text for those who cannot see it."""
    title: str
    svg: str
    caption: str
    alt: str


def arm_colors(study: Study) -> dict[str, str]:
    """Arm -> colour, the same in all figures of a study."""
    return palette({arm: study.arms[arm].factor for arm in study.settings.arms}, study.settings.baseline)


def overview_figures(results: StudyResults, facts: dict) -> dict[str, Figure]:
    """File name (without .svg) -> figure over all arms, in the order of the report."""
    study = results.study
    colors, baseline = arm_colors(study), study.settings.baseline
    named = colors if len(study.settings.arms) <= MAX_NAMED else {baseline: colors[baseline]}
    drawn = {"curves": curve_figure(results, named, study.settings.arms, facts["data"])}
    comparisons = facts["frames"]["comparisons"]
    for metric in HEADLINES:
        changes = [arm for arm in study.settings.arms if study.arms[arm].factor != REFERENCE]
        table = comparisons[(comparisons.metric == metric) & comparisons.treatment.isin(changes)]
        table = table.dropna(subset="effect")
        table = table.sort_values("effect", ascending=METRICS[metric].better == "lower", kind="stable")
        if len(table):
            drawn[f"effects-{metric.replace('_', '-')}"] = effects_figure(study, comparisons, table, colors, metric)
    drawn |= _along_figure(facts["frames"]["along_training"], colors)
    drawn |= _decile_figure(study, facts["frames"]["tokens"]) | _probe_figures(results, facts, colors, named)
    if any(trial["value"] is not None for trial in results.trials):
        drawn["search"] = Figure("Hyperparameter search", search_figure(results.trials, study.settings.search.space,
                                                                       colors),
                                 "Validation NLL of each trial, by trial number (line: best so far) and by each tuned "
                                 "setting. Hollow points: pruned trials.",
                                 "Validation NLL of the search trials, by trial number and by each tuned setting")
    return drawn


def curve_figure(results: StudyResults, colors: dict[str, str], arms: list[str], data: dict) -> Figure:
    """Learning curves of these arms; those without a colour are grey."""
    ladder = read_ladder(data["references"], "validation")
    levels = {rung.name: rung.perplexity for rung in ladder if rung.name in ("unigram", "floor")}
    levels["best count model"] = best_count_model(ladder).perplexity
    records = {arm: [cell.records for cell in results.of_arm(arm)] for arm in arms}
    svg = figures.curves(records, colors, levels)
    drawn = [arm for arm, runs in records.items()
             if arm in colors and any(len(figures.validations(run)) > 1 for run in runs)]
    grey = "" if records.keys() <= colors.keys() else " Grey: all other arms."
    return Figure("Learning curves", svg,
                  f"Mean over seeds; the band spans the seeds. Dashed: references on the validation tokens.{grey}",
                  f"Validation perplexity against training tokens for {', '.join(drawn)}")


def control_interval(study: Study, comparisons: pd.DataFrame, metric: str) -> tuple[float, float] | None:
    """The 95 % interval of the A/A control: the arm that differs from the baseline in its seeds alone."""
    rows = comparisons[(comparisons.metric == metric) & (comparisons.baseline == study.settings.baseline)]
    rows = rows[[[key for key, _ in flat(study.arms[arm].changes)] == ["training.seed_offset"]
                 for arm in rows.treatment]].dropna(subset="low")
    return None if rows.empty else (float(rows.low.iloc[0]), float(rows.high.iloc[0]))


def effects_figure(study: Study, comparisons: pd.DataFrame, table: pd.DataFrame, colors: dict[str, str],
                   metric: str) -> Figure:
    """A forest plot of one metric over the band of the A/A control. table: the rows of comparisons.csv to draw."""
    scale, unit = display_unit(metric)
    digits, label = DIGITS[unit], METRICS[metric].label
    table = table.assign(gated=table.gated_runs + table.baseline_gated_runs > 0,
                         **{key: scale * table[key] for key in ("effect", "low", "high")})
    noise = control_interval(study, comparisons, metric)
    noise = None if noise is None else (scale * noise[0], scale * noise[1])
    effects = (f"{row['treatment']} minus {row['baseline']} {row['effect']:+z.{digits}f}"
               for row in table.to_dict("records"))
    return Figure(f"Effects on {label}",
                  figures.forest(table, colors, f"difference in {label} ({unit}; {DIRECTION[metric]})", digits,
                                 noise),
                  f"Each arm minus the arm it is compared with, with 95 % intervals; {DIRECTION[metric]}. Grey band: "
                  "the interval of the A/A control, where the arms differ in their seeds alone. Hollow: an arm fails "
                  "the learning gate.",
                  f"Difference in {label} ({unit}): {', '.join(effects)}")


def _along_figure(table: pd.DataFrame, colors: dict[str, str]) -> dict[str, Figure]:
    if not len(table):
        return {}
    names = table[["treatment", "baseline"]].drop_duplicates().itertuples(index=False)
    return {"along-training": Figure(
        "Effects along training", figures.along_training(table, colors),
        "Difference in validation NLL between an arm and its baseline, paired by seed, with its 95 % t interval over "
        "seeds. Negative values are better. Each arm is read at the given percentage of its own steps. The panels of a "
        "row share their scale; bands are cut off at its ends.",
        f"Difference in validation NLL along training, for {', '.join(' minus '.join(pair) for pair in names)}")}


def _decile_figure(study: Study, tokens: pd.DataFrame) -> dict[str, Figure]:
    baseline, table = study.settings.baseline, tokens.query("group == 'decile'")
    if baseline not in set(table.arm):
        return {}
    table = table.assign(part=table.part.astype(int)).pivot(index="arm", columns="part", values="nll")
    table = table.loc[[arm for arm in study.settings.arms
                       if arm in table.index and resolve(study, arm).training.steps]]
    return {"deciles": Figure("NLL by token frequency", figures.deciles(table, baseline),
                              f"First row: NLL on [MASK] of {baseline}, in nats. Other rows: the arm minus {baseline}; "
                              "negative values are better.",
                              f"NLL on [MASK] by frequency of the token, for {baseline} and as a difference from it "
                              "for every other trained arm")}


def _probe_figures(results: StudyResults, facts: dict, colors: dict[str, str],
                   named: dict[str, str]) -> dict[str, Figure]:
    """Probes of all arms, by layer and by number of training rows, and [CLS] vectors in two dimensions."""
    study, task = results.study, results.study.settings.probe.tasks[0]
    levels = {"majority": facts["levels"]["majority"]["accuracy"], "TF-IDF": facts["levels"]["tfidf"]["accuracy"]}
    drawn = {"probe": Figure("Linear probe", figures.probe_bars(facts["frames"]["arms"], colors, levels),
                             "Accuracy of a linear probe on frozen vectors, with 95 % intervals over seeds. Black "
                             "marks: the same encoders before training.",
                             "Probe accuracy of each arm, trained and untrained, with TF-IDF and the majority class")}
    for name, title, label in (("layers", "Probe by layer", "layer (0: embeddings)"),
                               ("sizes", "Probe by number of training rows", "training rows")):
        if lines := probe_lines(results, name):
            drawn[f"probe-{name}"] = Figure(title, figures.probe_lines(lines, named, label, name == "sizes"),
                                            "Mean pooling; means over seeds.", f"Accuracy of the probe by {label}")
    arrays = results.cell(study.settings.baseline, study.settings.seeds[0]).probe_arrays
    points = {name: arrays[key] for name in ("untrained", "trained")
              if (key := f"{task.name}/cls/{name}/plane") in arrays}
    if points:
        title = "[CLS] vectors: principal components"
        drawn["plane"] = Figure(title, figures.planes(points, arrays[f"{task.name}/label"], task.labels, "component"),
                                "Test rows of the baseline (first seed), coloured by label. First two principal "
                                "components.", f"{title} of test rows, untrained and trained, coloured by label")
    return drawn


def probe_lines(results: StudyResults, name: str) -> dict[str, list[tuple[float, float]]]:
    """Arm -> (layer or training rows, mean accuracy over seeds), for arms whose every cell was probed this way.

    name: `layers` or `sizes`.
    """
    task, lines = results.study.settings.probe.tasks[0].name, {}
    for arm in results.study.settings.arms:
        scores = [cell.probe[task].get("more", {}).get("trained", {}).get(name) for cell in results.of_arm(arm)]
        if not all(scores):
            continue
        scores = [dict(enumerate(score)) if isinstance(score, list) else score for score in scores]
        points = [(int(x), [score[x]["accuracy"] for score in scores if score[x]]) for x in scores[0]]
        lines[arm] = [(x, sum(values) / len(values)) for x, values in points if len(values) == len(scores)]
    return {arm: line for arm, line in lines.items() if line}


def further_tasks(results: StudyResults, facts: dict) -> list[dict]:
    """The probe tasks after the first: name, pooling, reference levels, and one row per arm with its mean over seeds,
    95 % t interval and untrained mean."""
    cells, tasks = facts["frames"]["cells"], []
    for task in results.study.settings.probe.tasks[1:]:
        rows = []
        for arm in results.study.settings.arms:
            part = cells[cells.arm == arm]
            trained, untrained = (
                statistics.t_estimate(part[f"{task.name}_{facts['pooling']}_{kind}"].dropna().to_numpy(float))
                for kind in ("accuracy", "untrained_accuracy"))
            low, high = trained.clipped(1.0)
            rows.append({"arm": arm, "n": len(part), "mean": trained.mean, "low": low, "high": high,
                         "untrained": untrained.mean})
        tasks.append({"name": task.name, "pooling": facts["pooling"], "levels": facts["data"]["baselines"][task.name],
                      "rows": rows})
    return tasks
