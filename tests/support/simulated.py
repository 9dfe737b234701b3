"""Simulated studies with known true effects: how often are outcomes false, and how often do intervals cover?

A study compares arms with a baseline and decides a claim about each difference, by the code that decides real claims.
Noise is given as the standard deviation of a difference between two arms. Effects are multiples of the margin.

Shapes: C comparisons, n seeds, D articles, N rows, K sets of true effects.
"""
from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy import special

from study.analysis.claims import DirectionClaim, EqualClaim
from study.analysis.comparisons import Comparison
from study.analysis.difference_claims import ClaimTest, decide, decide_families
from study.analysis.measures import Value
from study.analysis.statistics import UNKNOWN, Estimate, two_way_estimate
from study.analysis.verdict import DECIDED

COVERAGE = (0.93, 0.98)                     # lowest and highest that a 95 % interval should have
EFFECTS = (0.0, 0.5, 1.0)
KINDS = ("direction", "equality")
FAMILY = 10                                 # claims, alternately about a direction and about equality
FAMILY_EFFECTS = {"no effect": (0.0,), "the margin": (1.0,), "all three": EFFECTS}


@dataclass(frozen=True)
class Rate:
    """A share of simulated studies. lowest and highest: what it should be at least and at most."""
    count: int
    studies: int
    lowest: float = 0.0
    highest: float = 1.0

    @property
    def share(self) -> float:
        return self.count / self.studies

    @property
    def too_low(self) -> bool:
        """Whether it is below the lowest by more than two Monte Carlo standard errors."""
        return self.share < self.lowest - 2 * standard_error(self.lowest, self.studies)

    @property
    def too_high(self) -> bool:
        return self.share > self.highest + 2 * standard_error(self.highest, self.studies)

    @property
    def missed(self) -> bool:
        return self.too_low or self.too_high

    @property
    def percent(self) -> str:
        return f"{100 * self.share:.1f}"

    def __str__(self) -> str:
        return f"**{self.percent}**" if self.missed else self.percent


def standard_error(share: float, studies: int) -> float:
    return math.sqrt(share * (1 - share) / studies)


@dataclass(frozen=True)
class RowStudy:
    """NLL on rows of articles of unequal size.

    seed, article, interaction (of seeds and articles) and row: normal noise in nats. concentration: of the Dirichlet
    law of the articles' shares; the smaller, the less equal they are.
    """
    seeds: int = 5
    articles: int = 60
    seed: float = 0.02
    article: float = 0.06
    interaction: float = 0.03
    row: float = 0.2
    concentration: float = 1.0
    metric: ClassVar[str] = "nll"
    margin: ClassVar[float] = 0.05
    rows_per_article: ClassVar[int] = 5     # on average

    def sizes(self, rng: np.random.Generator) -> np.ndarray:
        """Rows of each article (D,): at least one."""
        shares = rng.dirichlet(np.full(self.articles, self.concentration))
        return 1 + rng.multinomial((self.rows_per_article - 1) * self.articles, shares)

    def rows(self, rng: np.random.Generator, comparisons: int = 1,
             shared: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Differences (C, n, N) per token without an effect, tokens (N,) and article (N,) of each row.

        shared: all comparisons have one baseline, whose noise they share.
        """
        sizes = self.sizes(rng)
        documents = np.repeat(np.arange(self.articles), sizes)
        tokens = rng.integers(5, 15, len(documents))

        def noise(deviation: float, *shape: int) -> np.ndarray:
            drawn = deviation * rng.standard_normal((comparisons + shared, *shape))
            return (drawn[1:] - drawn[:1]) / math.sqrt(2) if shared else drawn

        of_articles = noise(self.article, 1, self.articles) + noise(self.interaction, self.seeds, self.articles)
        rows = noise(self.row, self.seeds, len(documents)) + noise(self.seed, self.seeds, 1)
        return rows + np.repeat(of_articles, sizes, axis=2), tokens, documents

    def estimates(self, rng: np.random.Generator, effects: np.ndarray, shared: bool = False) -> list[list[Estimate]]:
        """An estimate for each of the effects (K, C). All K have the same noise.

        The number of an article is linear in the sums of its rows. So the rows of a difference give the difference of
        two arms' numbers, and an effect on every token moves the mean by as much. Rows are summed here for all runs at
        once, and each article is a row for `Value.of_rows`.
        """
        rows, tokens, documents = self.rows(rng, effects.shape[1], shared)
        starts = np.searchsorted(documents, np.arange(self.articles))
        sums, counts = np.add.reduceat(rows * tokens, starts, axis=2), np.add.reduceat(tokens, starts)
        found = [two_way_estimate(np.stack([Value.of_rows(of_run, counts, None).texts for of_run in comparison]))
                 for comparison in sums]
        return [[replace(estimate, mean=estimate.mean + self.margin * effect)
                 for estimate, effect in zip(found, true, strict=True)] for true in effects]


@dataclass(frozen=True)
class ProbeStudy:
    """Accuracy of probes that are trained on several draws of rows at each seed. Test rows are the texts.

    A test row is right if a normal number with variance 1 is below a threshold, so the true accuracy is known. seed and
    draw: noise in accuracy; draw is that of a single draw. The other parts are shares of the variance of that number.
    """
    seeds: int = 5
    seed: float = 0.006
    draw: float = 0.01
    test_rows: int = 500
    draws: int = 5
    metric: ClassVar[str] = "probe_accuracy"
    margin: ClassVar[float] = 0.02
    accuracy: ClassVar[float] = 0.75        # of the baseline
    difficulty: ClassVar[float] = 0.6       # of a row, for every arm and seed
    of_arm: ClassVar[float] = 0.05          # of a row, for one arm
    of_run: ClassVar[float] = 0.15          # of a row, for one run

    def latent(self, rng: np.random.Generator, arms: int) -> np.ndarray:
        """The normal numbers (arms, n, draws, N). A row is right where its number is below the arm's threshold."""
        slope = math.sqrt(2) * math.exp(-special.ndtri(self.accuracy)**2 / 2) / math.sqrt(2 * math.pi)
        seed, draw = (self.seed / slope)**2, (self.draw / slope)**2
        rest = 1 - seed - draw - self.difficulty - self.of_arm - self.of_run

        def noise(share: float, *shape: int) -> np.ndarray:
            return np.float32(math.sqrt(share)) * rng.standard_normal(shape, dtype=np.float32)

        rows, seeds, draws = self.test_rows, self.seeds, self.draws
        of_rows = (noise(self.difficulty, rows) + noise(self.of_arm, arms, 1, 1, rows)
                   + noise(self.of_run, arms, seeds, 1, rows))
        return (noise(rest, arms, seeds, draws, rows) + noise(draw, arms, seeds, draws, 1)) + (
            of_rows + noise(seed, arms, seeds, 1, 1))

    def texts(self, latent: np.ndarray, effect: float) -> np.ndarray:
        """Accuracy (n, N) per seed and test row of an arm with latent numbers (n, draws, N)."""
        return (latent < np.float32(special.ndtri(self.accuracy + self.margin * effect))).mean(1)

    def estimates(self, rng: np.random.Generator, effects: np.ndarray, shared: bool = False) -> list[list[Estimate]]:
        """An estimate for each of the effects (K, C). All K have the same noise."""
        comparisons = effects.shape[1]
        latent = self.latent(rng, comparisons + (1 if shared else comparisons))
        treatments, baselines = latent[:comparisons], [self.texts(arm, 0.0) for arm in latent[comparisons:]]
        known = {(number, effect): two_way_estimate(self.texts(treatments[number], effect)
                                                    - baselines[0 if shared else number])
                 for number in range(comparisons) for effect in set(effects[:, number].tolist())}
        return [[known[pair] for pair in enumerate(true)] for true in effects.tolist()]


class Quick(Estimate):
    """An estimate without the numbers that are printed beside an outcome: they decide nothing and take long."""
    def interval(self, level: float = 0.95) -> tuple[float, float]:
        return UNKNOWN

    def smallest_detectable(self, alpha: float = 0.05) -> float:
        return math.nan


class QuickTest(ClaimTest):
    """A test whose p value is computed once."""
    p = cached_property(ClaimTest.p.fget)


def claims_about(study: RowStudy | ProbeStudy) -> tuple[DirectionClaim, EqualClaim]:
    """A claim of each of KINDS: that the difference is above 0, and that it is inside the margin."""
    common = {"statement": "", "source": "", "published": "", "fidelity": "proxy", "differs": "", "treatment": "a",
              "baseline": "b", "metric": study.metric, "family": "masking", "margin": study.margin, "min_seeds": 2}
    return (DirectionClaim(**common, claim_type="direction", direction="higher"),
            EqualClaim(**common, claim_type="equal"))


def claim_test(claim: DirectionClaim | EqualClaim, estimate: Estimate) -> ClaimTest:
    quick, none = Quick(estimate.mean, estimate.error, estimate.df), np.array([])
    return QuickTest(claim, Comparison("a", "b", claim.metric, quick, quick, none, none))


def is_false(claim: DirectionClaim | EqualClaim, outcome: str, effect: float) -> bool:
    """Whether an outcome is false. effect: the true one, at least 0. One as large as the margin counts as outside."""
    outside = effect >= 1
    if isinstance(claim, EqualClaim):
        return outcome == ("holds" if outside else "reversed")
    return outcome == "reversed" or (outcome == "holds" and effect == 0) or (outcome == "no difference" and outside)


def simulate_claims(study: RowStudy | ProbeStudy, rng: np.random.Generator, studies: int) -> dict[float, dict]:
    """For each true effect, in studies with one comparison: how many intervals cover it, and the outcomes of a claim
    about the direction and of one about equality, each alone in its family."""
    found = {effect: {"covered": 0, **{kind: Counter() for kind in KINDS}} for effect in EFFECTS}
    claims, effects = claims_about(study), np.array(EFFECTS)[:, None]
    for _ in range(studies):
        for effect, (estimate,) in zip(EFFECTS, study.estimates(rng, effects), strict=True):
            low, high = estimate.interval()
            found[effect]["covered"] += low <= study.margin * effect <= high
            for kind, claim in zip(KINDS, claims, strict=True):
                p = claim_test(claim, estimate).p       # of a family of one
                found[effect][kind][decide(claim, estimate, p).outcome] += 1
    return found


def simulate_families(study: RowStudy | ProbeStudy, rng: np.random.Generator, studies: int,
                      shared: bool) -> dict[str, dict[str, int]]:
    """For each of FAMILY_EFFECTS, in studies with a family of claims: how many families have a false outcome, and how
    many claims are decided.

    shared: all claims have one baseline. either: families with a false outcome if both outcomes of a claim of equality
    count as false where the effect is exactly the margin.
    """
    found = {name: dict.fromkeys(("false", "either", "decided"), 0) for name in FAMILY_EFFECTS}
    claims = claims_about(study) * (FAMILY // 2)
    effects = np.array([[pattern[number // 2 % len(pattern)] for number in range(FAMILY)]
                        for pattern in FAMILY_EFFECTS.values()])
    for _ in range(studies):
        for name, true, estimates in zip(FAMILY_EFFECTS, effects, study.estimates(rng, effects, shared), strict=True):
            tests = {str(number): claim_test(*pair) for number, pair in enumerate(zip(claims, estimates, strict=True))}
            outcomes = [verdict.outcome for verdict in decide_families(tests, {}).values()]
            decided = [outcome in DECIDED for outcome in outcomes]
            false = any(map(is_false, claims, outcomes, true))
            found[name]["decided"] += sum(decided)
            found[name]["false"] += false
            found[name]["either"] += false or any(
                isinstance(claim, EqualClaim) and effect == 1 and was
                for claim, effect, was in zip(claims, true, decided, strict=True))
    return found
