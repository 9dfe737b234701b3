"""Published claims: the keys of experiments/claims.yaml, and the record of the claims made before the first run."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from study import StudyError
from study.analysis.decision_rules import rule_constants
from study.analysis.metrics import METRICS
from study.analysis.results import read_json
from study.config.schema import Name, Settings
from study.config.study import Study
from study.config.yaml_files import read_yaml, validated
from study.files import write_json

MetricName = Literal[tuple(METRICS)]
FAMILIES = ("masking", "objective and format", "architecture and optimisation", "probe", "calibration")
SOURCES = "sources"                         # the one key of claims.yaml that is not a claim
MinSeeds = Annotated[int, Field(ge=2)]


class Claim(Settings):
    """The fields that every claim has. They describe it and decide nothing."""
    statement: str                          # the claim, in our words
    source: str
    published: str                          # the published numbers
    expected: str = ""                      # the outcome that was predicted before any run
    scope: str = ""                         # what the test here can and cannot show
    contradicts: list[str] = []             # ids of claims that say the opposite


class ComparisonClaim(Claim):
    """A claim about the difference between two arms."""
    treatment: Name
    baseline: Name | None = None            # None: the metric is a difference already and is compared with 0
    metric: MetricName
    family: Literal[FAMILIES]
    margin: Annotated[float, Field(gt=0)]   # differences below it count as none; in the metric's unit
    min_seeds: MinSeeds


class DirectionClaim(ComparisonClaim):
    """The treatment's metric is higher (or lower) than the baseline's."""
    claim_type: Literal["direction"]
    direction: Literal["higher", "lower"]


class EqualClaim(ComparisonClaim):
    """The two arms are comparable."""
    claim_type: Literal["equal"]


class RangeClaim(Claim):
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


class PointClaim(Claim):
    """A published run gave this number."""
    claim_type: Literal["point"]
    arm: Name
    metric: MetricName
    number: float
    rounding: Annotated[float, Field(ge=0)]
    min_seeds: MinSeeds
    studies: list[Name] | None = None


class RateClaim(Claim):
    """Most runs of the treatment diverge, and more than of the baseline."""
    claim_type: Literal["rate"]
    treatment: Name
    baseline: Name
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


AnyClaim = DirectionClaim | EqualClaim | RangeClaim | PointClaim | RateClaim | ExactClaim | UntestedClaim
CLAIM_TYPES: dict[str, type[Claim]] = {
    "direction": DirectionClaim, "equal": EqualClaim, "range": RangeClaim, "point": PointClaim, "rate": RateClaim,
    "exact": ExactClaim, "out of scope": UntestedClaim, "untested": UntestedClaim}
DECIDING = ("claim_type", "treatment", "baseline", "arm", "metric", "direction", "family", "margin", "min_seeds", "low",
            "high", "number", "rounding", "studies", "check", "claimed", "actual", "tolerance")


def claims_path(study: Study) -> Path:
    return study.root / "experiments" / "claims.yaml"


def load_claims(study: Study) -> dict[str, AnyClaim]:
    """The claims by id. Raises StudyError naming the claim and the key for anything invalid, such as an unknown arm."""
    path = claims_path(study)
    claims = {name: _parse(content, f"{path}: {name}") for name, content in read_yaml(path).items() if name != SOURCES}
    for name, claim in claims.items():
        _check_references(study, claims, claim, f"{path}: {name}")
        _check_unit(claim, f"{path}: {name}")
    return claims


def _parse(content: object, where: str) -> AnyClaim:
    claim_type = content.get("claim_type") if isinstance(content, dict) else None
    if claim_type not in CLAIM_TYPES:
        raise StudyError(f"{where}: claim_type: {claim_type!r} is not one of {', '.join(CLAIM_TYPES)}")
    return validated(CLAIM_TYPES[claim_type], content, where)


def _check_references(study: Study, claims: dict[str, AnyClaim], claim: AnyClaim, where: str) -> None:
    for arm in arms_of(claim):
        if arm not in study.arms:
            raise StudyError(f"{where}: {arm} is not an arm of experiments/arms.yaml")
    for name in claim.contradicts:
        if name not in claims:
            raise StudyError(f"{where}: contradicts: there is no claim {name}")


def _check_unit(claim: AnyClaim, where: str) -> None:
    metric = getattr(claim, "metric", None)
    large = [key for key in ("margin", "low", "high") if abs(getattr(claim, key, None) or 0) > 1]
    if metric and METRICS[metric].unit == "points" and large:
        raise StudyError(f"{where}: {large[0]}: {getattr(claim, large[0]):g} is larger than 1; accuracies are shares "
                         f"here, so two points are 0.02")


def load_sources(study: Study) -> dict[str, str]:
    """The full titles of sources with a short name. Raises StudyError unless each name has a text."""
    path = claims_path(study)
    sources = read_yaml(path).get(SOURCES, {})
    if not isinstance(sources, dict) or not all(isinstance(text, str) for text in sources.values()):
        raise StudyError(f"{path}: {SOURCES}: give each short name a text")
    return sources


def arms_of(claim: AnyClaim) -> list[str]:
    """The arms that test a claim."""
    return [arm for key in ("treatment", "baseline", "arm") if (arm := getattr(claim, key, None)) is not None]


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
    content = {"claim": deciding, "rules": rule_constants(claim.claim_type, getattr(claim, "metric", None))}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def register_claims(study: Study) -> None:
    """Records the claims before the first run of a study. A claim that is changed later is exploratory.

    The record is runs/<study>/claims.json (id -> hash). It is written once.
    """
    path = study.runs / "claims.json"
    if path.exists() or any((study.cell(arm, seed) / "training.json").exists() for arm, seed in study.cells):
        return
    write_json(path, {name: claim_hash(claim) for name, claim in load_claims(study).items()}, sort_keys=True)


def exploratory(study: Study, claims: dict[str, AnyClaim]) -> set[str]:
    """Ids of the claims that are not decided as recorded before the first run.

    A claim that was added later is among them only if its arms are trained. Without a record, all claims are.
    """
    path = study.runs / "claims.json"
    if not path.exists():
        return set(claims)
    recorded, trained = read_json(path), study.settings.arms
    return {name for name, claim in claims.items() if recorded.get(name) != claim_hash(claim)
            and (name in recorded or all(arm in trained for arm in arms_of(claim)))}
