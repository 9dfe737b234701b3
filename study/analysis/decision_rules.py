"""The constants of the decision rules. They are part of a claim's hash: changing one makes the claims exploratory."""
from __future__ import annotations

ALPHA = 0.05            # error rate of every test, adjusted by Holm within a family
ESCAPE_NATS = 0.1       # a run has left the plateau once its validation NLL is this far below the unigram level
MAJORITY = 0.5          # rate of divergence that a rate claim must exceed
MEMORISED = 0.5         # a training loss below this share of the unigram NLL: the run has memorised its text

_USED_BY = {
    "direction": ("ALPHA", "ESCAPE_NATS"),
    "equal": ("ALPHA", "ESCAPE_NATS"),
    "range": ("ALPHA",),
    "point": ("ALPHA",),
    "rate": ("ALPHA", "MAJORITY", "MEMORISED"),
}


def rule_constants(claim_type: str) -> dict[str, float]:
    """The constants that decide claims of a type, by name; empty if none does."""
    return {name: globals()[name] for name in _USED_BY.get(claim_type, ())}
