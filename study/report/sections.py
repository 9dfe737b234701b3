"""A section a factor: what its arms do to text, what their sources say, what came out."""
from __future__ import annotations

import math
import re

import pandas as pd

from study.analysis.comparisons import HEADLINES
from study.analysis.metrics import METRICS
from study.analysis.results import read_json
from study.analysis.verdicts import unit_scale
from study.config.load import Study, flat
from study.report import figures
from study.report.claims import DIGITS

BASELINE = "baseline"                       # the factor of arms that are points of reference
BETTER = {"nll": "left is better", "probe_accuracy": "right is better"}


def sections(study: Study, facts: dict, records: dict[str, list[list[dict]]]) -> list[dict]:
    """One entry a factor, in the order of arms.yaml: name, slug, arms, figures (name -> svg, title, alt)."""
    by_factor: dict[str, list[str]] = {}
    for arm in study.settings.arms:
        by_factor.setdefault(study.arms[arm].factor, []).append(arm)
    result = []
    for factor, names in by_factor.items():
        slug = re.sub(r"[^a-z0-9]+", "-", factor.lower()).strip("-")
        drawn = {} if factor == BASELINE else _figures(study, facts, records, factor, slug, names)
        result.append({"name": factor, "slug": slug, "figures": drawn,
                       "arms": [_arm(study, facts, name) for name in names]})
    return result


def _arm(study: Study, facts: dict, name: str) -> dict:
    fed = read_json(study.cell(name, study.settings.seeds[0]) / "inputs.json")
    comparisons = [found for found in facts["comparisons"] if found["treatment"] == name]
    changes = ", ".join(f"{key.removesuffix('.times')} {'times ' if key.endswith('.times') else ''}{value}"
                        for key, value in flat(study.arms[name].changes))
    return {"arm": name, **study.arms[name].model_dump(include={"description", "source", "source_reports", "baseline"}), "fed": fed,
            "differs": changes or "nothing",
            "passes": [_tokens(one) for one in fed["line"]["passes"]] if study.quotable else [],
            "came_out": [compared(found) for found in comparisons if math.isfinite(found["effect"])]}


def _tokens(one: dict) -> list[dict]:
    kinds = one["kinds"] or ["untouched"] * len(one["tokens"])
    return [{"text": text, "kind": kind} for text, kind in zip(one["tokens"], kinds, strict=True)]


def compared(found: dict) -> str:
    """One comparison in a sentence: effect, interval, and what it says."""
    accuracy = METRICS[found["metric"]].unit == "points"
    scale, digits = (100, 1) if accuracy else (1, 3)
    effect, low, high = (scale * found[key] for key in ("effect", "low", "high"))
    text = (f"{found['treatment']} against {found['baseline']}: {effect:+z.{digits}f} "
            + (f"points of {METRICS[found['metric']].label}" if accuracy else "nats on [MASK]"))
    if not math.isfinite(low):
        return f"{text} (one seed: no interval)."
    if low == high == 0:
        return f"{text}: the same to the last digit, for nothing that the arms differ in came to bear."
    text += f", 95 % interval [{low:+z.{digits}f}, {high:+z.{digits}f}]: "
    if isinstance(found["stuck"], str) and found["stuck"]:
        return f"{text}nothing can be said yet, for {found['stuck']} ended on the unigram plateau."
    if low > 0 or high < 0:
        return text + ("better." if (low > 0) == accuracy else "worse.")
    detectable = scale * found["smallest_detectable_effect"]
    return text + ("undecided." if not math.isfinite(detectable) else
                   f"undecided; with this spread these seeds find a true difference of {detectable:.{digits}f} in four "
                   "studies of five.")


def curve_levels(data: dict) -> tuple[float, float | None]:
    """Perplexity of word frequencies alone, and the best possible where it is known, on what training is validated
    on."""
    references = data["references"]
    floors = references["floors"].get("validation")
    return references["unigram"]["validation"], floors and floors["mask_only"]["perplexity"]


def arm_colors(study: Study) -> dict[str, str]:
    """The colour of each arm of a study, the same in all its figures."""
    return figures.palette({arm: study.arms[arm].factor for arm in study.settings.arms}, study.settings.baseline)


def curve_figure(records: dict[str, list[list[dict]]], colors: dict[str, str], data: dict) -> dict:
    """Learning curves of these arms with their title and alternative text; those without a colour in grey."""
    shown = [arm for arm, runs in records.items()
             if arm in colors and any(len(figures.validated(run)) > 1 for run in runs)]
    return {"title": "Learning curves", "svg": figures.curves(records, colors, *curve_levels(data)),
            "alt": f"Validation perplexity against training tokens for {', '.join(shown)}"
                   f"{'' if records.keys() <= colors.keys() else ', and in grey all other arms'}; the band spans the "
                   f"seeds. Dashed levels are those of the validation tokens."}


def _figures(study: Study, facts: dict, records: dict, factor: str, slug: str, names: list[str]) -> dict[str, dict]:
    shown = list(dict.fromkeys([study.arms[name].baseline for name in names] + names))
    colors = {name: color for name, color in arm_colors(study).items() if name in shown}
    drawn = {f"curves-{slug}": curve_figure({name: records[name] for name in colors}, colors, facts["data"])}
    table = facts["frames"]["comparisons"]
    for metric in HEADLINES:
        part = table[(table.metric == metric) & table.treatment.isin(names)].dropna(subset="effect")
        if len(part):
            drawn[f"effects-{slug}-{metric.replace('_', '-')}"] = effects(part, colors, metric)
    return drawn


def effects(table: pd.DataFrame, colors: dict[str, str], metric: str) -> dict:
    """A forest plot of one metric with its title, caption and alternative text."""
    scale, unit = unit_scale(metric)
    digits, label = DIGITS[unit], METRICS[metric].label
    table = table.assign(**{key: scale * table[key] for key in ("effect", "low", "high")})
    return {"title": f"Effects on {label}",
            "svg": figures.forest(table, colors, f"{label}, {unit}: {BETTER[metric]}", digits),
            "caption": f"Each arm minus the one it is compared with, with 95 % intervals; {BETTER[metric]}.",
            "alt": "; ".join(f"{r['treatment']} minus {r['baseline']}: {r['effect']:+z.{digits}f} {unit}"
                             for r in table.to_dict("records"))}
