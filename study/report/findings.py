"""The findings of a study in plain sentences, for its report and for the project's README."""
from __future__ import annotations

import math

from study.analysis.claims import FIDELITIES
from study.analysis.ladder import best_count_model, read_ladder
from study.analysis.results import StudyResults
from study.report.claims import outcome_counts, published_tests
from study.report.factors import fails_gate
from study.report.formatting import counts, number, percent, signed, span
from study.report.overview import REFERENCE
from study.report.plateau import escape_findings


def findings(results: StudyResults, facts: dict) -> list[str]:
    """At most five sentences: perplexity, strongest effects, probe, A/A control, outcomes of the claims. In a study
    whose runs end after they have left the plateau, one sentence per arm says when that was."""
    training = facts["study"].training
    if training.stop_after_escape is not None:
        return escape_findings(facts["frames"]["escape"], training.steps)
    sentences = [_perplexity(results, facts), _extremes(results, facts), _probe(results, facts), _control(facts),
                 _outcomes(facts)]
    return [sentence for sentence in sentences if sentence]


def _outcomes(facts: dict) -> str:
    tested = published_tests(facts["claims"])
    if not tested:
        return ""
    model, training = facts["study"].model, facts["study"].training
    literal = sum(row["fidelity"] == FIDELITIES[0] for row in tested)
    recipe = f"{literal or 'none'} of them with the source's own recipe"
    layers = f"{model.num_hidden_layers} layer{'s' if model.num_hidden_layers != 1 else ''}"
    return (f"At this scale ({layers} of width {model.hidden_size}, {training.steps:,} steps), the training runs test "
            f"{len(tested)} published claims, {recipe}: {counts(outcome_counts(tested))}.")


def _baseline(results: StudyResults, facts: dict) -> dict:
    return next(arm for arm in facts["arms"] if arm["arm"] == results.study.settings.baseline)


def _perplexity(results: StudyResults, facts: dict) -> str:
    baseline, reference = _baseline(results, facts), facts["reference"]
    interval = span(baseline["perplexity_low"], baseline["perplexity_high"])
    perplexity = f"{number(baseline['perplexity_mean'])} {interval}".strip()
    counted = best_count_model(read_ladder(facts["data"]["references"], "test"))
    distance = baseline["nll_mean"] - counted.nll
    text = (f"The baseline, {baseline['arm']}, reaches perplexity {perplexity} on [MASK]; unigram frequencies reach "
            f"{number(reference['unigram_perplexity'])} and the best count model ({counted.label}) "
            f"{number(counted.perplexity)}, {abs(distance):.2f} nats {'above' if distance < 0 else 'below'} "
            "the baseline")
    if not reference["floor_perplexity"]:
        return f"{text}."
    return (f"{text}. The exact floor is {number(reference['floor_perplexity'])}: the baseline closes "
            f"{percent(baseline['share_closed_mean'])} % of the distance from unigram frequencies to floor, in nats.")


def _probe(results: StudyResults, facts: dict) -> str:
    baseline = _baseline(results, facts)
    return (f"A linear probe on its frozen vectors reaches {percent(baseline['probe_accuracy_mean'])} % accuracy on "
            f"{facts['task']} (untrained encoder: {percent(baseline['untrained_accuracy_mean'])} %; TF-IDF: "
            f"{percent(facts['levels']['tfidf']['accuracy'])} %; majority class: "
            f"{percent(facts['levels']['majority']['accuracy'])} %).")


def _extremes(results: StudyResults, facts: dict) -> str:
    """The changes to the baseline that reduced and increased NLL on [MASK] most, among those whose interval excludes
    zero and whose arms pass the learning gate."""
    study = results.study
    changes = [row for row in facts["comparisons"] if row["metric"] == "nll" and math.isfinite(row["low"])
               and row["baseline"] == study.settings.baseline and study.arms[row["treatment"]].factor != REFERENCE]
    if not changes:
        return ""
    clear = [row for row in changes if (row["low"] > 0 or row["high"] < 0) and not fails_gate(row)]
    best, worst = (pick(clear, key=lambda row: row["effect"], default=None) for pick in (min, max))
    parts = [f"{row['treatment']} {verb} NLL on [MASK] most ({signed(row)} nats)"
             for row, verb, sign in ((best, "reduces", -1), (worst, "increases", 1))
             if row and sign * row["effect"] > 0]
    gated = sum(fails_gate(row) for row in changes)
    total = f"{len(changes)} change{'s' if len(changes) != 1 else ''} to the baseline"
    excluded = (f"{len(changes) - gated} can be compared with it: the runs of the other{'s' if gated != 1 else ''} "
                "learnt too little. Of the comparable ones, ") if gated else ""
    strongest = " and ".join(parts) or "none has an interval for NLL on [MASK] that excludes zero"
    return f"Of {total}, {excluded}{strongest}."


def _control(facts: dict) -> str:
    """The A/A control: the difference in NLL that the choice of seeds alone makes."""
    treatments = {row["treatment"] for row in facts["claims"] if row.get("family") == "calibration"}
    row = next((row for row in facts["comparisons"] if row["treatment"] in treatments and row["metric"] == "nll"), None)
    if row is None or not math.isfinite(row["low"]):
        return ""
    return (f"A/A control, no difference expected: {row['treatment']} and {row['baseline']} differ only in their "
            f"seeds, and their NLL on [MASK] differs by {signed(row)} nats.")
