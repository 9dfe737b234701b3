"""The second look at a difference: under each arm's own conditions, and on a second metric.

Arms that differ in corruption or format are compared on common rows, which are like the training rows of one arm at
most. So their difference is also taken on the rows of each arm's own kind. If it changes its sign there, or if a
second metric disagrees, the outcome is a split.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from study.analysis import statistics
from study.analysis.claims import AnyClaim, ComparisonClaim, PositiveControl
from study.analysis.comparisons import Comparison, compare_arms
from study.analysis.decision_rules import ALPHA
from study.analysis.learning import on_pairs
from study.analysis.metrics import METRICS, arm_metric, display_unit, is_log10, shown_power
from study.analysis.reasons import Flag
from study.analysis.results import StudyResults
from study.analysis.statistics import Estimate
from study.config.schema import RunConfig

HIGH_RATE = 0.3         # closer to the masks at a rate of 40 % than to those at 15 %


def own_metric(config: RunConfig) -> str | None:
    """The NLL on the fixed masks that are most like an arm's own training rows; None if it predicts no [MASK]."""
    masking = config.masking
    if config.objective.token_objective != "mlm":
        return None
    if on_pairs(config):
        return "nll_pairs"
    if masking.selection in ("whole-word", "span"):
        return {"whole-word": "nll_whole_word", "span": "nll_span"}[masking.selection]
    if masking.mlm_probability >= HIGH_RATE:
        return "nll_mask_only_40"
    return "nll" if masking.mask == 1 else "nll_mixed"


def own_metrics(results: StudyResults, arms: tuple[str, ...], metric: str) -> list[str]:
    """The other metrics on which these arms are compared under their own conditions; none if they have the same."""
    if not METRICS[metric].on_fixed_masks or len(arms) < 2:
        return []
    own = [own_metric(results.of_arm(arm)[0].settings) for arm in arms]
    return [name for name in dict.fromkeys(own) if name not in (None, metric)] if len(set(own)) > 1 else []


def disagreements(results: StudyResults, claim: ComparisonClaim, comparison: Comparison,
                  alike: bool) -> Iterator[tuple[Flag, dict]]:
    """The flags of a split, each with the facts of its sentence. alike: the arms are taken to be alike on the metric of
    the claim."""
    if not alike:
        for metric in own_metrics(results, comparison.arms, claim.metric):
            other = compare_arms(results, claim.treatment, claim.baseline, metric)
            if other and other.estimate.mean * comparison.estimate.mean < 0:
                yield Flag.OWN_CONDITIONS_DISAGREE, _facts(other)
    second = claim.secondary and compare_arms(results, claim.treatment, claim.baseline, claim.secondary.metric)
    if second and abs(second.estimate.mean) > claim.secondary.margin and second.p < ALPHA and (
            alike or _better(second) != _better(comparison)):
        yield Flag.SECONDARY_DISAGREES, _facts(second)


def _better(comparison: Comparison) -> bool:
    """Whether the treatment is better than the baseline."""
    return (comparison.estimate.mean > 0) == (METRICS[comparison.metric].better == "higher")


def _facts(comparison: Comparison) -> dict[str, str]:
    return {"label": METRICS[comparison.metric].label, "shown": shown(comparison)}


def shown(comparison: Comparison) -> str:
    """The difference with its 95 % interval, in the unit that readers see."""
    (scale, unit), estimate = display_unit(comparison.metric), comparison.estimate
    numbers = estimate.mean, estimate.low, estimate.high
    if is_log10(unit):
        mean, low, high = (shown_power(unit, value, comparison.baseline is not None) for value in numbers)
        return f"{mean} [{low}, {high}]"
    mean, low, high = (f"{scale * value:+.{1 if unit == 'points' else 3}f}" for value in numbers)
    return f"{mean} {unit} [{low}, {high}]"


def control_estimate(results: StudyResults, control: PositiveControl) -> Estimate | None:
    """The mean of a positive control over seeds; None if a cell of its arm lacks the metric."""
    numbers = arm_metric(results, control.arm, control.metric)
    return None if numbers is None else statistics.t_estimate(np.array([number.cell for number in numbers]))


def evidence(results: StudyResults, claim: AnyClaim) -> dict:
    """What readers are shown beside the number that decides a claim; nothing for a claim that compares no arms.

    `beside`: the difference under the arms' own conditions and on the second metric. `control`: the positive control.
    Each has metric, effect, low and high.
    """
    if not isinstance(claim, ComparisonClaim):
        return {"beside": [], "control": None}
    arms = (claim.treatment,) if claim.baseline is None else (claim.treatment, claim.baseline)
    metrics = [("own conditions", metric) for metric in own_metrics(results, arms, claim.metric)]
    metrics += [("second metric", claim.secondary.metric)] if claim.secondary else []
    compared = [(role, metric, compare_arms(results, claim.treatment, claim.baseline, metric))
                for role, metric in metrics]
    control = claim.positive_control and control_estimate(results, claim.positive_control)
    beside = [{"role": role, **_measured(metric, other.estimate)} for role, metric, other in compared if other]
    return {"beside": beside, "control": _measured(claim.positive_control.metric, control) if control else None}


def _measured(metric: str, estimate: Estimate) -> dict:
    return {"metric": metric, "effect": estimate.mean, "low": estimate.low, "high": estimate.high}
