"""What the report shows of minimal pairs, token identity and sources of variance, for studies that have them."""
from __future__ import annotations

import pandas as pd

from study.analysis.further_tables import ALL
from study.analysis.metrics import METRICS
from study.analysis.variance import sources_of
from study.config.study import Study
from study.report import panels
from study.report.features import lines_by_question
from study.report.formatting import number, percent, unit_of
from study.report.further_figures import phenomena
from study.report.overview import Figure


def table_names(study: Study) -> list[str]:
    """The tables that the compare stage of this study writes of them."""
    settings = study.settings.evaluation
    wanted = {"minimal_pairs": settings.minimal_pairs, "token_identity": settings.token_identity,
              "variance": sources_of(study), "attention": study.settings.training.attention_offsets}
    return [name for name, setting in wanted.items() if setting]


def further_figures(study: Study, frames: dict[str, pd.DataFrame]) -> dict[str, Figure]:
    """Accuracy by phenomenon of the baseline on the first task of minimal pairs, token identity by layer, and the
    spread of runs by source of chance."""
    drawn = {}
    if "minimal_pairs" in frames:
        drawn |= pair_figure(study, frames["minimal_pairs"])
    if "token_identity" in frames:
        drawn |= identity_figure(study, frames["token_identity"])
    if "variance" in frames and len(frames["variance"]):
        drawn |= spread_figure(frames["variance"], frames["cells"])
    return drawn


def pair_figure(study: Study, table: pd.DataFrame) -> dict[str, Figure]:
    """The baseline by phenomenon beside word frequencies and bigrams; nothing if the baseline is not scored."""
    task, arm = study.settings.evaluation.minimal_pairs[0].name, study.settings.baseline
    rows = table[(table.task == task) & (table.arm == arm)].to_dict("records")
    if not rows:
        return {}
    return {"minimal-pairs": Figure(
        f"Minimal pairs: {task}", phenomena(rows, arm),
        f"Means of {arm} with 95 % intervals: over seeds and pairs for a phenomenon, over seeds and paradigms for all. "
        "Dashed: chance. Word frequencies and bigrams are those of the training text.",
        f"Accuracy of {arm} on minimal pairs by phenomenon, in percent: "
        + ", ".join(f"{row['phenomenon']} {percent(row['accuracy'])}" for row in rows))}


def pair_rows(study: Study, frames: dict[str, pd.DataFrame]) -> list[dict]:
    """The tasks of minimal pairs: name, what the baselines reach and, per arm, its row for all phenomena."""
    if "minimal_pairs" not in frames:
        return []
    table, tasks = frames["minimal_pairs"], []
    for task in study.settings.evaluation.minimal_pairs:
        rows = table[(table.task == task.name) & (table.phenomenon == ALL)].to_dict("records")
        if rows:
            tasks.append({"name": task.name, "rows": rows, "pairs": rows[0]["pairs"],
                          "paradigms": rows[0]["paradigms"], "frequency": rows[0]["word-frequency"],
                          "bigram": rows[0]["bigram"]})
    return tasks


def variance_rows(frames: dict[str, pd.DataFrame]) -> list[dict]:
    """The rows of the table of variances, with the metric's label and unit, and numbers in that unit."""
    rows = []
    for row in frames["variance"].to_dict("records") if "variance" in frames else ():
        unit = unit_of(row["metric"])
        scaled = {key: unit.scale * row[key] for key in ("deviation", "deviation_low", "deviation_high")}
        rows.append(row | scaled | {"label": f"{METRICS[row['metric']].label}, {unit.name}", "digits": unit.digits + 1})
    return rows


def identity_figure(study: Study, table: pd.DataFrame) -> dict[str, Figure]:
    """Share of visible tokens that is read from each layer, a panel per question; nothing if the baseline has none."""
    if study.settings.baseline not in set(table.arm):
        return {}
    points = {encoder: {arm: list(zip(rows.layer, rows.accuracy, strict=True))
                        for arm, rows in part.groupby("arm", sort=False)}
              for encoder, part in table.groupby("encoder", sort=False)}
    lines = lines_by_question(study, points["trained"], points["untrained"])
    of_baseline = table[(table.encoder == "trained") & (table.arm == study.settings.baseline)].set_index("layer")
    last = of_baseline.accuracy[of_baseline.index.max()]
    return {"token-identity": Figure(
        "Visible tokens that can be read from the states", panels.layers(lines, [], "visible tokens read, %"),
        "A linear map from the states of unmasked text to the input embeddings; the nearest of the whole vocabulary "
        "counts. Means over seeds. Dotted: the baseline's encoder before training.",
        f"Share of visible tokens read from each layer by question; last layer of the baseline: "
        f"{number(100 * last, 1)} %")}


def spread_figure(table: pd.DataFrame, cells: pd.DataFrame) -> dict[str, Figure]:
    """The runs of each arm that varies one source of chance, and of the baseline, around their mean."""
    rows: dict[str, list] = {}
    for row in table.to_dict("records"):
        unit, numbers = unit_of(row["metric"]), cells.loc[cells.arm == row["arm"], row["metric"]]
        rows.setdefault(f"{METRICS[row['metric']].label} ({unit.name})", []).append(
            (row["source"], (unit.scale * numbers).tolist(), unit.scale * row["deviation"]))
    return {"variance": Figure(
        "Spread of runs by what they vary", panels.strips(rows),
        "Rings: runs. Bars: one standard deviation to both sides of the mean of the arm.",
        "Runs around the mean of their arm, by what differs between them: "
        + ", ".join(name for name, *_ in next(iter(rows.values()))))}
