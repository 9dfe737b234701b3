"""Claims about the difference between two arms, decided within their family. The rules are in verdicts.py."""
from __future__ import annotations

import math
from dataclasses import dataclass, replace

from study.analysis import statistics
from study.analysis.claims import ComparisonClaim, EqualClaim
from study.analysis.comparisons import Comparison
from study.analysis.conditions import control_estimate, disagreements
from study.analysis.decision_rules import ALPHA
from study.analysis.gate import gate_verdict
from study.analysis.metrics import METRICS, display_unit, is_log10, shown_power
from study.analysis.reasons import Flag, sentence
from study.analysis.results import StudyResults
from study.analysis.statistics import Estimate
from study.analysis.verdict import DECIDED, Verdict, because, too_few


@dataclass(frozen=True)
class ClaimTest:
    """A claim with its comparison, and the verdict that rules out any other; None if the numbers decide."""
    claim: ComparisonClaim
    comparison: Comparison
    obstacle: Verdict | None = None

    @property
    def p(self) -> float:
        """The smaller p value of the claim's two tests; of an escape step, that of the log-rank test."""
        if self.comparison.survival_p is not None:
            return self.comparison.survival_p
        estimate, margin = self.comparison.estimate, self.claim.margin
        other = estimate.p_beyond(margin) if isinstance(self.claim, EqualClaim) else estimate.p
        return min(estimate.p_equivalent(margin), other)


def obstacle(results: StudyResults, claim: ComparisonClaim, comparison: Comparison) -> Verdict | None:
    """The verdict of a comparison that decides nothing, whatever its numbers are; None if it may."""
    n = len(comparison.differences)
    if n < claim.min_seeds:
        return too_few(n, claim.min_seeds)
    return _failed_control(results, claim) or gate_verdict(results, comparison.arms, claim.metric)


def _failed_control(results: StudyResults, claim: ComparisonClaim) -> Verdict | None:
    """The verdict if the interval of the positive control is not above its level; None if it is, or without one."""
    control = claim.positive_control
    if control is None:
        return None
    estimate = control_estimate(results, control)
    if estimate is None:
        return because("undecided", Flag.NOT_MEASURED, metric=METRICS[control.metric].label)
    if estimate.low > control.above:
        return None
    scale, unit = display_unit(control.metric)
    if is_log10(unit):
        above, low, high = (shown_power(unit, value) for value in (control.above, estimate.low, estimate.high))
    else:
        above, low, high = (f"{scale * control.above:g} {unit}".strip(),
                            *(f"{scale * value:.3g}" for value in (estimate.low, estimate.high)))
    return because("undecided", Flag.CONTROL_FAILED, arm=control.arm, label=METRICS[control.metric].label, above=above,
                    shown=f"{low} to {high}")


def second_look(results: StudyResults, test: ClaimTest, verdict: Verdict) -> Verdict:
    """The verdict, or a split if the arms' own conditions or the second metric disagree."""
    if verdict.outcome not in DECIDED:
        return verdict
    alike = Flag.WITHIN_MARGIN in verdict.flags
    found = list(disagreements(results, test.claim, test.comparison, alike))
    if not found:
        return verdict
    reasons = [verdict.reason, *(sentence([flag], **facts) for flag, facts in found)]
    return replace(verdict, outcome="split", reason="; but ".join(reasons),
                   flags=verdict.flags | {flag for flag, _ in found})


def decide_families(tests: dict[str, ClaimTest], registered: dict[str, list[str]]) -> dict[str, Verdict]:
    """Verdicts of claims that compare arms, each tested at ALPHA divided by the number of claims of its family.

    registered: id of a claim -> the members of its family when it was registered, whatever became of them. A claim that
    was never registered is adjusted with all members.
    """
    verdicts = {}
    for name, test in tests.items():
        family = [other for other, theirs in tests.items() if theirs.claim.family == test.claim.family]
        members = registered.get(name) or list(dict.fromkeys(
            member for other in family for member in (*registered.get(other, ()), other)))
        verdicts[name] = _decide_test(test, min(1.0, len(members) * test.p), len(members))
    return verdicts


def _decide_test(test: ClaimTest, p_adjusted: float, divisor: int) -> Verdict:
    """The verdict with its numbers. divisor: the number of claims of the family, by which alpha is divided."""
    claim, comparison, estimate = test.claim, test.comparison, test.comparison.estimate
    by_t = comparison.survival_p is None    # the power of a t test says nothing of the log-rank test
    verdict = test.obstacle or (decide(claim, estimate, p_adjusted, divisor) if by_t else
                                decide_escape(claim, estimate, p_adjusted))
    alpha = ALPHA / divisor
    levels = (1 - 2 * alpha if Flag.WITHIN_MARGIN in verdict.flags else 1 - alpha, 1 - ALPHA)
    # a difference that is the same at every seed has no interval
    intervals = [statistics.UNKNOWN if estimate.error == 0 else estimate.interval(level) for level in levels]
    (low, high), (plain_low, plain_high) = intervals
    values = {arm: numbers.tolist()
              for arm, numbers in zip(comparison.arms, (comparison.first, comparison.second), strict=False)}
    return replace(
        verdict, n=len(comparison.differences), effect=estimate.mean, low=low, high=high, plain_low=plain_low,
        plain_high=plain_high, p=test.p, p_adjusted=math.nan if test.obstacle else p_adjusted,
        smallest_detectable_effect=estimate.smallest_detectable(alpha=alpha) if by_t else math.nan,
        seeds_needed=statistics.seeds_needed(estimate, claim.margin, alpha) if by_t else None,
        correlation=comparison.correlation, values=values)


def decide(claim: ComparisonClaim, estimate: Estimate, p_adjusted: float, divisor: int = 1) -> Verdict:
    """The verdict of a direction or equal claim, without its numbers, from its estimate alone.

    p_adjusted: the smaller p value of its two tests, adjusted. Only that test decides: testing both would spend the
    error rate twice. divisor: the number of claims of the family, by which alpha is divided.
    """
    if not math.isfinite(estimate.error):
        return because("undecided", Flag.NO_INTERVAL)
    if estimate.error == 0:
        return because("undecided", Flag.ALL_EQUAL)
    if isinstance(claim, EqualClaim):
        return _decide_equal(claim, estimate, p_adjusted, ALPHA / divisor)
    if p_adjusted >= ALPHA:
        return because("undecided", Flag.IMPRECISE)
    if estimate.p_equivalent(claim.margin) <= estimate.p:
        return because("no difference", Flag.WITHIN_MARGIN)
    as_claimed = (estimate.mean > 0) == (claim.direction == "higher")
    flags = [Flag.AS_CLAIMED if as_claimed else Flag.OPPOSITE]
    flags += [Flag.BELOW_MARGIN] if abs(estimate.mean) < claim.margin else []
    return because("holds" if as_claimed else "reversed", *flags)


def _decide_equal(claim: EqualClaim, estimate: Estimate, p_adjusted: float, alpha: float) -> Verdict:
    inside, outside = estimate.p_equivalent(claim.margin), estimate.p_beyond(claim.margin)
    if p_adjusted < ALPHA:
        return because("holds", Flag.WITHIN_MARGIN) if inside <= outside else because("reversed", Flag.BEYOND_MARGIN)
    return because("undecided", Flag.MARGIN_UNRESOLVED if estimate.p < alpha else Flag.CROSSES_MARGIN)


def decide_escape(claim: ComparisonClaim, estimate: Estimate, p_adjusted: float) -> Verdict:
    """The verdict of a claim about escape steps, from the p of the log-rank test.

    estimate: of the steps on the plateau within a limit. Two arms are never found alike: runs that do not leave the
    plateau cannot show it. They are found unlike if the test finds a difference and it is larger than the margin. A
    difference of zero within the limit decides nothing.
    """
    if not math.isfinite(estimate.mean):
        return because("undecided", Flag.NONE_ESCAPED)
    if not math.isfinite(p_adjusted) or p_adjusted >= ALPHA or not estimate.mean:
        return because("undecided", Flag.NOT_TOLD_APART)
    if isinstance(claim, EqualClaim):
        beyond = abs(estimate.mean) > claim.margin
        return because("reversed", Flag.BEYOND_MARGIN) if beyond else because("undecided", Flag.MARGIN_UNRESOLVED)
    as_claimed = (estimate.mean > 0) == (claim.direction == "higher")
    return because("holds" if as_claimed else "reversed", Flag.AS_CLAIMED if as_claimed else Flag.OPPOSITE,
                    *([Flag.BELOW_MARGIN] if abs(estimate.mean) < claim.margin else []))
