"""From comparisons to verdicts, by fixed rules.

    direction   the effect differs from 0 in the claimed direction: supported; in the opposite one: contradicted; it is
                inside the margin: equivalent; else inconclusive
    equal       the effect is inside the margin: supported; wholly outside: contradicted; else inconclusive
    range       the interval of the mean is inside the band: supported; apart from it: contradicted; else inconclusive
    point       the published number is where one more of our runs would fall: supported, else contradicted
    rate        the exact interval of the share of the treatment's runs that diverge is above one half, and Fisher's
                test finds more than of the baseline's: supported; below one half: contradicted; else inconclusive
    exact       the outcome of the check, or of the comparison with the cited document

Too few seeds decide nothing. Neither does a comparison with an arm that fails the learning gate (gate.py): every run
of both arms has to train for ten times its escape step and to end below the best count model, or to overfit. A diverged
run is a result: it counts in stability claims and, at the unigram level, in comparisons of NLL. The gate does not apply
to metrics of the course of training itself. Claims that cannot be decided do not count in their family. Tests are
adjusted by Holm within a family, and intervals have the level of their test.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from study.analysis import statistics
from study.analysis.claims import (
    AnyClaim,
    ComparisonClaim,
    EqualClaim,
    ExactClaim,
    PointClaim,
    RangeClaim,
    RateClaim,
    UntestedClaim,
    arms_of,
)
from study.analysis.comparisons import Comparison, compare_arms
from study.analysis.decision_rules import ALPHA, MAJORITY
from study.analysis.gate import failed_gate
from study.analysis.metrics import METRICS, cell_metric
from study.analysis.reasons import Flag, sentence
from study.analysis.results import StudyResults
from study.analysis.statistics import Estimate
from study.config.study import Study

VERDICTS = ("supported", "contradicted", "equivalent", "inconclusive", "untested", "out of scope")


@dataclass(frozen=True)
class Verdict:
    """The outcome of one claim. Numbers are in the metric's unit, and NaN if there are none."""
    verdict: str
    reason: str
    n: int = 0
    effect: float = math.nan
    low: float = math.nan                   # at the level of the claim's test within its family
    high: float = math.nan
    plain_low: float = math.nan             # at 95 %, for this claim alone
    plain_high: float = math.nan
    p: float = math.nan
    p_holm: float = math.nan
    smallest_detectable_effect: float = math.nan
    seeds_needed: int | None = None
    correlation: float = math.nan
    measured: str = ""                      # of checks and rates: the measurement in words
    values: dict[str, list[float]] = field(default_factory=dict)    # arm -> one number per seed
    flags: frozenset[Flag] = frozenset()


def _because(verdict: str, *flags: Flag, **facts: object) -> Verdict:
    return Verdict(verdict, sentence(flags, **facts), flags=frozenset(flags))


def decide_all(results: StudyResults, claims: dict[str, AnyClaim], checks: dict[str, dict]) -> dict[str, Verdict]:
    """The verdict of every claim. checks: the outcome of each check by name (study/evaluation/exact_claims.py)."""
    verdicts: dict[str, Verdict] = {}
    tests: dict[str, ClaimTest] = {}
    for name, claim in claims.items():
        if reason := why_untested(results.study, claim):
            verdicts[name] = reason
        elif isinstance(claim, ExactClaim):
            verdicts[name] = _decide_exact(claim, checks)
        elif isinstance(claim, RateClaim):
            verdicts[name] = _decide_rate(results, claim)
        elif isinstance(claim, (RangeClaim, PointClaim)):
            verdicts[name] = _decide_number(results, claim)
        elif comparison := compare_arms(results, claim.treatment, claim.baseline, claim.metric):
            tests[name] = ClaimTest(claim, comparison, obstacle(results, claim, comparison))
        else:
            verdicts[name] = _because("untested", Flag.NOT_MEASURED, metric=claim.metric)
    verdicts |= decide_families(tests)
    return {name: verdicts[name] for name in claims}


def why_untested(study: Study, claim: AnyClaim) -> Verdict | None:
    """The verdict of a claim that this study cannot test at all; None if it can."""
    if isinstance(claim, UntestedClaim):
        return Verdict(claim.claim_type, claim.reason)
    if missing := [arm for arm in arms_of(claim) if arm not in study.settings.arms]:
        return _because("untested", Flag.NOT_TRAINED, arms=" and ".join(missing))
    studies = getattr(claim, "studies", None)
    if studies is not None and study.settings.name not in studies:
        return _because("untested", Flag.OTHER_STUDIES, studies=", ".join(studies))
    return None


# ---- claims about the difference between two arms

@dataclass(frozen=True)
class ClaimTest:
    """A claim with its comparison, and the verdict that rules out any other; None if the numbers decide."""
    claim: ComparisonClaim
    comparison: Comparison
    obstacle: Verdict | None = None


def obstacle(results: StudyResults, claim: ComparisonClaim, comparison: Comparison) -> Verdict | None:
    """The inconclusive verdict of a comparison that decides nothing, whatever its numbers are; None if it may."""
    n = len(comparison.differences)
    if n < claim.min_seeds:
        return _too_few(n, claim.min_seeds)
    if METRICS[claim.metric].defined_on_plateau:
        return None
    failure = failed_gate(results, comparison.arms)
    return failure and Verdict("inconclusive", failure.reason, flags=failure.flags)


def _too_few(n: int, min_seeds: int) -> Verdict:
    return _because("inconclusive", Flag.TOO_FEW_SEEDS, n=n, min_seeds=min_seeds)


def decide_families(tests: dict[str, ClaimTest]) -> dict[str, Verdict]:
    """Verdicts of claims that compare arms, with Holm's procedure within each family."""
    verdicts = {}
    for family in dict.fromkeys(test.claim.family for test in tests.values()):
        members = {name: test for name, test in tests.items() if test.claim.family == family}
        p = {name: _p(test) for name, test in members.items()}
        counted = [name for name, test in members.items() if math.isfinite(p[name]) and not test.obstacle]
        adjusted, divisors = statistics.holm([p[name] for name in counted])
        ranks = dict(zip(counted, zip(adjusted, divisors, strict=True), strict=True))
        for name, test in members.items():
            verdicts[name] = _decide_test(test, p[name], *ranks.get(name, (math.nan, 1)), max(1, len(counted)))
    return verdicts


def _p(test: ClaimTest) -> float:
    comparison = test.comparison
    return (comparison.estimate.p_equivalent(test.claim.margin)
            if isinstance(test.claim, EqualClaim) and comparison.survival_p is None else comparison.p)


def _decide_test(test: ClaimTest, p: float, p_holm: float, divisor: int, family_size: int) -> Verdict:
    """The verdict with its numbers; divisor: the number by which Holm's procedure divides alpha for this claim."""
    claim, comparison, estimate = test.claim, test.comparison, test.comparison.estimate
    verdict = test.obstacle or (decide_escape(claim, estimate, p_holm) if comparison.survival_p is not None else
                                decide(claim, estimate, p_holm, family_size))
    level = 1 - ALPHA / divisor
    if isinstance(claim, EqualClaim):
        level = 1 - 2 * ALPHA / divisor if verdict.verdict == "supported" else 1 - ALPHA / family_size
    low, high = estimate.interval(level)
    values = {arm: numbers.tolist()
              for arm, numbers in zip(comparison.arms, (comparison.first, comparison.second), strict=False)}
    return replace(
        verdict, n=len(comparison.differences), effect=estimate.mean, low=low, high=high, plain_low=estimate.low,
        plain_high=estimate.high, p=p, p_holm=p_holm, smallest_detectable_effect=estimate.smallest_detectable(),
        seeds_needed=statistics.seeds_needed(comparison.differences, claim.margin), correlation=comparison.correlation,
        values=values)


def decide(claim: ComparisonClaim, estimate: Estimate, p_holm: float, family_size: int = 1) -> Verdict:
    """The verdict of a direction or equal claim, without its numbers, from its estimate alone."""
    if not math.isfinite(p_holm):
        return _because("inconclusive", Flag.NO_INTERVAL)
    if isinstance(claim, EqualClaim):
        return _decide_equal(claim, estimate, p_holm, family_size)
    if p_holm < ALPHA:
        as_claimed = (estimate.mean > 0) == (claim.direction == "higher")
        flags = [Flag.AS_CLAIMED if as_claimed else Flag.OPPOSITE]
        flags += [Flag.BELOW_MARGIN] if abs(estimate.mean) < claim.margin else []
        return _because("supported" if as_claimed else "contradicted", *flags)
    if estimate.p_equivalent(claim.margin) < ALPHA:
        return _because("equivalent", Flag.WITHIN_MARGIN)
    return _because("inconclusive", Flag.IMPRECISE)


def decide_escape(claim: ComparisonClaim, estimate: Estimate, p_holm: float) -> Verdict:
    """The verdict of a claim about escape steps, from the p of the log-rank test.

    estimate: of the steps on the plateau within a limit. No claim is equivalent: runs that never leave the plateau do
    not show that two arms are alike. A difference of zero within the limit decides nothing.
    """
    if isinstance(claim, EqualClaim) or not math.isfinite(p_holm) or p_holm >= ALPHA or not estimate.mean:
        return _because("inconclusive", Flag.IMPRECISE)
    as_claimed = (estimate.mean > 0) == (claim.direction == "higher")
    return _because("supported" if as_claimed else "contradicted", Flag.AS_CLAIMED if as_claimed else Flag.OPPOSITE,
                    *([Flag.BELOW_MARGIN] if abs(estimate.mean) < claim.margin else []))


def _decide_equal(claim: EqualClaim, estimate: Estimate, p_holm: float, family_size: int) -> Verdict:
    """That two arms are not equal is a test of its own. Holm's order of the other tests does not apply to it, so its
    level is divided by the size of the family."""
    if p_holm < ALPHA:
        return _because("supported", Flag.WITHIN_MARGIN)
    low, high = estimate.interval(1 - ALPHA / family_size)
    if low > claim.margin or high < -claim.margin:
        return _because("contradicted", Flag.BEYOND_MARGIN)
    if low > 0 or high < 0:
        return _because("inconclusive", Flag.MARGIN_UNRESOLVED)
    return _because("inconclusive", Flag.CROSSES_MARGIN)


# ---- other claims

def _decide_exact(claim: ExactClaim, checks: dict[str, dict]) -> Verdict:
    if claim.check:
        outcome = checks[claim.check]
        return Verdict("supported" if outcome["holds"] else "contradicted", outcome["reason"],
                       measured=outcome["measured"])
    if isinstance(claim.claimed, str) or isinstance(claim.actual, str):
        holds = claim.claimed == claim.actual
    else:
        holds = abs(claim.claimed - claim.actual) <= (claim.tolerance or 0.0)
    claimed, actual = (f"{value:g}" if isinstance(value, float) else value for value in (claim.claimed, claim.actual))
    return Verdict("supported" if holds else "contradicted", f"claimed: {claimed}; actual: {actual} ({claim.evidence})",
                   measured=f"{claimed} against {actual}")


def _decide_number(results: StudyResults, claim: RangeClaim | PointClaim) -> Verdict:
    numbers = [cell_metric(results, cell, claim.metric) for cell in results.of_arm(claim.arm)]
    if any(number is None for number in numbers):
        return _because("untested", Flag.NOT_MEASURED, metric=claim.metric)
    values = np.array([number.cell for number in numbers])
    estimate, n = statistics.t_estimate(values), len(values)
    low, high = estimate.low, estimate.high
    if n < claim.min_seeds:
        verdict = _too_few(n, claim.min_seeds)
    elif isinstance(claim, PointClaim):
        low, high = statistics.prediction_interval(values, 1 - ALPHA)
        inside = low - claim.rounding <= claim.number <= high + claim.rounding
        verdict = (_because("supported", Flag.LIKE_ONE_MORE_RUN) if inside else
                   _because("contradicted", Flag.UNLIKE_ONE_MORE_RUN))
    else:
        verdict = decide_band(claim, estimate)
    return replace(verdict, n=n, effect=estimate.mean, low=low, high=high, plain_low=estimate.low,
                   plain_high=estimate.high, values={claim.arm: values.tolist()})


def decide_band(claim: RangeClaim, estimate: Estimate) -> Verdict:
    """The verdict of a range claim, without its numbers, from the estimate of the mean."""
    low = -math.inf if claim.low is None else claim.low
    high = math.inf if claim.high is None else claim.high
    if low <= estimate.low and estimate.high <= high:
        return _because("supported", Flag.INSIDE_BAND)
    if estimate.low > high:
        return _because("contradicted", Flag.ABOVE_BAND)
    if estimate.high < low:
        return _because("contradicted", Flag.BELOW_BAND)
    return _because("inconclusive", Flag.CROSSES_BAND)


def _decide_rate(results: StudyResults, claim: RateClaim) -> Verdict:
    values = {arm: _diverged(results, arm) for arm in (claim.treatment, claim.baseline)}
    count, baseline_count = (int(sum(runs)) for runs in values.values())
    n = len(results.study.settings.seeds)
    low, high = statistics.rate_interval(count, n)
    p = statistics.fisher_p(count, n, baseline_count, n)
    if n < claim.min_seeds:
        verdict = _too_few(n, claim.min_seeds)
    elif low > MAJORITY and p < ALPHA:
        verdict = _because("supported", Flag.MOST_RUNS_DIVERGE)
    elif high < MAJORITY:
        verdict = _because("contradicted", Flag.FEW_RUNS_DIVERGE)
    else:
        verdict = _because("inconclusive", Flag.RATE_UNRESOLVED)
    return replace(verdict, n=n, effect=count / n, low=low, high=high, plain_low=low, plain_high=high, p=p, p_holm=p,
                   measured=f"{count} of {n} runs diverged; of the baseline, {baseline_count} of {n}", values=values)


def _diverged(results: StudyResults, arm: str) -> list[float]:
    return [cell_metric(results, cell, "diverged").cell for cell in results.of_arm(arm)]
