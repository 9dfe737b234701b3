"""Fine-tuned and probed accuracy beside each other, by arm, with the untrained encoder."""
from __future__ import annotations

import pandas as pd

from study.analysis.results import StudyResults
from study.report.canvas import GREY, draw
from study.report.overview import Figure

ENCODERS = ("trained", "untrained")
ROW = 0.32                                  # inches of an arm in the figure


def finetuned_section(results: StudyResults, arms: list[dict]) -> dict | None:
    """The context of finetuned.md, None in a study that fine-tunes nothing.

    `tasks` has for each task a row per arm and number of labelled rows, with the untrained encoder beside it;
    `variants` has the rows of variants. figure: see `accuracy_figure`. arms: rows of arms.csv.
    """
    settings = results.study.settings.finetune
    if not settings.arms:
        return None
    table = pd.read_csv(results.study.reports / "tables" / "finetuned.csv")
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    by_key = {(row["task"], row["arm"], row["rows"], row["recipe"]): row for row in rows}
    tasks = [{"name": task.name, "rows": [
        row | {"untrained": by_key.get((task.name, row["arm"], row["rows"], "untrained"))}
        for row in rows if row["task"] == task.name and row["recipe"] == "trained"]} for task in settings.tasks]
    variants = [row | {"recipe_row": by_key[row["task"], row["arm"], row["rows"], "trained"]}
                for row in rows if row["recipe"] not in ENCODERS]
    return {"recipe": settings.recipe, "tasks": tasks, "variants": variants, "changes": settings.variants,
            "figure": accuracy_figure(results, arms)}


def accuracy_figure(results: StudyResults, arms: list[dict]) -> Figure | None:
    """The accuracy of the first task with the most labelled rows, and of the first probe task, by arm. arms: rows of
    arms.csv. None if no arm has both."""
    study = results.study
    shown = [arm for arm in arms if arm["arm"] in study.settings.finetune.arms
             and pd.notna(arm["finetuned_accuracy_mean"])]
    if not shown:
        return None
    size = max(study.settings.finetune.recipe.train_sizes)
    task, probe = study.settings.finetune.tasks[0].name, study.settings.probe.tasks[0].name
    return Figure(
        "Fine-tuned and probed accuracy", _dots(shown),
        f"Means over seeds with 95 % t intervals. Dots: the encoder fine-tuned on {size:,} labelled rows of {task}. "
        f"Squares: a linear probe of {probe} on the frozen encoder, which may have another number of rows. Hollow: the "
        "same before pre-training.",
        f"Fine-tuned and probed accuracy of {len(shown)} arm{'s' if len(shown) > 1 else ''}")


def _dots(arms: list[dict]) -> str:
    """One row per arm: fine-tuned accuracy above, probe accuracy below, in %."""
    def paint(axes) -> None:
        for place, arm in enumerate(arms):
            for offset, marker, color, trained, untrained, label in (
                    (-0.15, "o", "#0072B2", "finetuned_accuracy", "finetuned_untrained", "fine-tuned"),
                    (0.15, "s", "#D55E00", "probe_accuracy", "untrained_accuracy", "probe")):
                low, high, middle = (100 * arm[f"{trained}_{end}"] for end in ("low", "high", "mean"))
                axes.plot([low, high], [place + offset] * 2, color=color, linewidth=1.6)
                axes.plot(middle, place + offset, marker, color=color, markersize=5.5, label="" if place else label)
                if pd.notna(arm[f"{untrained}_mean"]):
                    axes.plot(100 * arm[f"{untrained}_mean"], place + offset, marker, color=color, fillstyle="none",
                              markersize=5.5, label="" if place else f"{label}, untrained")
            axes.axhline(place + 0.5, color=GREY, linewidth=0.3)
        axes.set_yticks(range(len(arms)), [arm["arm"] for arm in arms])
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("test accuracy, %")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)

    return draw(6.4, 1.0 + ROW * max(3, len(arms)), paint)
