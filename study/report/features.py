"""What can be read from the frozen vectors: the probe by layer, beside the untrained encoder, and further tasks."""
from __future__ import annotations

import pandas as pd

from study.analysis import statistics
from study.analysis.questions import QUESTIONS
from study.analysis.results import StudyResults
from study.config.study import Study
from study.report import panels
from study.report.canvas import GREY
from study.report.formatting import plural
from study.report.overview import MOST_CURVES, Figure, of_question, own_colors

UNTRAINED = "untrained"


def probe_points(probes: pd.DataFrame, encoder: str = "trained") -> dict[str, list[tuple]]:
    """Arm -> (layer, accuracy). probes: the table of probes."""
    part = probes[(probes.by == "layers") & (probes.encoder == encoder)]
    return {arm: list(zip(rows.number, rows.accuracy, strict=True)) for arm, rows in part.groupby("arm", sort=False)}


def layer_figure(study: Study, probes: pd.DataFrame, levels: dict) -> dict[str, Figure]:
    """Probe accuracy by layer, a panel per question; nothing if layers were not probed. levels: the references."""
    points = probe_points(probes)
    if study.settings.baseline not in points:
        return {}
    lines = lines_by_question(study, points, probe_points(probes, encoder=UNTRAINED))
    return {"layers": Figure(
        "Probe accuracy by layer", panels.layers(lines, [levels[name]["accuracy"] for name in ("tfidf", "majority")]),
        "Mean pooling; means over seeds. Dotted: the baseline's encoder before training. Dashed: TF-IDF and the "
        "majority class, which need no encoder.",
        f"Probe accuracy by layer of {plural(len(points), 'arm')}, by question")}


def lines_by_question(study: Study, points: dict[str, list[tuple]],
                      untrained: dict[str, list[tuple]]) -> dict[str, list[tuple]]:
    """The panels of panels.layers: question -> lines (name, points, colour) of its arms, with the baseline and, in
    grey, its encoder before training. points, untrained: arm -> points (layer, accuracy)."""
    baseline = study.settings.baseline
    grey = {f"{baseline}, {UNTRAINED}": untrained[baseline]} if baseline in untrained else {}
    shown = {}
    for question in QUESTIONS:
        for place, arms in enumerate(of_question(study, question, MOST_CURVES - 1)):
            shown[question + (f" ({place + 1})" if place else "")] = {arm: points[arm] for arm in arms if arm in points}
    shown = {name: lines for name, lines in shown.items() if len(lines) > 1} or {baseline: {baseline: points[baseline]}}
    return {name: [(arm, part[arm], color) for arm, color in own_colors(list(part), baseline).items()] + [
        (arm, line, GREY) for arm, line in grey.items()] for name, part in shown.items()}


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
