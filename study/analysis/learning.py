"""What the curves of a run show: when it left the unigram plateau, and how it ended.

A model on the plateau predicts frequent words and uses no context. The level of the plateau is the NLL of unigram
frequencies on the masked validation tokens. An arm is judged under its own corruption: one that never sees [MASK] in
training has no use for the NLL on [MASK], so its training loss is held against what can be known without context.

Shapes: V vocabulary.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import entr

from study.analysis.decision_rules import MEMORISED, OVERFIT_NATS
from study.analysis.ladder import best_count_model
from study.analysis.results import CellResults, StudyResults
from study.config.corruption import sees_mask
from study.config.schema import Masking, RunConfig
from study.data.plateau import escape_step

FAILED = ("diverged", "overfitted")         # statuses of runs that end worse than a uniform guess on held-out text


@dataclass(frozen=True)
class Curve:
    """A run's NLL along training and the levels that it is held against, in nats.

    points: (step, NLL) in the order of training. plateau: what can be reached without context. count_level: that of
    the best count model; infinite where no count model applies. measure: what the points are, in words. earlier: the
    curve of a branched run before its branch, if it has another measure or other levels.
    """
    points: list[tuple[int, float]]
    plateau: float
    count_level: float
    measure: str
    earlier: Curve | None = None

    @property
    def escape_step(self) -> int | None:
        """The step at which the run has left the plateau; None if it never does."""
        earlier = None if self.earlier is None else self.earlier.escape_step
        return escape_step(self.points, self.plateau) if earlier is None else earlier


def validations(records: list[dict], key: str = "validation_nll") -> list[tuple[int, float]]:
    """(step, NLL in nats) of every validation. records: those of metrics.jsonl. key: which NLL."""
    return [(record["step"], record[key]) for record in records if key in record]


def _validation_curve(results: StudyResults, records: list[dict]) -> Curve:
    """The NLL on the masked validation tokens, against unigram frequencies and the best count model there."""
    return Curve(validations(records), results.unigram_nll, results.best_count_nll, "NLL")


def training_curve(results: StudyResults, cell: CellResults) -> Curve:
    """The training loss, against levels of the arm's own corruption: that of a branched arm after its branch."""
    branch, records = cell.settings.branch, cell.records
    if branch is None:
        return _training_curve(results, records, cell.settings)
    before = [record for record in records if record["step"] <= branch.step]
    return replace(_training_curve(results, records[len(before):], cell.settings),
                   earlier=_learning_curve(results, before, branch.before))


def _training_curve(results: StudyResults, records: list[dict], config: RunConfig) -> Curve:
    """The training loss, against levels of the corruption in these settings.

    The plateau is the level of `context_free_nll`. The count model is better there by its gain over unigram
    frequencies on [MASK] times the share of tokens that are shown as [MASK] or at random: an approximation, since
    counts also help a little to recognise kept tokens. Count models read both sides, so none applies to a causal model.
    """
    masking, causal = realised(config.masking), config.objective.token_objective == "causal"
    if causal:
        masking = masking.model_copy(update={"mask": 1.0, "random": 0.0, "keep": 0.0})
    plateau = context_free_nll(results.unigram_frequencies, masking)
    gain = (1 - masking.keep) * (results.unigram_nll - results.best_count_nll)
    points = [(record["step"], record["loss"]) for record in records if record.get("loss") is not None]
    return Curve(points, plateau, math.inf if causal else plateau - gain, "training loss")


def _pairs_curve(results: StudyResults, records: list[dict]) -> Curve:
    """The NLL on the masked validation tokens of segment pairs, against unigram frequencies and the best count model
    there."""
    ladder = results.ladder("validation_pairs")
    unigram = next(rung.nll for rung in ladder if rung.name == "unigram")
    return Curve(validations(records, "own_format_nll"), unigram, best_count_model(ladder).nll, "NLL in pairs")


def learning_curve(results: StudyResults, cell: CellResults) -> Curve:
    """The curve by which a run is judged, in its own corruption and format: the training curve of arms that never see
    [MASK] in training, the NLL in pairs of arms on segment pairs, the validation curve of all others."""
    if not sees_mask(cell.settings):
        return training_curve(results, cell)
    return _learning_curve(results, cell.records, cell.settings)


def _learning_curve(results: StudyResults, records: list[dict], config: RunConfig) -> Curve:
    """The curve by which these records of a run with these settings are judged."""
    if not sees_mask(config):
        return _training_curve(results, records, config)
    return (_pairs_curve if on_pairs(config) else _validation_curve)(results, records)


def on_pairs(config: RunConfig) -> bool:
    """Whether an arm is trained on pairs of segments or sentences."""
    return config.inputs.format.endswith("-pairs")


def realised(masking: Masking) -> Masking:
    """The masking with the fractions of mask, random and keep that its draws give, by one draw."""
    if masking.draws == "one":
        return masking
    keep = masking.keep * (1 - masking.random)
    return masking.model_copy(update={"mask": 1 - masking.random - keep, "keep": keep, "draws": "one"})


def context_free_nll(frequencies: np.ndarray, masking: Masking) -> float:
    """The least NLL (nats) of a selected token that can be reached from the shown token alone.

    frequencies (V,): of the tokens, 0 for those that are never selected. It is the entropy of a token given what is
    shown in its place: H(token) + H(shown | token) - H(shown). What is shown as [MASK] adds the same to both.
    """
    masking, p = realised(masking), frequencies[frequencies > 0]
    one_random = masking.random / len(p)    # probability of each token to be shown at random
    return float(entr(p).sum() + entr(masking.keep + one_random) + (len(p) - 1) * entr(one_random)
                 - entr(masking.keep * p + one_random).sum())


def overfits(results: StudyResults, cell: CellResults) -> bool:
    """Whether a run has learnt its own rows at the cost of others.

    Its validation NLL ends more than OVERFIT_NATS above its lowest value, and its last training loss is below MEMORISED
    times the unigram level, or below the best count model's level in its own corruption.
    """
    nlls = [nll for _, nll in cell.validations]
    losses = [record["loss"] for record in cell.records if "loss" in record]
    if not nlls or nlls[-1] <= min(nlls) + OVERFIT_NATS or not losses or losses[-1] is None:
        return False
    return (losses[-1] < MEMORISED * results.unigram_nll
            or losses[-1] < training_curve(results, cell).count_level < math.inf)


def run_status(results: StudyResults, cell: CellResults) -> str:
    """How a run ended: finished, diverged or overfitted.

    Training records every run that ends worse than a uniform guess on held-out text as diverged. Such a run counts as
    overfitted if it overfits.
    """
    status = cell.training["status"]
    return "overfitted" if status == "diverged" and overfits(results, cell) else status
