"""Claims about one number: checks, bands, published points and rates. The rules are in verdicts.py."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from study.analysis import statistics
from study.analysis.claims import ExactClaim, PointClaim, RangeClaim, RateClaim, SpreadClaim
from study.analysis.comparisons import estimate_of
from study.analysis.decision_rules import ALPHA, MAJORITY
from study.analysis.escape import escapes
from study.analysis.gate import gate_verdict
from study.analysis.metrics import METRICS, arm_metric, cell_metric
from study.analysis.reasons import Flag
from study.analysis.results import StudyResults
from study.analysis.statistics import Estimate
from study.analysis.variance import deviation_interval
from study.analysis.verdict import Verdict, because, not_measured, too_few


def decide_exact(claim: ExactClaim, checks: dict[str, dict]) -> Verdict:
    """The verdict of a check of code, or of a claim that is held against a document."""
    if claim.check:
        outcome = checks[claim.check]
        return Verdict("holds" if outcome["holds"] else "reversed", outcome["reason"],
                       measured=outcome["measured"])
    if isinstance(claim.claimed, str) or isinstance(claim.actual, str):
        holds = claim.claimed == claim.actual
    else:
        holds = abs(claim.claimed - claim.actual) <= (claim.tolerance or 0.0)
    claimed, actual = (f"{value:g}" if isinstance(value, float) else value for value in (claim.claimed, claim.actual))
    return Verdict("holds" if holds else "reversed", f"claimed: {claimed}; actual: {actual} ({claim.evidence})",
                   measured=f"{claimed} against {actual}")


def decide_number(results: StudyResults, claim: RangeClaim | PointClaim) -> Verdict:
    """The verdict on a band or a published number, from one number per run.

    The interval of a mean takes the test rows as a sample. A run that never leaves the plateau has a lower bound of its
    escape step: its last step. With such a run, an upper limit of a band can be found to be exceeded, and all else is
    undecided.
    """
    cells, never = results.of_arm(claim.arm), 0
    if METRICS[claim.metric].censored:
        runs = escapes(results, cells)
        values, never = runs.step.astype(float), int((~runs.escaped).sum())
        if claim.metric == "escape_tokens":
            values *= [cell.training["tokens"] / max(1, cell.training["steps"]) for cell in cells]
        estimate = statistics.t_estimate(values)
    else:
        numbers = arm_metric(results, claim.arm, claim.metric)
        if numbers is None:
            return not_measured(results, [claim.arm], claim.metric)
        values = np.array([number.cell for number in numbers])
        estimate = estimate_of(numbers, values)
    n, low, high = len(values), estimate.low, estimate.high
    if n < claim.min_seeds:
        verdict = too_few(n, claim.min_seeds)
    elif failure := gate_verdict(results, [claim.arm], claim.metric):
        verdict = failure
    elif isinstance(claim, PointClaim):
        low, high = statistics.prediction_interval(values, 1 - ALPHA)
        verdict = judge_point(claim, low, high)
    else:
        verdict = judge_band(claim, estimate)
    if never and not verdict.flags & {Flag.TOO_FEW_SEEDS, Flag.ABOVE_BAND}:
        verdict = because("undecided", Flag.NEVER_ESCAPED, failing=never, n=n, arm=claim.arm)
    if never:
        verdict = replace(verdict, measured=f"{n - never} of {n} runs of {claim.arm} leave the plateau within "
                                            f"{runs.step.max():,} steps")
    return replace(verdict, n=n, effect=estimate.mean, low=low, high=high, plain_low=estimate.low,
                   plain_high=estimate.high, values={claim.arm: values.tolist()})


def decide_spread(results: StudyResults, claim: SpreadClaim) -> Verdict:
    """The verdict on how much two runs of an arm differ: the root mean square of their difference, which is the
    standard deviation times the root of 2, with its chi-squared interval."""
    numbers = arm_metric(results, claim.arm, claim.metric)
    if numbers is None:
        return not_measured(results, [claim.arm], claim.metric)
    values = np.array([number.cell for number in numbers])
    if len(values) < claim.min_seeds:
        return replace(too_few(len(values), claim.min_seeds), n=len(values), values={claim.arm: values.tolist()})
    effect, low, high = (math.sqrt(2) * value for value in deviation_interval(values, 1 - ALPHA))
    verdict = gate_verdict(results, [claim.arm], claim.metric) or judge_spread(claim, low, high)
    return replace(verdict, n=len(values), effect=effect, low=low, high=high, plain_low=low, plain_high=high,
                   values={claim.arm: values.tolist()})


def judge_spread(claim: SpreadClaim, low: float, high: float) -> Verdict:
    """The verdict of a spread claim, without its numbers, from the interval of the root mean square difference."""
    if low > claim.margin:
        return because("holds", Flag.RUNS_DIFFER)
    if high < claim.margin:
        return because("reversed", Flag.RUNS_ALIKE)
    return because("undecided", Flag.SPREAD_UNRESOLVED)


def judge_point(claim: PointClaim, low: float, high: float) -> Verdict:
    """The verdict of a point claim, without its numbers, from the interval that one more run would fall into."""
    if low - claim.rounding <= claim.number <= high + claim.rounding:
        return because("holds", Flag.LIKE_ONE_MORE_RUN)
    return because("reversed", Flag.UNLIKE_ONE_MORE_RUN)


def judge_band(claim: RangeClaim, estimate: Estimate) -> Verdict:
    """The verdict of a range claim, without its numbers, from the estimate of the mean."""
    low = -math.inf if claim.low is None else claim.low
    high = math.inf if claim.high is None else claim.high
    if not math.isfinite(estimate.error):
        return because("undecided", Flag.NO_INTERVAL)
    if low <= estimate.low and estimate.high <= high:
        return because("holds", Flag.INSIDE_BAND)
    if estimate.low > high:
        return because("reversed", Flag.ABOVE_BAND)
    if estimate.high < low:
        return because("reversed", Flag.BELOW_BAND)
    return because("undecided", Flag.CROSSES_BAND)


def decide_rate(results: StudyResults, claim: RateClaim) -> Verdict:
    """The verdict on how often the treatment's runs diverge."""
    values = {arm: _diverged(results, arm) for arm in (claim.treatment, claim.baseline)}
    count, baseline_count = (int(sum(runs)) for runs in values.values())
    n = len(results.study.settings.seeds)
    low, high = statistics.rate_interval(count, n)
    p = statistics.fisher_p(count, n, baseline_count, n)
    verdict = too_few(n, claim.min_seeds) if n < claim.min_seeds else judge_rate(low, high, p)
    return replace(verdict, n=n, effect=count / n, low=low, high=high, plain_low=low, plain_high=high, p=p,
                   p_adjusted=p, values=values,
                   measured=f"{count} of {n} runs diverged; of the baseline, {baseline_count} of {n}")


def judge_rate(low: float, high: float, p: float) -> Verdict:
    """The verdict of a rate claim, without its numbers. low, high: the interval of the rate. p: of the test that it is
    the baseline's."""
    if low > MAJORITY and p < ALPHA:
        return because("holds", Flag.MOST_RUNS_DIVERGE)
    if high < MAJORITY:
        return because("reversed", Flag.FEW_RUNS_DIVERGE)
    return because("undecided", Flag.RATE_LIKE_BASELINE if low > MAJORITY else Flag.RATE_UNRESOLVED)


def _diverged(results: StudyResults, arm: str) -> list[float]:
    return [cell_metric(results, cell, "diverged").cell for cell in results.of_arm(arm)]
