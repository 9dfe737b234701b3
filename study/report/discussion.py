"""The part of a report that a person writes: experiments/<study>/discussion.md, whose every number is looked up.

It is paragraphs of plain text with places for numbers:

    {{ arm("dynamic").perplexity_mean | number }}        a row of tables/arms.csv
    {{ effect("all-mask", "nll") | signed(3) }}          a row of tables/comparisons.csv (nll, probe_accuracy or
                                                         probe_chosen): effect and interval, in nats
    {{ effect("span", "probe_accuracy") | signed(1, 100) }}    the same in points
    {{ claim("L13").measured }}  {{ claim("L13").verdict }}
    {{ reference.unigram_perplexity | number }}          evaluation.json's headline of the baseline
    {{ neighbours | number }}                            perplexity that counts of neighbours reach
    {{ study.training.steps | number(0) }}               a setting
"""
from __future__ import annotations

from study import StudyError
from study.config import Loaded


def discussion(study: Loaded, facts: dict, filters: dict) -> list[str]:
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
               "effect": _effects(facts["comparisons"], path), "reference": facts["reference"],
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


def _by(key: str, rows: list[dict], path):
    known = {row[key]: row for row in rows}

    def look(name: str) -> dict:
        if name not in known:
            raise StudyError(f"{path}: there is no {'arm' if key == 'arm' else 'claim'} {name} in this report")
        return known[name]
    return look


def _effects(rows: list[dict], path):
    known = {(row["treatment"], row["metric"]): row for row in rows}

    def look(treatment: str, metric: str) -> dict:
        if (treatment, metric) not in known:
            raise StudyError(f"{path}: there is no comparison of {treatment} on {metric} in this report")
        return known[treatment, metric]
    return look
