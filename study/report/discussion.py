"""The part of a report that a person writes: experiments/<study>/discussion.md, whose every number is looked up.

It is paragraphs of plain text with places for numbers:

    {{ arm("dynamic").perplexity_mean | number }}        a row of tables/arms.csv
    {{ effect("all-mask", "nll") | signed(3) }}          a row of tables/comparisons.csv (nll, probe_accuracy or
                                                         probe_chosen): effect and interval, in nats
    {{ effect("span", "probe_accuracy") | signed(1, 100) }}    the same in points
    {{ tenth("span", 1).nll }}                           NLL on [MASK] in that tenth of the masked tokens, the most
                                                         frequent being tenth 1; .difference: minus that of the arm's
                                                         baseline, .part: what this adds to the difference over all
                                                         tokens, .rest: what the others do; nats; tenth("span", 1,
                                                         "static") is against another arm
    {{ layer("dynamic", 0) | percent }}                  accuracy of the mean-pooled probe at a layer (0: embeddings)
    {{ claim("L13").measured }}  {{ claim("L13").verdict }}
    {{ reference.unigram_perplexity | number }}          evaluation.json's headline of the baseline
    {{ neighbours | number }}                            perplexity that counts of neighbours reach
    {{ study.training.steps | number(0) }}               a setting
"""
from __future__ import annotations

import re

from study import StudyError
from study.config.load import Study
from study.report.overview import probe_lines


def discussion(study: Study, facts: dict, filters: dict) -> list[str]:
    """Its paragraphs with the numbers filled in; none where nothing was written. Raises StudyError with the line for
    what cannot be looked up."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    path = study.folder / "discussion.md"
    if not path.exists():
        return []
    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.filters |= filters
    context = {"arm": _by("arm", facts["arms"], path), "claim": _by("id", facts["claims"], path),
               "effect": _effects(facts["comparisons"], path), "tenth": _tenths(study, facts["frames"]["tokens"], path),
               "layer": _layers(study, path), "reference": facts["reference"],
               "neighbours": facts["data"]["references"]["neighbours"]["perplexity"], "study": facts["study"]}
    try:
        text = environment.from_string(path.read_text(encoding="utf-8")).render(context)
    except StudyError:
        raise
    except Exception as error:              # whatever its places for numbers ask for
        line = f" line {error.lineno}:" if getattr(error, "lineno", None) else ""
        reason = " ".join(str(error).split())
        raise StudyError(f"{path}:{line} {reason}; see study/report/discussion.py for what can be cited") from None
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def discussed(study: Study) -> set[str]:
    """The claims that it speaks of."""
    path = study.folder / "discussion.md"
    return set(re.findall(r"""claim\(["']([^"']+)""", path.read_text(encoding="utf-8"))) if path.exists() else set()


def _by(key: str, rows: list[dict], path):
    known = {row[key]: row for row in rows}

    def look(name: str) -> dict:
        if name not in known:
            raise StudyError(f"{path}: there is no {'arm' if key == 'arm' else 'claim'} {name} in this report")
        return known[name]
    return look


def _tenths(study: Study, tokens, path):
    rows = list(tokens.query("group == 'decile'").itertuples())
    nll, count = ({(row.arm, int(row.part)): getattr(row, name) for row in rows} for name in ("nll", "tokens"))

    def look(arm: str, number: int, baseline: str | None = None) -> dict[str, float]:
        other = baseline or study.arms[arm].baseline if arm in study.arms else None
        parts = [part for name, part in nll if name == arm]
        if not parts or number - 1 not in parts or (other, number - 1) not in nll:
            raise StudyError(f"{path}: there is no tenth {number} of {arm} and {other} in this report")
        total = sum(count[arm, part] for part in parts)
        part = {place: (nll[arm, place] - nll[other, place]) * count[arm, place] / total for place in parts}
        return {"nll": nll[arm, number - 1], "difference": nll[arm, number - 1] - nll[other, number - 1],
                "part": part.pop(number - 1), "rest": sum(part.values())}
    return look


def _layers(study: Study, path):
    lines = probe_lines(study, "layers")

    def look(arm: str, number: int) -> float:
        found = dict(lines.get(arm, []))
        if number not in found:
            raise StudyError(f"{path}: layer {number} of {arm} was not probed")
        return found[number]
    return look


def _effects(rows: list[dict], path):
    known = {(row["treatment"], row["metric"]): row for row in rows}

    def look(treatment: str, metric: str) -> dict:
        if (treatment, metric) not in known:
            raise StudyError(f"{path}: there is no comparison of {treatment} on {metric} in this report")
        return known[treatment, metric]
    return look
