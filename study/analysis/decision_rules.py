"""The constants of the decision rules. They are part of a claim's hash: changing one makes the claims exploratory."""
from __future__ import annotations

from study.data.plateau import ESCAPE_NATS, ESCAPE_VALIDATIONS  # noqa: F401, part of the hash

ALPHA = 0.05            # error rate of a test, divided by the number of claims of its family
RULES = 2               # raised when a rule changes that has no constant of its own
ESCAPE_BAND_RULES = 1   # of a band on escape steps: a run that never escapes has a lower bound
ALL_EQUAL_RULES = 1     # of a difference in counts: decides nothing if it is the same at every seed
NUMBER_GATE_RULES = 1   # of one arm's number: undecided if a run of the arm fails the learning gate
BAND_NOISE_RULES = 1    # of a band on an accuracy: the test rows count as a sample
TIMES_ESCAPE = 10       # a run has to train for so many times its escape step
SPIKE_NATS = 1.0        # a loss so far above the mean of the logging interval before is a spike
MAJORITY = 0.5          # rate of divergence that a rate claim must exceed
MEMORISED = 0.5         # a training loss below this share of the unigram NLL: the run has memorised its text
OVERFIT_NATS = 0.1      # a run overfits only if its validation NLL ends more than this above its lowest value

# Rules that became stricter after studies had run: when, and what. They make no claim exploratory, since all they can
# do is to leave a claim undecided. Reports of earlier registrations name them.
STRICTER = (("2026-11-27 17:17 UTC", "a test has 5 % divided by the number of claims of its family, where Holm's "
                                     "procedure gave most tests more"),)

_ESCAPE = ("ESCAPE_NATS", "ESCAPE_VALIDATIONS")
_OVERFIT = ("MEMORISED", "OVERFIT_NATS")
_GATE = (*_ESCAPE, "TIMES_ESCAPE", *_OVERFIT)
_USED_BY = {
    "direction": ("ALPHA", "RULES", *_GATE),
    "equal": ("ALPHA", "RULES", *_GATE),
    "range": ("ALPHA",),
    "point": ("ALPHA",),
    "spread": ("ALPHA",),
    "rate": ("ALPHA", "MAJORITY", *_OVERFIT),
}


def rule_constants(claim_type: str, metric: str | None = None, gated: bool = False, accuracy: bool = False,
                   can_tie: bool = False, censored: bool = False) -> dict[str, float]:
    """The constants that decide claims of a type about a metric, by name; empty if none does.

    gated: the learning gate applies to the metric. accuracy: the metric is one. can_tie, censored: the fields of the
    metric. Arms are compared on escape steps by a log-rank test, which has not changed since the first one.
    """
    used = set(_USED_BY.get(claim_type, ()))
    if metric == "loss_spikes":
        used.add("SPIKE_NATS")
    if gated and claim_type in ("range", "point", "spread"):
        used |= {"NUMBER_GATE_RULES", *_GATE}
    if accuracy and claim_type == "range":
        used.add("BAND_NOISE_RULES")
    if can_tie and claim_type in ("direction", "equal"):
        used.add("ALL_EQUAL_RULES")
    if censored:
        used = (used | set(_ESCAPE)) - {"RULES"}
        if claim_type in ("range", "point"):
            used.add("ESCAPE_BAND_RULES")
    return {name: globals()[name] for name in sorted(used)}
