"""The validation with new masks, as tutorials do it, beside the fixed one and the perplexities that were published."""
from __future__ import annotations

import math

from study.analysis.claims import RangeClaim, load_claims
from study.analysis.results import StudyResults
from study.report.canvas import GREY, LIGHT, draw, name_line_ends, palette, plain_ticks, reference_level
from study.report.overview import Figure

METRIC = "remasked_nll_"                    # followed by the step
MOST_NLL = 30.0                             # nats


def remasked_section(results: StudyResults) -> dict | None:
    """The context of remasked.md: a figure, and one row per arm and step; None without `examples.remasked`.

    A row has `arm`, `step`, `published` (a band of perplexities, None if there is none for this arm), and for each seed
    the perplexity of the validation with new masks (`remasked`) and that on the fixed [MASK] (`fixed`).
    """
    settings = results.study.settings
    if settings.examples.remasked is None:
        return None
    bands, rows = published_bands(results), []
    for arm in settings.arms:
        runs = [_validations(cell.records) for cell in results.of_arm(arm)]
        steps = sorted(set().union(*(run.keys() for run in runs)))
        rows += [{"arm": arm, "step": step, "published": bands.get((arm, step)),
                  **{key: [perplexity(run[step][number]) for run in runs if step in run]
                     for number, key in enumerate(("remasked", "fixed"))}}
                 for step in steps if step in {at for _, at in bands} or step == steps[-1]]
    return {"figure": _figure(results, bands), "rows": rows}


def published_bands(results: StudyResults) -> dict[tuple[str, int], tuple[float, float]]:
    """(arm, step) -> the lowest and highest published perplexity, from the claims about this validation."""
    claims = load_claims(results.study).values()
    return {(claim.arm, int(claim.metric.removeprefix(METRIC))): (math.exp(claim.low), math.exp(claim.high))
            for claim in claims if isinstance(claim, RangeClaim) and claim.metric.startswith(METRIC)}


def perplexity(nll: float) -> float:
    """The perplexity of an NLL in nats; one that diverged is cut off."""
    return math.exp(min(nll, MOST_NLL))


def _validations(records: list[dict]) -> dict[int, tuple[float, float]]:
    """Step -> NLL in nats of the validation with new masks and of the fixed one. records: those of metrics.jsonl."""
    return {record["step"]: (record["remasked_nll"], record["validation_nll"]) for record in records
            if "remasked_nll" in record and record["step"]}


def _figure(results: StudyResults, bands: dict[tuple[str, int], tuple[float, float]]) -> Figure:
    study = results.study
    colors = palette({arm: arm for arm in study.settings.arms}, study.settings.baseline)

    def paint(axes) -> None:
        ends = []
        for arm in study.settings.arms:
            for number, cell in enumerate(results.of_arm(arm)):
                points = [(step, perplexity(nll)) for step, (nll, _) in _validations(cell.records).items()]
                if not points:              # no training, or it diverged before the first validation
                    continue
                axes.plot(*zip(*points, strict=True), color=colors[arm], linewidth=1.4, marker="o", markersize=3)
                ends += [(*points[-1], arm)] if number == 0 else []
        for (_, step), (low, high) in bands.items():
            axes.plot([step, step], [low, high], color=LIGHT, linewidth=9, solid_capstyle="butt", zorder=0)
            axes.annotate("published", (step, high), xytext=(0, 3), textcoords="offset points", color=GREY, fontsize=7,
                          ha="center")
        axes.set_yscale("log")
        axes.set_ylim(15, 2.5 * math.exp(results.unigram_nll))
        reference_level(axes, math.exp(results.unigram_nll), "unigram")
        name_line_ends(axes, ends, colors)
        axes.set_xlabel("step")
        axes.set_ylabel("validation perplexity, new masks")
        plain_ticks(axes.yaxis)

    return Figure("Validation with new masks", draw(7.2, 3.6, paint),
                  "One line per run. Grey bars: the perplexities that the tutorial states. Dashed: unigram "
                  "frequencies.",
                  "Perplexity of the tutorial's own validation by step, with the published bands")
