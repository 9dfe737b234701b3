"""Why a claim has its verdict: typed flags, and the sentence that readers see, made from them in one place."""
from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum, auto


class Flag(StrEnum):
    """A reason for a verdict. Reports and tables test flags, never the sentence."""
    AS_CLAIMED = auto()                     # direction claims
    OPPOSITE = auto()
    BELOW_MARGIN = auto()                   # next to one of these two
    WITHIN_MARGIN = auto()
    BEYOND_MARGIN = auto()
    MARGIN_UNRESOLVED = auto()              # a difference, of unknown size
    CROSSES_MARGIN = auto()
    IMPRECISE = auto()
    INSIDE_BAND = auto()                    # range claims
    ABOVE_BAND = auto()
    BELOW_BAND = auto()
    CROSSES_BAND = auto()
    LIKE_ONE_MORE_RUN = auto()              # point claims
    UNLIKE_ONE_MORE_RUN = auto()
    MOST_RUNS_DIVERGE = auto()              # rate claims
    FEW_RUNS_DIVERGE = auto()
    RATE_UNRESOLVED = auto()
    RATE_LIKE_BASELINE = auto()
    RUNS_DIFFER = auto()
    RUNS_ALIKE = auto()
    SPREAD_UNRESOLVED = auto()
    OWN_CONDITIONS_DISAGREE = auto()        # of a split
    SECONDARY_DISAGREES = auto()
    NOT_TOLD_APART = auto()                 # claims about escape steps
    NONE_ESCAPED = auto()
    NO_INTERVAL = auto()                    # anything that keeps a claim from being decided
    ALL_EQUAL = auto()
    DIVERGED = auto()
    TOO_FEW_SEEDS = auto()
    RUN_DIVERGED = auto()                   # of the learning gate (gate.py)
    NEVER_ESCAPED = auto()
    TRAINED_TOO_SHORT = auto()
    ABOVE_COUNT_MODEL = auto()
    CONTROL_FAILED = auto()                 # of the positive control
    NOT_MEASURED = auto()
    NOT_ASKED_FOR = auto()
    NOT_TRAINED = auto()
    NOT_FINETUNED = auto()
    OTHER_STUDIES = auto()
    ENDS_EARLY = auto()
    ROWS_TOO_SHORT = auto()


_SENTENCES = {
    Flag.AS_CLAIMED: "the difference is in the claimed direction",
    Flag.OPPOSITE: "the difference is in the opposite direction",
    Flag.BELOW_MARGIN: "but the estimate is smaller than the margin",
    Flag.WITHIN_MARGIN: "any difference is smaller than the margin set beforehand",
    Flag.BEYOND_MARGIN: "the difference is larger than the margin",
    Flag.MARGIN_UNRESOLVED: "there is a difference, but it could be smaller or larger than the margin",
    Flag.CROSSES_MARGIN: "the interval extends beyond the margin",
    Flag.IMPRECISE: "the interval includes both no difference and a difference larger than the margin",
    Flag.INSIDE_BAND: "the interval of the mean is inside the band",
    Flag.ABOVE_BAND: "the interval of the mean is above the band",
    Flag.BELOW_BAND: "the interval of the mean is below the band",
    Flag.CROSSES_BAND: "the interval of the mean crosses a limit of the band",
    Flag.LIKE_ONE_MORE_RUN: "the published number is where one more run would fall",
    Flag.UNLIKE_ONE_MORE_RUN: "the published number is outside the range where one more run would fall",
    Flag.MOST_RUNS_DIVERGE: "most runs diverge, and more than those of the baseline",
    Flag.FEW_RUNS_DIVERGE: "fewer than half of the runs diverge",
    Flag.RATE_UNRESOLVED: "the interval of the rate includes one half",
    Flag.RATE_LIKE_BASELINE: "most runs diverge, but those of the baseline may do so as often",
    Flag.NOT_TOLD_APART: "the log-rank test does not tell the two arms apart",
    Flag.NONE_ESCAPED: "no run of either arm left the unigram plateau",
    Flag.NO_INTERVAL: "no interval can be computed",
    Flag.ALL_EQUAL: "every seed gives the same number, so no interval can be computed",
    Flag.DIVERGED: "{failing} of {n} runs of {arm} diverged, and {metric} is unknown for them",
    Flag.TOO_FEW_SEEDS: "too few seeds: {n}, but the claim requires {min_seeds}",
    Flag.RUN_DIVERGED: "{failing} of {n} runs of {arm} diverged",
    Flag.NEVER_ESCAPED: "{failing} of {n} runs of {arm} never left the unigram plateau",
    Flag.TRAINED_TOO_SHORT: "{failing} of {n} runs of {arm} trained for less than {times} times the escape step "
                            "(escape at step {escape:,} of {steps:,}; it would take {needed:,} steps)",
    Flag.ABOVE_COUNT_MODEL: "{failing} of {n} runs of {arm} ended above the best count model ({measure} {nll:.2f} "
                            "against {level:.2f} nats)",
    Flag.RUNS_DIFFER: "two runs differ by more than the margin",
    Flag.RUNS_ALIKE: "two runs differ by less than the margin",
    Flag.SPREAD_UNRESOLVED: "the interval of the difference between two runs contains the margin",
    Flag.OWN_CONDITIONS_DISAGREE: "under {label} the difference has the opposite sign ({shown})",
    Flag.SECONDARY_DISAGREES: "the second metric disagrees beyond its margin ({label}: {shown})",
    Flag.CONTROL_FAILED: "the positive control failed: {arm} should exceed {above} ({label}), but the interval of its "
                         "mean is {shown}",
    Flag.NOT_MEASURED: "{metric} was not measured in every cell of its arms",
    Flag.NOT_ASKED_FOR: "this study does not measure it: evaluation.{setting} is not set",
    Flag.NOT_TRAINED: "this study does not train {arms}",
    Flag.NOT_FINETUNED: "this study does not fine-tune {arms}",
    Flag.OTHER_STUDIES: "not at this scale: it is tested in {studies}",
    Flag.ENDS_EARLY: "the runs of this study end soon after they have left the plateau",
    Flag.ROWS_TOO_SHORT: "{arm} has rows of {tokens} tokens here, but the claim requires {wanted} or more",
}


def sentence(flags: Iterable[Flag], **facts: object) -> str:
    """The flags in words; facts: the values that the sentences name."""
    return ", ".join(_SENTENCES[flag].format(**facts) for flag in sorted(flags, key=list(Flag).index))
