"""The part of a report that a person writes: experiments/<study>/discussion.md. Its numbers are looked up, never typed.

It has at most MOST_WORDS words: what was a surprise, what was checked, what is open. The file holds paragraphs of plain
text with `code`, lists whose items begin with "- ", `### ` headings, comments ({# ... #}, not shown) and places for
numbers:

    {{ arm("dynamic").perplexity_mean | number }}        a row of tables/arms.csv
    {{ effect("all-mask", "nll") | signed(3) }}          a row of tables/comparisons.csv (nll, probe_accuracy or
                                                         probe_last_layer): effect and interval, in nats
    {{ effect("span", "probe_accuracy") | signed(1, 100) }}    the same in points
    {{ tenth("span", 1).nll }}                           NLL on [MASK] in a tenth of the masked tokens (1: the most
                                                         frequent), in nats. Also: .difference from the arm's baseline;
                                                         .part, the contribution of this tenth to the difference over
                                                         all tokens; .rest, that of the other nine.
                                                         tenth("span", 1, "static") compares with another arm
    {{ layer("dynamic", 0) | percent }}                  accuracy of the mean-pooled probe at a layer (0: embeddings)
    {{ claim("L13").measured }}  {{ claim("L13").outcome }}
    {{ reference.unigram_perplexity | number }}          the baseline's evaluation.json, under `mask_only`
    {{ ladder("neighbours-product").perplexity | number }}      a reference on the test tokens (study/analysis/ladder.py
                                                         has the names). Also: .nll, in nats; .label
    {{ study.training.steps | number(0) }}               a setting
"""
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from study import StudyError
from study.analysis.ladder import read_ladder
from study.analysis.results import StudyResults
from study.config.study import Study
from study.report.features import probe_points
from study.report.formatting import FILTERS

MOST_WORDS = 800


def discussion(results: StudyResults, facts: dict) -> list[str]:
    """The paragraphs, lists and headings with their numbers filled in; empty if nothing was written. A list has a line
    per item.

    Raises StudyError with the line of a number that cannot be looked up, or if the file is too long.
    """
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    study, path = results.study, _path(results.study)
    if not path.exists():
        return []
    source = path.read_text(encoding="utf-8")
    if (words := count_words(source)) > MOST_WORDS:
        raise StudyError(f"{path}: {words} words; a discussion has at most {MOST_WORDS}")
    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.filters |= FILTERS
    context = {"arm": _lookup({row["arm"]: row for row in facts["arms"]}, "arm {}", path),
               "claim": _lookup({row["id"]: row for row in facts["claims"]}, "claim {}", path),
               "effect": _lookup({(row["treatment"], row["metric"]): row for row in facts["comparisons"]},
                                 "comparison of {} on {}", path),
               "tenth": _tenths(study, facts["frames"]["tokens"], path),
               "layer": _layers(facts["frames"]["probes"], path),
               "ladder": _lookup({rung.name: rung for rung in read_ladder(facts["data"]["references"], "test")},
                                 "reference {}", path),
               "reference": facts["reference"], "study": facts["study"]}
    try:
        text = environment.from_string(source).render(context)
    except StudyError:
        raise
    except Exception as error:              # the file can contain any expression
        line = f" line {error.lineno}:" if getattr(error, "lineno", None) else ""
        reason = " ".join(str(error).split())
        raise StudyError(f"{path}:{line} {reason}; study/report/discussion.py lists what can be cited") from None
    return ["\n".join(" ".join(item.split()) for item in re.split(r"\n(?=- )", part.strip()))
            for part in text.split("\n\n") if part.strip()]


def count_words(source: str) -> int:
    """The number of words of a discussion; a number that is looked up counts as one."""
    return len(re.sub(r"\{\{.*?\}\}", "number", re.sub(r"\{#.*?#\}", "", source, flags=re.S), flags=re.S).split())


def cited_claims(study: Study) -> set[str]:
    """Ids of the claims that the discussion cites."""
    path = _path(study)
    return set(re.findall(r"""claim\(["']([^"']+)""", path.read_text(encoding="utf-8"))) if path.exists() else set()


def _path(study: Study) -> Path:
    return study.folder / "discussion.md"


def _lookup(rows: dict, name: str, path: Path) -> Callable:
    """A function that returns a row by its key, one argument per {} of `name`."""
    def look_up(*key: str) -> dict:
        row = rows.get(key if len(key) > 1 else key[0])
        if row is None:
            raise StudyError(f"{path}: this report has no {name.format(*key)}")
        return row
    return look_up


def _tenths(study: Study, tokens: pd.DataFrame, path: Path) -> Callable:
    rows = list(tokens.query("group == 'decile'").itertuples())
    nll, count = ({(row.arm, int(row.part)): getattr(row, name) for row in rows} for name in ("nll", "tokens"))

    def look_up(arm: str, number: int, baseline: str | None = None) -> dict[str, float]:
        reference = baseline or study.arms[arm].baseline if arm in study.arms else None
        if (arm, number - 1) not in nll or (reference, number - 1) not in nll:
            raise StudyError(f"{path}: there is no tenth {number} of {arm} and {reference} in this report")
        tenths = [tenth for name, tenth in nll if name == arm]
        total = sum(count[arm, tenth] for tenth in tenths)
        parts = {tenth: (nll[arm, tenth] - nll[reference, tenth]) * count[arm, tenth] / total for tenth in tenths}
        return {"nll": nll[arm, number - 1], "difference": nll[arm, number - 1] - nll[reference, number - 1],
                "part": parts.pop(number - 1), "rest": sum(parts.values())}
    return look_up


def _layers(probes: pd.DataFrame, path: Path) -> Callable:
    lines = probe_points(probes)

    def look_up(arm: str, number: int) -> float:
        accuracy = dict(lines.get(arm, []))
        if number not in accuracy:
            raise StudyError(f"{path}: layer {number} of {arm} was not probed")
        return accuracy[number]
    return look_up
