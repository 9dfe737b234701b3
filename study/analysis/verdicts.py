"""From comparisons to outcomes, by fixed rules.

    direction   any difference is inside the margin: no difference; else it differs from 0 in the claimed direction:
                holds; in the opposite one: reversed
    equal       any difference is inside the margin: holds; it is wholly outside: reversed
    range       the interval of the mean is inside the band: holds; apart from it: reversed
    point       the published number is where one more of our runs would fall: holds, else reversed
    rate        the exact interval of the share of the treatment's runs that diverge is above one half, and Fisher's
                test finds more than of the baseline's: holds; below one half: reversed
    spread      the root mean square difference of two runs is above the margin: holds; below it: reversed
    exact       the outcome of the check, or of the comparison with the cited document

Anything else is undecided. So is a claim with too few seeds, with an arm that fails the learning gate (gate.py), or
whose positive control fails. A difference that changes its sign under the arms' own conditions, or that a second metric
contradicts, is split (conditions.py). The learning gate does not apply to metrics of the course of training itself,
such as escape steps and divergence. A diverged run fails it; where its NLL is shown, it is at most the unigram level.

Every comparison claim of a family has two tests, that there is a difference and that it is inside the margin (or, of an
`equal` claim, inside and outside). At most one of the two null hypotheses is true. So m claims have at most m true null
hypotheses, and tests at ALPHA / m keep the rate of false outcomes at ALPHA among the claims of a family that were
registered together (Bonferroni). Holm's procedure would not: it relaxes the level after each claim that one test has
decided, although the claim's other null hypothesis is true. The members of a family are those that were registered by
the time of the claim, whatever became of their arms: claims that are added later do not change the outcome of earlier
ones. Claims that were never registered are adjusted with all others, but do not count for them.
Intervals have the level of their test.
"""
from __future__ import annotations

from study.analysis.claims import (
    AnyClaim,
    ExactClaim,
    PointClaim,
    RangeClaim,
    RateClaim,
    SpreadClaim,
    arms_of,
)
from study.analysis.comparisons import compare_arms
from study.analysis.difference_claims import ClaimTest, decide_families, obstacle, second_look
from study.analysis.number_claims import decide_exact, decide_number, decide_rate, decide_spread
from study.analysis.registration import read_registrations, registered_families
from study.analysis.results import StudyResults
from study.analysis.verdict import Verdict, not_measured, why_untested


def decide_all(results: StudyResults, claims: dict[str, AnyClaim], checks: dict[str, dict]) -> dict[str, Verdict]:
    """The verdict of every claim. checks: the outcome of each check by name (study/evaluation/exact_claims.py)."""
    verdicts: dict[str, Verdict] = {}
    tests: dict[str, ClaimTest] = {}
    for name, claim in claims.items():
        if reason := why_untested(results.study, claim):
            verdicts[name] = reason
        elif isinstance(claim, ExactClaim):
            verdicts[name] = decide_exact(claim, checks)
        elif isinstance(claim, RateClaim):
            verdicts[name] = decide_rate(results, claim)
        elif isinstance(claim, SpreadClaim):
            verdicts[name] = decide_spread(results, claim)
        elif isinstance(claim, (RangeClaim, PointClaim)):
            verdicts[name] = decide_number(results, claim)
        elif comparison := compare_arms(results, claim.treatment, claim.baseline, claim.metric):
            tests[name] = ClaimTest(claim, comparison, obstacle(results, claim, comparison))
        else:
            verdicts[name] = not_measured(results, arms_of(claim), claim.metric)
    decided = decide_families(tests, registered_families(read_registrations(results.study)))
    verdicts |= {name: second_look(results, tests[name], verdict) for name, verdict in decided.items()}
    return {name: verdicts[name] for name in claims}
