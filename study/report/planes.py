"""The [CLS] vectors of the probe's test texts in two dimensions, before and after training."""
from __future__ import annotations

import numpy as np

from study.analysis.results import StudyResults, headline_probe
from study.report.canvas import COLORS, draw
from study.report.overview import Figure

NAMES = {"plane": "principal components", "tsne": "t-SNE", "umap": "UMAP"}
ENCODERS = {"untrained": "before training", "trained": "after training"}


def plane_figure(results: StudyResults) -> dict[str, Figure]:
    """The baseline's first seed: a row of panels per projection; nothing unless `probe.projections` asks for one."""
    settings, task = results.study.settings, headline_probe(results.study).task
    if not settings.probe.projections:
        return {}
    arrays = results.of_arm(settings.baseline)[0].probe_arrays
    kinds = ["plane", *settings.probe.projections]
    labels = next(part.labels for part in settings.probe.tasks if part.name == task)

    def paint(axes) -> None:
        figure = axes.figure
        axes.remove()
        grid = figure.subplots(len(kinds), len(ENCODERS), squeeze=False)
        for row, kind in zip(grid, kinds, strict=True):
            for panel, (encoder, when) in zip(row, ENCODERS.items(), strict=True):
                points = arrays[f"{task}/cls/{encoder}/{kind}"]
                _scatter(panel, points, arrays[f"{task}/label"][:len(points)], labels)
                panel.set_title(f"{NAMES[kind]}, {when}", fontsize=8.5)
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(labels),
                      fontsize=8, markerscale=2)

    count = len(arrays[f"{task}/cls/trained/plane"])
    return {"planes": Figure(
        "[CLS] vectors in two dimensions", draw(6.4, 0.5 + 2.5 * len(kinds), paint),
        f"{settings.baseline}, seed {settings.seeds[0]}: the last layer's [CLS] vectors of {count} test texts, "
        f"coloured by class. Each panel has its own scale.",
        f"Projections of {count} [CLS] vectors before and after training, coloured by class")}


def _scatter(panel, points: np.ndarray, label: np.ndarray, names: list[str]) -> None:
    """One panel: points (N, 2), label (N,)."""
    for number, name in enumerate(names):
        part = points[label == number]
        panel.plot(part[:, 0], part[:, 1], "o", color=COLORS[number % len(COLORS)], markersize=2, alpha=0.7,
                   markeredgewidth=0, label=name)
    panel.set_xticks([])
    panel.set_yticks([])
