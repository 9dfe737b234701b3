"""The findings of a study in plain sentences, for its report and for the project's README.

Decided claims are told, from all questions in turn: those whose test is closest to the source first, and then those
with the largest effects against the margin that was fixed beforehand.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable

from study.analysis.claims import FIDELITIES
from study.analysis.metrics import METRICS
from study.analysis.results import StudyResults
from study.analysis.verdict import DECIDED
from study.report.claims import but_control, words
from study.report.formatting import Unit, in_unit, same_at_every_seed, slug, unit_of
from study.report.overview import where_the_baseline_stands
from study.report.plateau import escape_findings

MOST = 5                                    # findings of a report


def findings(results: StudyResults, facts: dict) -> list[dict]:
    """At most five findings: text, and of those about a claim its `claim` (id), `words` (outcome and fidelity) and
    `anchor` (of the question's section). If claims give fewer than five, the last one is where the baseline stands. A
    study whose runs end after they have left the plateau begins with when they leave it instead."""
    training = results.study.settings.training
    short, first, last = training.stop_after_escape is not None, [], []
    if short:
        first = escape_findings(facts["frames"]["escape"], training.steps, results.study.settings.baseline)
    else:
        last = [where_the_baseline_stands(results, facts["baseline"])]
    found = [{"text": sentence(row), "claim": row["id"], "anchor": slug(row["question"]), "words": words(row)}
             for row in clearest(facts["claims"], MOST - len(first))]
    first, last = ([{"text": text, "claim": None} for text in texts] for texts in (first, last))
    return [*first, *found, *last][:MOST]


def clearest(claims: list[dict], most: int = MOST) -> list[dict]:
    """The claims that are told: the first of each question, then the second of each, and so on.

    Claims that were registered come first, then those whose test is closest to the source, then those with the largest
    effects against their margins. Each comparison is told once.
    """
    decided = [row for row in but_control(claims) if row["outcome"] in DECIDED]
    decided.sort(key=lambda row: (row["exploratory"], FIDELITIES.index(row["fidelity"]), -strength(row)))
    of_question: dict[str, list[dict]] = {}
    compared: set[tuple] = set()
    for row in decided:
        if _compared(row) not in compared:
            compared.add(_compared(row))
            of_question.setdefault(row["question"], []).append(row)
    in_turn = [row for turn in itertools.zip_longest(*of_question.values()) for row in turn if row is not None]
    return sorted(in_turn[:most], key=decided.index)


def _compared(row: dict) -> tuple:
    return frozenset((row.get("treatment") or row.get("arm"), row.get("baseline"))), row.get("metric")


def strength(row: dict) -> float:
    """The size of a difference in margins; 1 for claims about one number, which have no margin."""
    return abs(row["result"]["effect"]) / row["margin"] if row.get("margin") else 1.0


def sentence(row: dict) -> str:
    """A decided claim and what was measured, in one or two sentences."""
    statement, measured = row["statement"].rstrip("."), measurement(row)
    if row["outcome"] == "reversed" and row["claim_type"] in ("range", "point"):
        return f"{_capital(measured)}. That disagrees with the claim “{statement}”."
    return _SENTENCES[row["outcome"]](statement, measured)


_SENTENCES: dict[str, Callable[[str, str], str]] = {
    "holds": lambda statement, measured: f"{statement}: {measured}.",
    "reversed": lambda statement, measured: (f"{_capital(measured)}. That is the reverse of the claim "
                                             f"“{statement}”."),
    "no difference": lambda statement, measured: (f"{_capital(measured)}, which is smaller than the margin: no "
                                                  f"difference, although the claim is “{statement}”."),
    "split": lambda statement, measured: (f"{_capital(measured)}, but another measure disagrees. So the outcome "
                                          f"of the claim “{statement}” is split.")}


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def measurement(row: dict) -> str:
    """What was measured, in words, starting with a small letter where the metric does."""
    result = row["result"]
    if result["measured"]:
        return row["measured"]
    label, unit = METRICS[row["metric"]].label, unit_of(row["metric"])
    if row["claim_type"] == "spread":
        return (f"two runs of {row['arm']} differ in {label} by {in_unit(row['metric'], result, spread=True)} (root "
                "mean square)")
    if row["claim_type"] == "point" and not same_at_every_seed(result):
        low, high = (unit.bare(result[key]) for key in ("low", "high"))
        return (f"{label} of {row['arm']} is {unit.text(result['effect'])} on average, and one more run would be "
                f"between {low} and {high}")
    if row["claim_type"] not in ("direction", "equal"):
        return f"{label} of {row['arm']} is {in_unit(row['metric'], result, signed=False)}"
    if row["baseline"] is None:
        return f"{label} is {in_unit(row['metric'], result)} for {row['treatment']}"
    return _comparison(row, label, unit)


def _comparison(row: dict, label: str, unit: Unit) -> str:
    """How an arm differs from its baseline, in words: by how much, or by which factor."""
    result, arm, baseline = row["result"], row["treatment"], row["baseline"]
    effect, bound, same = result["effect"], result.get("bound", ""), same_at_every_seed(result)
    if unit.is_log:
        factor = f"with {arm}, {label} is {unit.text(effect, '-')}"
        return (f"{factor} that with {baseline} at every seed" if same else
                f"{factor} {unit.interval(result['low'], result['high'], '-')} that with {baseline}")
    interval = "at every seed"
    if effect < 0:                          # a lower bound of a difference is an upper bound of how much lower it is
        bound = {"≥": "≤", "≤": "≥"}.get(bound, "")
    if not same:
        low, high = sorted((1 if effect >= 0 else -1) * result[key] for key in ("low", "high"))
        interval = unit.interval(low, high, bound=bound)
    size = {"≥": "at least ", "≤": "at most "}.get(bound, "") + unit.text(abs(effect))
    if row["metric"] == "escape_step":
        return (f"runs of {arm} leave the unigram plateau {size} {'later' if effect >= 0 else 'earlier'} {interval} "
                f"than runs of {baseline}")
    return f"with {arm}, {label} is {size} {'higher' if effect >= 0 else 'lower'} {interval} than with {baseline}"
