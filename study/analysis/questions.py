"""The questions of a study, by which reports group arms and claims."""
from __future__ import annotations

from study.analysis.claims import AnyClaim
from study.analysis.metrics import METRICS
from study.config.study import Study

REFERENCE = "baseline"                      # the factor of the arms that are points of reference
FEATURES, START, NOISE, OTHER = "features", "leaving the plateau", "noise", "other"
QUESTIONS: dict[str, tuple[str, ...]] = {   # in the order of the report -> factors of experiments/arms.yaml
    "mask schedule": ("mask schedule",),
    "corruption": ("corruption",),
    "rate and selection": ("mask rate", "selection", "targets"),
    "objective and format": ("objective", "input format", "length curriculum"),
    "norm and warm-up": ("norm and warm-up",),
    "optimiser and batch size": ("optimiser", "batch size"),
    "positions": ("positions",),
    "architecture": ("architecture",),
    "size": ("size",),
    FEATURES: (),
    START: ("plateau",),
    "published recipes": ("recipe",),
    OTHER: (),                              # factors that are not named here
    NOISE: (REFERENCE,)}


def question_of_factor(factor: str) -> str:
    """The question that arms of a factor belong to."""
    return next((question for question, factors in QUESTIONS.items() if factor in factors), OTHER)


def question_of(study: Study, claim: AnyClaim) -> str | None:
    """The question that a claim belongs to; None for a claim that names no arms.

    It is that of the first arm which is not a point of reference. Without such an arm, and for metrics that compare
    features of one encoder, it follows from the metric.
    """
    arms = [arm for key in ("treatment", "baseline", "arm") if (arm := getattr(claim, key, None)) is not None]
    metric = METRICS.get(getattr(claim, "metric", None))
    if not arms:
        return None
    if metric and metric.of_one_encoder:
        return FEATURES
    factors = [study.arms[arm].factor for arm in arms if study.arms[arm].factor != REFERENCE]
    if factors:
        return question_of_factor(factors[0])
    if metric and metric.defined_on_plateau and metric.unit != "points":
        return START                        # an accuracy is about features, even of an encoder on the plateau
    return NOISE if len(arms) > 1 else FEATURES
