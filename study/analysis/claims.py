"""Published claims: the keys of experiments/claims.yaml."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from study import StudyError
from study.analysis.decision_rules import rule_constants
from study.analysis.metrics import METRICS
from study.config.schema import Name, Settings
from study.config.study import Study
from study.config.yaml_files import read_yaml, validated

MetricName = Literal[tuple(METRICS)]
FAMILIES = ("masking", "objective and format", "architecture and optimisation", "probe", "calibration",
            "fine-tuning")
SOURCES = "sources"                         # the one key of claims.yaml that is not a claim
MinSeeds = Annotated[int, Field(ge=2)]


FIDELITIES = ("same recipe", "same question", "proxy")
OWN_SOURCE = "this study"                   # the source of claims that we make ourselves, such as the A/A control


class Claim(Settings):
    """The fields that every claim has. They describe it and decide nothing."""
    statement: str                          # the claim, in our words
    source: str
    quote: str = ""                         # a few words of the source, which every published claim needs
    place: str = ""                         # where in the source they are
    unquoted: str = ""                      # in place of a quote: why the source's words cannot be quoted
    published: str                          # the published numbers
    expected: str = ""                      # the outcome that was predicted before any run
    scope: str = ""                         # what the test here can and cannot show
    contradicts: list[str] = []             # ids of claims that say the opposite


class TrainingClaim(Claim):
    """A claim that training runs decide.

    Fidelity says how close the test is to the source. `same recipe`: its architecture, inputs, objective, optimiser,
    budget and measure, perhaps on another text. `same question`: the same factor and kind of measure at another scale.
    `proxy`: another measure, such as NLL where the source fine-tunes, or a claim of our own that goes with a published
    one.
    """
    fidelity: Literal[FIDELITIES]
    differs: str                            # what differs from the source, in a sentence


class Secondary(Settings):
    """A metric that is shown beside the one that decides. Beyond its margin it may turn the outcome into a split."""
    metric: MetricName
    margin: Annotated[float, Field(gt=0)]


class PositiveControl(Settings):
    """What an arm must reach before its failure elsewhere means anything: the interval of its mean is above a number.

    A model that is trained on sentence order, say, has to solve sentence order.
    """
    arm: Name
    metric: MetricName
    above: float


class ComparisonClaim(TrainingClaim):
    """A claim about the difference between two arms."""
    treatment: Name
    baseline: Name | None = None            # None: the metric is a difference already and is compared with 0
    metric: MetricName
    family: Literal[FAMILIES]
    margin: Annotated[float, Field(gt=0)]   # differences below it count as none; in the metric's unit
    min_seeds: MinSeeds
    shortest_row: Annotated[int, Field(ge=1)] | None = None     # the fewest tokens that the treatment's rows may have
    secondary: Secondary | None = None
    positive_control: PositiveControl | None = None


class DirectionClaim(ComparisonClaim):
    """The treatment's metric is higher (or lower) than the baseline's."""
    claim_type: Literal["direction"]
    direction: Literal["higher", "lower"]


class EqualClaim(ComparisonClaim):
    """The two arms are comparable."""
    claim_type: Literal["equal"]


class RangeClaim(TrainingClaim):
    """An arm's metric is in a band."""
    claim_type: Literal["range"]
    arm: Name
    metric: MetricName
    low: float | None = None
    high: float | None = None
    min_seeds: MinSeeds
    studies: list[Name] | None = None       # the studies whose scale can test it; None: all

    @model_validator(mode="after")
    def _band(self):
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        if not bounds or bounds != sorted(set(bounds)):
            raise ValueError("low and high do not make a band")
        return self


class PointClaim(TrainingClaim):
    """A published run gave this number."""
    claim_type: Literal["point"]
    arm: Name
    metric: MetricName
    number: float
    rounding: Annotated[float, Field(ge=0)]
    min_seeds: MinSeeds
    studies: list[Name] | None = None


class RateClaim(TrainingClaim):
    """Most runs of the treatment diverge, and more than of the baseline."""
    claim_type: Literal["rate"]
    treatment: Name
    baseline: Name
    min_seeds: MinSeeds


class SpreadClaim(TrainingClaim):
    """Two runs of an arm that differ in their seeds alone differ by more than a margin (root mean square)."""
    claim_type: Literal["spread"]
    arm: Name
    metric: MetricName
    margin: Annotated[float, Field(gt=0)]
    min_seeds: MinSeeds


class ExactClaim(Claim):
    """A property of code or arithmetic.

    It is decided by running `check` (study/evaluation/exact_claims.py), or by holding `claimed` against `actual`, for
    which `evidence` names the document.
    """
    claim_type: Literal["exact"]
    check: str | None = None
    claimed: float | str | None = None
    actual: float | str | None = None
    tolerance: float | None = None
    evidence: str | None = None

    @model_validator(mode="after")
    def _decided_by(self):
        documented = [value is not None for value in (self.claimed, self.actual, self.evidence)]
        if any(documented) if self.check else not all(documented):
            raise ValueError("give either check, or all of claimed, actual and evidence")
        return self


class UntestedClaim(Claim):
    """A claim that a study of this kind cannot test, or that the harness does not measure yet (`untested`)."""
    claim_type: Literal["out of scope", "untested"]
    reason: str


AnyClaim = (DirectionClaim | EqualClaim | RangeClaim | PointClaim | RateClaim | SpreadClaim | ExactClaim
            | UntestedClaim)
CLAIM_TYPES: dict[str, type[Claim]] = {
    "direction": DirectionClaim, "equal": EqualClaim, "range": RangeClaim, "point": PointClaim, "rate": RateClaim,
    "spread": SpreadClaim,
    "exact": ExactClaim, "out of scope": UntestedClaim, "untested": UntestedClaim}
DECIDING = ("claim_type", "treatment", "baseline", "arm", "metric", "direction", "family", "margin", "min_seeds", "low",
            "high", "number", "rounding", "studies", "check", "claimed", "actual", "tolerance", "secondary",
            "positive_control", "shortest_row")


def claims_path(study: Study) -> Path:
    return study.root / "experiments" / "claims.yaml"


def load_claims(study: Study) -> dict[str, AnyClaim]:
    """The claims by id. Raises StudyError naming the claim and the key for anything invalid, such as an unknown arm."""
    path = claims_path(study)
    claims = {name: _parse(content, f"{path}: {name}") for name, content in read_yaml(path).items() if name != SOURCES}
    for name, claim in claims.items():
        _check_quotation(claim, f"{path}: {name}")
        _check_references(study, claims, claim, f"{path}: {name}")
        _check_unit(claim, f"{path}: {name}")
    return claims


def _parse(content: object, where: str) -> AnyClaim:
    claim_type = content.get("claim_type") if isinstance(content, dict) else None
    if claim_type not in CLAIM_TYPES:
        raise StudyError(f"{where}: claim_type: {claim_type!r} is not one of {', '.join(CLAIM_TYPES)}")
    return validated(CLAIM_TYPES[claim_type], content, where)


def _check_quotation(claim: AnyClaim, where: str) -> None:
    """A published claim has words of its source and their place, or the reason why not; our own claims have neither."""
    quote, place, unquoted = claim.quote.strip(), claim.place.strip(), claim.unquoted.strip()
    if claim.source == OWN_SOURCE:
        given = [key for key in ("quote", "place", "unquoted") if getattr(claim, key).strip()]
        if given:
            raise StudyError(f"{where}: {given[0]}: the source is {OWN_SOURCE}, which has no words to quote; remove "
                             f"{given[0]}, or name the source that makes the statement")
    elif quote and unquoted:
        raise StudyError(f"{where}: unquoted: the claim has a quote; remove unquoted")
    elif not quote and not unquoted:
        raise StudyError(f"{where}: quote: missing; give a few words of the source, or say under unquoted why they "
                         f"cannot be quoted")
    elif quote and not place:
        raise StudyError(f"{where}: place: missing; say where in the source the quote is")


def _check_references(study: Study, claims: dict[str, AnyClaim], claim: AnyClaim, where: str) -> None:
    for arm in arms_of(claim):
        if arm not in study.arms:
            raise StudyError(f"{where}: {arm} is not an arm of experiments/arms.yaml")
    for name in claim.contradicts:
        if name not in claims:
            raise StudyError(f"{where}: contradicts: there is no claim {name}")


def _check_unit(claim: AnyClaim, where: str) -> None:
    for part, key in ((claim, ""), (getattr(claim, "secondary", None), "secondary: "),
                      (getattr(claim, "positive_control", None), "positive_control: ")):
        metric = getattr(part, "metric", None)
        large = [name for name in ("margin", "low", "high", "above") if abs(getattr(part, name, None) or 0) > 1]
        if metric and METRICS[metric].unit == "points" and large:
            raise StudyError(f"{where}: {key}{large[0]}: {getattr(part, large[0]):g} is larger than 1; accuracies are "
                             f"shares here, so two points are 0.02")


def load_sources(study: Study) -> dict[str, str]:
    """The full titles of sources with a short name. Raises StudyError unless each name has a text."""
    path = claims_path(study)
    sources = read_yaml(path).get(SOURCES, {})
    if not isinstance(sources, dict) or not all(isinstance(text, str) for text in sources.values()):
        raise StudyError(f"{path}: {SOURCES}: give each short name a text")
    return sources


def arms_of(claim: AnyClaim) -> list[str]:
    """The arms that test a claim, with that of its positive control."""
    control = getattr(claim, "positive_control", None)
    arms = [getattr(claim, key, None) for key in ("treatment", "baseline", "arm")] + [control and control.arm]
    return list(dict.fromkeys(arm for arm in arms if arm is not None))


def fidelity_of(claim: AnyClaim) -> str | None:
    """How close the test is to the source; None for a claim that no study tests. A check of code or arithmetic tests
    what the source states."""
    return FIDELITIES[0] if isinstance(claim, ExactClaim) else getattr(claim, "fidelity", None)


def checks_of(claims: dict[str, AnyClaim]) -> list[str]:
    """The checks that decide these claims, each once."""
    names = (claim.check for claim in claims.values() if isinstance(claim, ExactClaim))
    return list(dict.fromkeys(name for name in names if name))


def claim_hash(claim: AnyClaim) -> str:
    """12 hex digits that identify how a claim is decided: its deciding fields and the constants of the decision rules.

    The wording (statement, source, published numbers, scope, evidence and so on) is left out, and so are fields that
    are None. A field added later therefore leaves the hash of older claims as it was.
    """
    deciding = claim.model_dump(mode="json", include=set(DECIDING), exclude_none=True)
    metric = METRICS.get(getattr(claim, "metric", None))
    rules = rule_constants(claim.claim_type) if metric is None else rule_constants(
        claim.claim_type, metric.name, gated=not metric.defined_on_plateau, accuracy=metric.unit == "points",
        can_tie=metric.can_tie, censored=metric.censored)
    content = {"claim": deciding, "rules": rules}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
