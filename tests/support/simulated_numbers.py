"""Simulated claims about the runs of one arm (bands, published points, spreads, rates of divergence) and about escape
steps, which compare two arms by the log-rank test: how often is an outcome false?

The code that decides real claims decides these. A number of a run has a standard deviation of 1. Shapes: n seeds.
"""
from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from study.analysis import statistics
from study.analysis.claims import DirectionClaim, PointClaim, RangeClaim, SpreadClaim
from study.analysis.decision_rules import ALPHA
from study.analysis.difference_claims import decide_escape
from study.analysis.escape import Escapes, log_rank_p, restricted_estimate
from study.analysis.number_claims import judge_band, judge_point, judge_rate, judge_spread
from study.analysis.variance import deviation_interval

HEAVY = 5                                   # degrees of freedom of the law with heavy tails
DEVIATION = 0.3                             # of the logarithm of escape steps
MEDIAN = 400                                # escape step
EDGE = {"band": 0.0, "point": 0.0, "spread": 1.0, "rate": 0.5, "escape": 1.0}   # the truth where errors are likeliest
FAR = {"band": 2.0, "point": 6.0, "spread": 2.0, "rate": 0.95, "escape": 2.0}   # a truth that should be recognised
FALSE = {"point": {"reversed"}}             # false outcomes at the edge; of the other kinds, both
RIGHT = {"band": "reversed", "point": "reversed", "spread": "holds", "rate": "holds", "escape": "holds"}   # far away

_COMMON = {"statement": "", "source": "", "published": "", "fidelity": "proxy", "differs": "", "metric": "nll",
           "min_seeds": 2}
BAND = RangeClaim(**_COMMON, claim_type="range", arm="a", high=0.0)
SPREAD = SpreadClaim(**_COMMON, claim_type="spread", arm="a", margin=math.sqrt(2))
LATER = DirectionClaim(**_COMMON, claim_type="direction", treatment="a", baseline="b", family="masking", margin=50,
                       direction="higher")


@dataclass(frozen=True)
class NumberStudy:
    """Runs of one arm; for rates and escape steps also of a baseline.

    law: of the numbers of runs; escape steps are lognormal. limit: the last step of the runs, as a multiple of the
    median escape step, so that later runs are censored.
    """
    kind: Literal["band", "point", "spread", "rate", "escape"]
    seeds: int
    law: Literal["normal", "heavy tails", "skewed"] = "normal"
    limit: float = 10.0

    def numbers(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Numbers of runs (count,) with mean 0 and standard deviation 1."""
        if self.law == "heavy tails":
            return rng.standard_t(HEAVY, count) / math.sqrt(HEAVY / (HEAVY - 2))
        return rng.exponential(size=count) - 1 if self.law == "skewed" else rng.standard_normal(count)

    def escapes(self, rng: np.random.Generator, median: float) -> Escapes:
        """Runs of an arm with this median escape step."""
        steps = np.round(median * np.exp(DEVIATION * rng.standard_normal(self.seeds)))
        return Escapes(np.minimum(steps, self.limit * MEDIAN), steps <= self.limit * MEDIAN)

    def outcome(self, rng: np.random.Generator, truth: float) -> str:
        """The outcome of one study.

        truth: how far the mean is above the band; how far the published run's law is above ours; the root mean square
        difference over the margin; the rate of divergence (the baseline's is 0); the median escape step over the
        baseline's.
        """
        if self.kind == "band":
            return judge_band(BAND, statistics.t_estimate(truth + self.numbers(rng, self.seeds))).outcome
        if self.kind == "point":
            *values, published = self.numbers(rng, self.seeds + 1)
            claim = PointClaim(**_COMMON, claim_type="point", arm="a", number=published + truth, rounding=0.0)
            return judge_point(claim, *statistics.prediction_interval(np.array(values), 1 - ALPHA)).outcome
        if self.kind == "spread":
            _, low, high = deviation_interval(truth * self.numbers(rng, self.seeds), 1 - ALPHA)
            return judge_spread(SPREAD, math.sqrt(2) * low, math.sqrt(2) * high).outcome
        if self.kind == "rate":
            count = int(rng.binomial(self.seeds, truth))
            p = statistics.fisher_p(count, self.seeds, 0, self.seeds)
            return judge_rate(*statistics.rate_interval(count, self.seeds), p).outcome
        runs = [self.escapes(rng, median) for median in (truth * MEDIAN, MEDIAN)]
        return decide_escape(LATER, restricted_estimate(*runs)[-1], log_rank_p(*runs)).outcome


def simulate_numbers(study: NumberStudy, rng: np.random.Generator, studies: int) -> dict[str, dict[str, int]]:
    """Outcomes and how many studies have them, at the truth of EDGE and at that of FAR."""
    return {name: dict(Counter(study.outcome(rng, truth[study.kind]) for _ in range(studies)))
            for name, truth in (("edge", EDGE), ("far", FAR))}


def false_at_the_edge(study: NumberStudy, outcomes: dict[str, int]) -> int:
    """How many of the studies have a false outcome. outcomes: those at the truth of EDGE."""
    false = FALSE.get(study.kind, {"holds", "reversed"})
    return sum(count for outcome, count in outcomes.items() if outcome in false)
