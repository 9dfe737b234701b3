"""The outcome of a claim, and what it says of the claim itself."""
from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from study.analysis.claims import OWN_SOURCE, AnyClaim, UntestedClaim, arms_of, fidelity_of
from study.analysis.metrics import METRICS, Metric, cell_metric
from study.analysis.reasons import Flag, sentence
from study.analysis.results import StudyResults
from study.config.arms import resolve
from study.config.study import Study

DECIDED, NOT_TESTABLE = ("holds", "reversed", "no difference", "split"), "not testable here"
OUTCOMES = (*DECIDED, "undecided", NOT_TESTABLE)


@dataclass(frozen=True)
class Verdict:
    """The outcome of one claim. Numbers are in the metric's unit, and NaN if there are none."""
    outcome: str                            # one of OUTCOMES
    reason: str
    n: int = 0
    effect: float = math.nan
    low: float = math.nan                   # at the level of the claim's test within its family
    high: float = math.nan
    plain_low: float = math.nan             # at 95 %, for this claim alone
    plain_high: float = math.nan
    p: float = math.nan
    p_adjusted: float = math.nan
    smallest_detectable_effect: float = math.nan
    seeds_needed: int | None = None
    correlation: float = math.nan
    measured: str = ""                      # of checks and rates: the measurement in words
    values: dict[str, list[float]] = field(default_factory=dict)    # arm -> one number per seed
    flags: frozenset[Flag] = frozenset()


def because(outcome: str, *flags: Flag, **facts: object) -> Verdict:
    return Verdict(outcome, sentence(flags, **facts), flags=frozenset(flags))


def verdict_on(claim: AnyClaim, outcome: str) -> str:
    """What the outcome says of the claim itself: supported or contradicted. Empty if it is neither, if the test is not
    the source's own recipe, or if the claim is our own."""
    if claim.source == OWN_SOURCE or fidelity_of(claim) != "same recipe":
        return ""
    return {"holds": "supported", "reversed": "contradicted", "no difference": "contradicted"}.get(outcome, "")


def too_few(n: int, min_seeds: int) -> Verdict:
    """The verdict of a claim that requires more seeds than a study has."""
    return because("undecided", Flag.TOO_FEW_SEEDS, n=n, min_seeds=min_seeds)


def not_measured(results: StudyResults, arms: Iterable[str], metric: str) -> Verdict:
    """The verdict of a claim whose metric is unknown for a cell of its arms.

    A diverged run is a result, and so is one that never leaves the plateau. A claim that lacks nothing else is
    undecided; otherwise the study does not measure it.
    """
    unknown = [cell for arm in arms for cell in results.of_arm(arm) if cell_metric(results, cell, metric) is None]
    label, censored = METRICS[metric].label, METRICS[metric].censored
    if unknown and all(cell.training["status"] == "diverged" for cell in unknown):
        flag = Flag.DIVERGED
    elif unknown and censored and all(cell.training["steps"] for cell in unknown):
        flag = Flag.NEVER_ESCAPED
    else:
        return because(NOT_TESTABLE, Flag.NOT_MEASURED, metric=label)
    arm = unknown[0].arm
    return because("undecided", flag, failing=sum(cell.arm == arm for cell in unknown), n=len(results.of_arm(arm)),
                   arm=arm, metric=label)


def _why_unmeasured(study: Study, claim: AnyClaim, metric: Metric) -> Verdict | None:
    """The verdict of a claim whose metric this study does not measure; None if it does."""
    if study.settings.training.stop_after_escape is not None and not metric.defined_on_plateau:
        return because(NOT_TESTABLE, Flag.ENDS_EARLY)
    missing = [arm for arm in arms_of(claim) if arm not in study.settings.finetune.arms]
    if metric.needs_finetuning and missing:
        return because(NOT_TESTABLE, Flag.NOT_FINETUNED, arms=" and ".join(missing))
    if metric.setting and not getattr(study.settings.evaluation, metric.setting):
        return because(NOT_TESTABLE, Flag.NOT_ASKED_FOR, setting=metric.setting)
    return None


def why_untested(study: Study, claim: AnyClaim) -> Verdict | None:
    """The verdict of a claim that this study cannot test at all; None if it can."""
    if isinstance(claim, UntestedClaim):
        return Verdict(NOT_TESTABLE, claim.reason)
    if missing := [arm for arm in arms_of(claim) if arm not in study.settings.arms]:
        return because(NOT_TESTABLE, Flag.NOT_TRAINED, arms=" and ".join(missing))
    if (metric := METRICS.get(getattr(claim, "metric", None))) and (verdict := _why_unmeasured(study, claim, metric)):
        return verdict
    studies = getattr(claim, "studies", None)
    if studies is not None and study.settings.name not in studies:
        return because(NOT_TESTABLE, Flag.OTHER_STUDIES, studies=", ".join(studies))
    wanted = getattr(claim, "shortest_row", None)
    if wanted is not None and (tokens := _shortest_row(study, claim.treatment)) < wanted:
        return because(NOT_TESTABLE, Flag.ROWS_TOO_SHORT, arm=claim.treatment, tokens=tokens, wanted=wanted)
    return None


def _shortest_row(study: Study, arm: str) -> int:
    """The tokens in the arm's shortest rows: those at the start of its length curriculum, if it has one."""
    settings = resolve(study, arm)
    curriculum = settings.training.curriculum
    return round(settings.examples.max_seq_length * (curriculum.length_fraction if curriculum else 1))
