"""What a learning curve shows: whether a run left the unigram plateau, and how it ended.

The unigram level is the NLL of unigram frequencies on the masked validation tokens. A model at that level predicts
frequent words and uses no context.
"""
from __future__ import annotations

import math

from study.analysis.decision_rules import ESCAPE_NATS, MEMORISED
from study.analysis.results import StudyResults

FAILED = ("diverged", "overfitted")         # statuses of runs that are scored at the unigram level


def escape_step(records: list[dict], unigram_nll: float) -> int | None:
    """The first logged step whose validation NLL is clearly below the unigram level; None if there is none."""
    return next((record["step"] for record in records
                 if record.get("validation_nll", math.inf) < unigram_nll - ESCAPE_NATS), None)


def run_status(training: dict, records: list[dict], unigram_nll: float) -> str:
    """How a run ended: finished, diverged or overfitted.

    Training records every run that ends worse than a uniform guess on held-out text as diverged. Such a run counts as
    overfitted if its training loss shows that it has memorised its own text.
    """
    losses = [record["loss"] for record in records if "loss" in record]
    memorised = bool(losses) and losses[-1] is not None and losses[-1] < MEMORISED * unigram_nll
    return "overfitted" if training["status"] == "diverged" and memorised else training["status"]


def plateau_runs(results: StudyResults, arm: str) -> int:
    """Number of an arm's runs that trained to the end without leaving the unigram plateau."""
    return sum(cell.training["status"] == "finished" and cell.training["steps"] > 0
               and cell.evaluation["mask_only"] is not None and escape_step(cell.records, results.unigram_nll) is None
               for cell in results.of_arm(arm))
