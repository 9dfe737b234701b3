"""Published claims: what experiments/claims.yaml may say, and the record of what it said when the runs began."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from study import StudyError
from study.analysis.metrics import METRICS
from study.analysis.results import read_json
from study.config.load import Study, read_yaml, validated
from study.config.schema import Name, Settings
from study.files import write_json

MetricName = Literal[tuple(METRICS)]
FAMILIES = ("masking", "objective and format", "architecture and optimisation", "probe", "calibration")
CHECKS = ("selected_share", "mix_80_10_10", "mix_overlapping", "loss_elsewhere", "masked_loss_is_full_loss",
          "perplexity_by_tokens", "padding_segment", "accumulation", "stated")


class Claim(Settings):
    """What every claim says."""
    statement: str                               # the statement, in our words
    source: str
    published: str                          # the published numbers
    expected: str                           # what was predicted before any run
    scope: str                              # what a study of this scale can and cannot say about it
    contradicts: list[str]                  # ids of claims that say the opposite


class Comparing(Claim):
    treatment: Name
    baseline: Name | None                   # null: the metric is a difference already, compared with 0
    metric: MetricName
    family: Literal[FAMILIES]
    margin: Annotated[float, Field(gt=0)]   # differences inside it count as none; in the metric's unit
    min_seeds: Annotated[int, Field(ge=2)]


class Direction(Comparing):
    """The treatment is better (or worse) than the baseline."""
    claim_type: Literal["direction"]
    claimed: Literal["higher", "lower"]     # the metric, treatment against baseline


class Equal(Comparing):
    """The two are comparable, or something is not needed."""
    claim_type: Literal["equal"]


class Range(Claim):
    """A number lies in a band."""
    claim_type: Literal["range"]
    arm: Name
    metric: MetricName
    low: float | None
    high: float | None
    min_seeds: Annotated[int, Field(ge=2)]
    studies: list[Name] | None              # studies at whose scale it can be tested; null: all

    @model_validator(mode="after")
    def _band(self):
        if (self.low is None and self.high is None) or (None not in (self.low, self.high) and self.low >= self.high):
            raise ValueError("low and high make no band")
        return self


class Point(Claim):
    """One published run came out at a number."""
    claim_type: Literal["point"]
    arm: Name
    metric: MetricName
    number: float
    rounding: Annotated[float, Field(ge=0)]
    min_seeds: Annotated[int, Field(ge=2)]
    studies: list[Name] | None


class Rate(Claim):
    """How often runs diverge: the treatment does, the baseline does not."""
    claim_type: Literal["rate"]
    treatment: Name
    baseline: Name
    min_seeds: Annotated[int, Field(ge=2)]


class Exact(Claim):
    """A property of code or arithmetic: decided by running `check` (study/checks.py)."""
    claim_type: Literal["exact"]
    check: Literal[CHECKS]
    claimed: float | str | None             # of `stated`: what is claimed, what the source itself says, and where
    found: float | str | None
    tolerance: float | None
    evidence: str | None

    @model_validator(mode="after")
    def _stated(self):
        given = [x is not None for x in (self.claimed, self.found, self.evidence)]
        if not all(given) if self.check == "stated" else any(given):
            raise ValueError("claimed, found and evidence belong to check: stated, and to no other")
        return self


class Untestable(Claim):
    """A study of this kind cannot test it."""
    claim_type: Literal["out of scope", "untested"]   # never, or not with what the harness measures so far
    reason: str


AnyClaim = Annotated[Direction | Equal | Range | Point | Rate | Exact | Untestable, Field(discriminator="claim_type")]
_KINDS: dict[str, type[Claim]] = {"direction": Direction, "equal": Equal, "range": Range, "point": Point, "rate": Rate,
                                  "exact": Exact, "out of scope": Untestable, "untested": Untestable}


SOURCES = "sources"                         # the one key of claims.yaml that is no claim


def claims_path(study: Study) -> Path:
    return study.root / "experiments" / "claims.yaml"


def load_claims(study: Study) -> dict[str, Claim]:
    """The claims by id. Raises StudyError naming the claim and the key for anything that does not fit, such as an
    unknown arm, metric or claim."""
    path = claims_path(study)
    claims = {}
    for name, content in read_yaml(path).items():
        if name == SOURCES:
            continue
        where = f"{path}: {name}"
        kind = content.get("claim_type") if isinstance(content, dict) else None
        if kind not in _KINDS:
            raise StudyError(f"{where}: claim_type: {kind!r} is none of {', '.join(_KINDS)}")
        claims[name] = validated(_KINDS[kind], content, where)
    for name, claim in claims.items():
        for arm in arms_of(claim):
            if arm not in study.arms:
                raise StudyError(f"{path}: {name}: {arm} is no arm of experiments/arms.yaml")
        unit = METRICS[claim.metric].unit if getattr(claim, "metric", None) else ""
        large = [key for key in ("margin", "low", "high") if abs(getattr(claim, key, None) or 0) > 1]
        if unit == "points" and large:
            raise StudyError(f"{path}: {name}: {large[0]}: {getattr(claim, large[0]):g} is more than all; accuracies "
                             "are shares here, two points are 0.02")
        for other in claim.contradicts:
            if other not in claims:
                raise StudyError(f"{path}: {name}: contradicts: there is no claim {other}")
    return claims


def load_sources(study: Study) -> dict[str, str]:
    """What the short names of sources stand for. Raises StudyError for anything but names with texts."""
    path = claims_path(study)
    found = read_yaml(path).get(SOURCES, {})
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise StudyError(f"{path}: {SOURCES}: write a text beside each short name")
    return found


def arms_of(claim: Claim) -> list[str]:
    """The arms that a claim is tested on."""
    return [arm for key in ("treatment", "baseline", "arm") if (arm := getattr(claim, key, None)) is not None]


def claim_hash(claim: Claim) -> str:
    """Names a claim as it is tested: what it predicts or says of its scope may be reworded, nothing else."""
    content = claim.model_dump(mode="json", exclude={"expected", "scope", "contradicts"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def register(study: Study) -> None:
    """Records, before the first run of a study, what the claims say: a claim that is changed after that is exploratory.

    The record is runs/<study>/claims.json; it is written once.
    """
    path = study.runs / "claims.json"
    if path.exists() or any((study.cell(arm, seed) / "training.json").exists() for arm, seed in study.cells):
        return
    marks = {name: claim_hash(claim) for name, claim in load_claims(study).items()}
    write_json(path, marks, sort_keys=True)


def exploratory(study: Study, claims: dict[str, Claim]) -> set[str]:
    """Ids of the claims that are not what was recorded before the first run."""
    path = study.runs / "claims.json"
    recorded = read_json(path) if path.exists() else {}
    return {name for name, claim in claims.items() if recorded.get(name) != claim_hash(claim)}
