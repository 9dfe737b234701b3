"""From comparisons to verdicts, by fixed rules.

    direction   the effect is beyond 0 the claimed way: supported; the other way: contradicted; inside the margin:
                equivalent; else inconclusive
    equal       inside the margin: supported; wholly outside: contradicted; else inconclusive
    range       the interval of the mean lies in the band: supported; apart from it: contradicted; else inconclusive
    point       the published number lies where one more run of ours would fall: supported, else contradicted
    rate        the exact interval of the share of the treatment's runs that diverge lies above a half, and Fisher's
                test finds more than of the baseline's: supported; it lies below a half: contradicted; else inconclusive
    exact       what running the check says

Too few seeds decide nothing, nor does an arm of which a run ended on the unigram plateau: it was stopped before it had
learnt anything but word frequencies, and where it would have come to nobody knows. A claim that cannot be decided is
not counted in its family. Tests are adjusted by Holm within a family, intervals to the level of their test.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from study.analysis import statistics
from study.analysis.claims import AnyClaim, Comparing, Equal, Exact, Point, Range, Rate, Untestable, arms_of
from study.analysis.comparisons import Comparison, compare_arms
from study.analysis.metrics import METRICS, stuck, value
from study.analysis.statistics import Estimate
from study.config.load import Study

ALPHA = 0.05
NAMES = ("supported", "contradicted", "equivalent", "inconclusive", "untested", "out of scope")


@dataclass(frozen=True)
class Verdict:
    """What came out for one claim. Numbers are in the metric's unit; NaN where there are none."""
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
    values: dict[str, list[float]] = field(default_factory=dict)    # arm -> a number a seed


def decide_all(study: Study, claims: dict[str, AnyClaim], checks: dict[str, dict]) -> dict[str, Verdict]:
    """The verdict of every claim. checks: for each exact claim, whether it holds and what was measured."""
    found: dict[str, Verdict] = {}
    tested: dict[str, Tested] = {}
    for name, claim in claims.items():
        if reason := why_untested(study, claim):
            found[name] = Verdict("out of scope" if claim.claim_type == "out of scope" else "untested", reason)
        elif isinstance(claim, Exact):
            found[name] = _exact(checks[name])
        elif isinstance(claim, Rate):
            found[name] = _rate(study, claim)
        elif isinstance(claim, (Range, Point)):
            found[name] = _number(study, claim)
        elif comparison := compare_arms(study, claim.treatment, claim.baseline, claim.metric):
            tested[name] = Tested(claim, comparison, undecidable(study, claim, comparison))
        else:
            found[name] = Verdict("untested", f"{claim.metric} was not measured in every cell of its arms")
    found |= _families(tested)
    return {name: found[name] for name in claims}


def why_untested(study: Study, claim: AnyClaim) -> str | None:
    """Why this study cannot test a claim at all; None when it can."""
    if isinstance(claim, Untestable):
        return claim.reason
    if missing := [arm for arm in arms_of(claim) if arm not in study.settings.arms]:
        return f"this study does not train {' and '.join(missing)}"
    studies = getattr(claim, "studies", None)
    if studies is not None and study.settings.name not in studies:
        return f"not at this scale: it is tested in {', '.join(studies)}"
    return None


@dataclass(frozen=True)
class Tested:
    """A claim with its comparison, and why it cannot be decided (empty when it can)."""
    claim: Comparing
    comparison: Comparison
    obstacle: str


def undecidable(study: Study, claim: Comparing, comparison: Comparison) -> str:
    """Why a comparison decides nothing whatever its numbers are; empty when it may."""
    n = len(comparison.differences)
    if n < claim.min_seeds:
        return f"too few seeds: {n}, where {claim.min_seeds} were asked for beforehand"
    if claim.metric in ("escape_step", "initial_excess"):
        return ""
    for arm in (comparison.treatment, comparison.baseline):
        if arm is not None and (count := stuck(study, arm)):
            return f"{count} of {n} runs of {arm} end on the unigram plateau: more steps are needed"
    return ""


def _families(tested: dict[str, Tested]) -> dict[str, Verdict]:
    """Verdicts of comparing claims, with Holm's procedure within each family."""
    found = {}
    for family in dict.fromkeys(one.claim.family for one in tested.values()):
        names = [name for name, one in tested.items() if one.claim.family == family]
        p = [_p(tested[name].claim, tested[name].comparison) for name in names]
        known = [i for i, name in enumerate(names) if math.isfinite(p[i]) and not tested[name].obstacle]
        adjusted, divisors = statistics.holm([p[i] for i in known])
        at = {i: (a, d) for i, a, d in zip(known, adjusted, divisors, strict=True)}
        for i, name in enumerate(names):
            found[name] = _described(tested[name], p[i], *at.get(i, (math.nan, 1)), max(1, len(known)))
    return found


def _p(claim: Comparing, comparison: Comparison) -> float:
    estimate = comparison.estimate
    return estimate.p_equivalent(claim.margin) if isinstance(claim, Equal) else estimate.p


def _described(one: Tested, p: float, p_holm: float, divisor: int, size: int) -> Verdict:
    claim, comparison, estimate = one.claim, one.comparison, one.comparison.estimate
    n = len(comparison.differences)
    name, reason = ("inconclusive", one.obstacle) if one.obstacle else verdict_of(claim, estimate, p_holm, size)
    level = 1 - ALPHA / divisor
    if isinstance(claim, Equal):
        level = 1 - 2 * ALPHA / divisor if name == "supported" else 1 - ALPHA / size
    low, high = estimate.interval(level)
    values = {comparison.treatment: comparison.first.tolist()}
    if comparison.baseline is not None:
        values[comparison.baseline] = comparison.second.tolist()
    return Verdict(name, reason, n, estimate.mean, low, high, estimate.low, estimate.high, p, p_holm,
                   estimate.smallest_detectable(), statistics.seeds_needed(comparison.differences, claim.margin),
                   comparison.correlation, values=values)


def verdict_of(claim: Comparing, estimate: Estimate, p_holm: float, size: int = 1) -> tuple[str, str]:
    """Verdict and reason of a direction or equal claim, from its estimate alone. That no difference is contradicted is
    a test of its own, to which Holm's order of the others says nothing: it divides by the `size` of the family."""
    if not math.isfinite(p_holm):
        return "inconclusive", "no interval can be told"
    if isinstance(claim, Equal):
        low, high = estimate.interval(1 - ALPHA / size)
        if p_holm < ALPHA:
            return "supported", "the difference lies inside the margin that was stated beforehand"
        if low > claim.margin or high < -claim.margin:
            return "contradicted", "the difference is larger than the margin"
        if low > 0 or high < 0:
            return "inconclusive", "there is a difference, but whether it is larger than the margin is open"
        return "inconclusive", "the interval reaches over the margin"
    if p_holm < ALPHA:
        as_claimed = (estimate.mean > 0) == (claim.claimed == "higher")
        small = ", though by less than the margin" if abs(estimate.mean) < claim.margin else ""
        return ("supported", f"a difference the claimed way{small}") if as_claimed else \
            ("contradicted", f"a difference the other way{small}")
    if estimate.p_equivalent(claim.margin) < ALPHA:
        return "equivalent", "if there is a difference, it is inside the margin that was stated beforehand"
    return "inconclusive", "the interval holds both no difference and one beyond the margin"


def _exact(check: dict) -> Verdict:
    return Verdict("supported" if check["holds"] else "contradicted", check["reason"], measured=check["measured"])


def _number(study: Study, claim: Range | Point) -> Verdict:
    found = [value(study, claim.arm, seed, claim.metric) for seed in study.settings.seeds]
    if any(one is None for one in found):
        return Verdict("untested", f"{claim.metric} was not measured in every cell of {claim.arm}")
    values = np.array([one.cell for one in found])
    estimate, n = statistics.t_estimate(values), len(values)
    about = Verdict("inconclusive", "", n, estimate.mean, estimate.low, estimate.high, estimate.low, estimate.high,
                    values={claim.arm: values.tolist()})
    if n < claim.min_seeds:
        return replace(about, reason=f"too few seeds: {n}, where {claim.min_seeds} were asked for beforehand")
    if isinstance(claim, Point):
        low, high = statistics.prediction_interval(values)
        inside = low - claim.rounding <= claim.number <= high + claim.rounding
        reason = f"the published number lies {'' if inside else 'not '}where one more run would fall"
        return replace(about, verdict="supported" if inside else "contradicted", reason=reason, low=low, high=high)
    return replace(about, **_band(estimate, claim))


def _band(estimate: Estimate, claim: Range) -> dict[str, str]:
    low = -math.inf if claim.low is None else claim.low
    high = math.inf if claim.high is None else claim.high
    if low <= estimate.low and estimate.high <= high:
        return {"verdict": "supported", "reason": "the interval of the mean lies inside the band"}
    if estimate.low > high or estimate.high < low:
        side = "above" if estimate.low > high else "below"
        return {"verdict": "contradicted", "reason": f"the interval of the mean lies {side} the band"}
    return {"verdict": "inconclusive", "reason": "the interval of the mean crosses a border of the band"}


def _rate(study: Study, claim: Rate) -> Verdict:
    first, second = ([value(study, arm, seed, "diverged").cell for seed in study.settings.seeds]
                     for arm in (claim.treatment, claim.baseline))
    n, count, other = len(first), int(sum(first)), int(sum(second))
    low, high = statistics.rate_interval(count, n)
    p = statistics.fisher_p(count, n, other, n)
    about = Verdict("inconclusive", "", n, count / n, low, high, low, high, p, p,
                    measured=f"{count} of {n} runs diverged, of the baseline {other} of {n}",
                    values={claim.treatment: first, claim.baseline: second})
    if n < claim.min_seeds:
        return replace(about, reason=f"too few seeds: {n}, where {claim.min_seeds} were asked for beforehand")
    if low > 0.5 and p < ALPHA:
        return replace(about, verdict="supported", reason="most runs diverge, and more than of the baseline")
    if high < 0.5:
        return replace(about, verdict="contradicted", reason="fewer than half of the runs diverge")
    return replace(about, reason="the interval of the rate holds a half: six runs at least are "
                                 "needed to tell")


def unit_scale(metric: str | None) -> tuple[float, str]:
    """Factor and name of a metric's unit for readers: points are hundredths."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    return (100.0, "points") if unit == "points" else (1.0, unit)
