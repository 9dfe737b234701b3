"""The metrics on which cells are compared: one record each. To add a metric, add a record to the list below."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from study.analysis import course, finetuned, further_measures, measures, stability
from study.analysis.measures import Measure, Value, difference
from study.analysis.results import CellResults, StudyResults


@dataclass(frozen=True)
class Metric:
    """A metric: its label for readers, its unit, which direction is better, and how it is measured on a cell.

    Accuracies have the unit points: they are stored as shares and shown in hundredths. Learning rates are compared by
    their log10 and shown as rates and ratios. The fields with a default say what is special about a metric.
    """
    name: str
    label: str
    unit: Literal["nats", "points", "steps", "tokens", "share", "norm", "spikes", "distance",
                  "log10 rate", "log10 ratio"]
    better: Literal["lower", "higher"]
    measure: Measure
    defined_on_plateau: bool = False        # for runs that never left the unigram plateau too: no learning gate
    on_fixed_masks: bool = False            # a mean NLL on one of the fixed sets of masks
    of_one_encoder: bool = False            # about the features of one encoder, whatever its arm
    needs_finetuning: bool = False          # only arms that are fine-tuned have it
    censored: bool = False                  # a run that never leaves the plateau has a lower bound in its place
    can_tie: bool = False                   # a count or share that can be the same at every seed
    setting: str = ""                       # the setting of `evaluation` without which it is not measured


_VISIBLE = further_measures.token_identity()
_MASK_ONLY, _MIXED = measures.nll("mask_only"), measures.nll("mixed")
_MEAN, _CLS, _UNTRAINED_CLS = (measures.last_layer(*key) for key in (("mean",), ("cls",), ("cls", "untrained")))

_FINETUNED, _SMALL = finetuned.accuracy(), finetuned.accuracy(place=finetuned.SMALLEST)
TUTORIAL_STEPS = (500, 1000, 2500, 5000)    # steps for which the tutorial states its validation loss

METRICS: dict[str, Metric] = {metric.name: metric for metric in (
    # NLL on the fixed sets of masks
    Metric("nll", "NLL on [MASK]", "nats", "lower", _MASK_ONLY, on_fixed_masks=True),
    Metric("nll_mixed", "NLL under 80/10/10 masking", "nats", "lower", _MIXED, on_fixed_masks=True),
    Metric("nll_whole_word", "NLL on whole words", "nats", "lower", measures.nll("whole_word"), on_fixed_masks=True),
    Metric("nll_span", "NLL on spans", "nats", "lower", measures.nll("span"), on_fixed_masks=True),
    Metric("nll_mask_only_40", "NLL on [MASK] at a masking rate of 40 %", "nats", "lower",
           measures.nll("mask_only_40"), on_fixed_masks=True),
    Metric("nll_pairs", "NLL on [MASK] in segment pairs", "nats", "lower", measures.nll("mask_only_pairs"),
           on_fixed_masks=True),
    Metric("nll_kept", "NLL at kept tokens", "nats", "lower", measures.nll_at("keep")),
    Metric("nll_random", "NLL at replaced tokens", "nats", "lower", measures.nll_at("random")),
    Metric("mix_gap", "NLL under 80/10/10 masking minus NLL on [MASK]", "nats", "lower",
           difference(_MIXED, _MASK_ONLY)),
    # the tutorial's own validation
    *(Metric(f"remasked_nll_{step}", f"NLL of the validation with new masks at step {step:,}", "nats", "lower",
             measures.remasked_nll(step), defined_on_plateau=True) for step in TUTORIAL_STEPS),
    # probes
    Metric("probe_accuracy", "probe accuracy", "points", "higher", measures.probe()),
    Metric("probe_last_layer", "probe accuracy at the last layer", "points", "higher", measures.last_layer()),
    Metric("probe_cls", "probe accuracy on [CLS]", "points", "higher", _CLS),
    Metric("probe_gain", "probe accuracy minus that of the untrained encoder", "points", "higher",
           difference(measures.probe(), measures.probe(encoder="untrained"))),
    Metric("probe_cls_gain", "probe accuracy on [CLS] minus that of the untrained encoder", "points", "higher",
           difference(_CLS, _UNTRAINED_CLS)),
    Metric("mean_over_cls", "probe accuracy by mean pooling minus that by [CLS]", "points", "higher",
           difference(_MEAN, _CLS), of_one_encoder=True),
    Metric("cosine_mean_over_cls", "accuracy of the nearest neighbour by cosine and mean pooling minus that by [CLS]",
           "points", "higher", difference(measures.last_layer("cosine-mean"), measures.last_layer("cosine-cls")),
           of_one_encoder=True),
    Metric("over_tfidf", "probe accuracy minus that of TF-IDF", "points", "higher", measures.over_tfidf,
           of_one_encoder=True),
    Metric("probe_untrained_cls", "probe accuracy on [CLS] of the untrained encoder", "points", "higher",
           _UNTRAINED_CLS),
    Metric("penultimate_over_last", "probe accuracy at the penultimate layer minus that at the last", "points",
           "higher", measures.penultimate_over_last, of_one_encoder=True),
    Metric("selectivity", "probe accuracy minus that on shuffled labels", "points", "higher", measures.selectivity,
           of_one_encoder=True),
    Metric("tutorial_probe", "accuracy of the tutorial's probe", "points", "higher",
           measures.tutorial_probe("trained"), defined_on_plateau=True),
    Metric("tutorial_untrained", "accuracy of the tutorial's probe on the untrained encoder", "points", "higher",
           measures.tutorial_probe("untrained"), defined_on_plateau=True),
    Metric("tutorial_gain", "accuracy of the tutorial's probe minus that on the untrained encoder", "points", "higher",
           difference(measures.tutorial_probe("trained"), measures.tutorial_probe("untrained")),
           defined_on_plateau=True),
    Metric("plane_share", "between-class share of variance on the [CLS] plane, trained minus untrained", "share",
           "higher", measures.plane_share, of_one_encoder=True),
    # fine-tuning
    Metric("finetuned_accuracy", "fine-tuned accuracy", "points", "higher", _FINETUNED, needs_finetuning=True),
    Metric("finetuned_small", "fine-tuned accuracy with the fewest rows", "points", "higher", _SMALL,
           needs_finetuning=True),
    Metric("finetuned_gain", "fine-tuned accuracy minus that of the untrained encoder", "points", "higher",
           difference(_FINETUNED, finetuned.accuracy("untrained")), of_one_encoder=True, needs_finetuning=True),
    Metric("finetuned_more_epochs", "fine-tuned accuracy with the fewest rows and more epochs minus that of the recipe",
           "points", "higher", difference(finetuned.accuracy("more-epochs", finetuned.SMALLEST), _SMALL),
           of_one_encoder=True, needs_finetuning=True),
    Metric("finetuned_no_warmup", "fine-tuned accuracy without warm-up minus that with it", "points", "higher",
           difference(finetuned.accuracy("no-warmup"), _FINETUNED), of_one_encoder=True, needs_finetuning=True),
    Metric("finetuned_frozen_small",
           "fine-tuned accuracy with the fewest rows and lower layers frozen minus that with none frozen", "points",
           "higher", difference(finetuned.accuracy("frozen-half", finetuned.SMALLEST), _SMALL),
           of_one_encoder=True, needs_finetuning=True),
    Metric("finetuned_rate", "chosen learning rate of fine-tuning", "log10 rate", "lower", finetuned.log_rate(),
           of_one_encoder=True, needs_finetuning=True),
    Metric("finetuned_rate_small", "ratio of the chosen learning rates, fewest rows to most", "log10 ratio", "lower",
           difference(finetuned.log_rate(finetuned.SMALLEST), finetuned.log_rate()),
           of_one_encoder=True, needs_finetuning=True),
    Metric("finetuned_spread_small",
           "standard deviation over fine-tuning runs with the fewest rows minus that with most", "points", "lower",
           difference(finetuned.spread(finetuned.SMALLEST), finetuned.spread()),
           of_one_encoder=True, needs_finetuning=True),
    Metric("sense_gap", "cosine distance between senses of a word minus that within a sense", "distance", "higher",
           measures.sense_gap("trained"), defined_on_plateau=True, setting="senses"),
    Metric("sense_gain", "distance between senses minus that within a sense, trained minus untrained", "distance",
           "higher", difference(measures.sense_gap("trained"), measures.sense_gap("untrained")),
           defined_on_plateau=True, setting="senses"),
    # what `evaluation` measures in addition
    Metric("token_identity_last_layer", "share of visible tokens that a linear probe reads from the last layer",
           "points", "higher", _VISIBLE, setting="token_identity"),
    Metric("token_identity_gain", "share of visible tokens read from the last layer, trained minus untrained", "points",
           "higher", difference(_VISIBLE, further_measures.token_identity("untrained")), setting="token_identity"),
    Metric("minimal_pairs_accuracy", "accuracy on minimal pairs", "points", "higher", further_measures.minimal_pairs,
           setting="minimal_pairs"),
    Metric("minimal_pairs_over_bigram", "accuracy on minimal pairs minus that of bigrams", "points", "higher",
           further_measures.minimal_pairs_over("bigram"), setting="minimal_pairs"),
    # sentence pairs
    Metric("nsp_accuracy", "next-sentence accuracy", "points", "higher", measures.sentence_accuracy("nsp")),
    Metric("sop_accuracy", "sentence-order accuracy", "points", "higher", measures.sentence_accuracy("sop")),
    Metric("nsp_over_chance", "next-sentence accuracy minus its base rate", "points", "higher",
           measures.sentence_accuracy("nsp", over_chance=True)),
    Metric("sop_over_chance", "sentence-order accuracy minus its base rate", "points", "higher",
           measures.sentence_accuracy("sop", over_chance=True)),
    Metric("nsp_below_ceiling", "best possible next-sentence accuracy minus that of the model", "points", "lower",
           measures.below_ceiling("nsp")),
    Metric("sop_below_ceiling", "best possible sentence-order accuracy minus that of the model", "points", "lower",
           measures.below_ceiling("sop")),
    # the course of training
    Metric("escape_step", "step at which the run leaves the unigram plateau", "steps", "lower", measures.escape_step,
           defined_on_plateau=True, censored=True),
    Metric("escape_tokens", "training tokens when the run leaves the unigram plateau", "tokens", "lower",
           measures.escape_tokens, defined_on_plateau=True, censored=True),
    Metric("initial_excess", "NLL before training minus ln V", "nats", "lower", measures.initial_excess,
           defined_on_plateau=True),
    Metric("running_loss", "mean training loss at masked tokens over all steps", "nats", "lower",
           course.running_loss("loss"), defined_on_plateau=True),
    Metric("running_pair_loss", "mean training loss on sentence pairs over all steps", "nats", "lower",
           course.running_loss("pair_loss"), defined_on_plateau=True),
    Metric("last_loss", "mean training loss at masked tokens over the last tenth of the steps", "nats", "lower",
           course.running_loss("loss", course.LAST), defined_on_plateau=True),
    Metric("last_pair_loss", "mean training loss on sentence pairs over the last tenth of the steps", "nats", "lower",
           course.running_loss("pair_loss", course.LAST), defined_on_plateau=True),
    Metric("largest_gradient_norm", "largest gradient norm after the warm-up", "norm", "lower",
           stability.largest_gradient_norm, defined_on_plateau=True),
    Metric("clipped_share", "share of steps after the warm-up whose gradient was clipped", "share", "lower",
           stability.clipped_share, defined_on_plateau=True),
    Metric("loss_spikes", "number of loss spikes", "spikes", "lower", stability.loss_spikes, defined_on_plateau=True,
           can_tie=True),
    Metric("loss_above_start", "share of logging intervals with a loss above the initial one", "share", "lower",
           stability.loss_above_start, defined_on_plateau=True, can_tie=True),
    Metric("diverged", "share of runs that diverged", "share", "lower", measures.diverged, defined_on_plateau=True),
)}


def cell_metric(results: StudyResults, cell: CellResults, metric: str) -> Value | None:
    """A metric of one cell; None if the cell has no such number."""
    return METRICS[metric].measure(results, cell)


def arm_metric(results: StudyResults, arm: str, metric: str) -> list[Value] | None:
    """A metric of every cell of an arm; None if a cell has no such number."""
    values = [cell_metric(results, cell, metric) for cell in results.of_arm(arm)]
    return None if any(value is None for value in values) else values


def display_unit(metric: str | None) -> tuple[float, str]:
    """The factor and the name of the unit in which readers see a metric. Both are neutral for no metric."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    return (100.0, "points") if unit == "points" else (1.0, unit)


def is_log10(unit: str) -> bool:
    """Whether numbers in this unit are logarithms, which readers see as rates and ratios."""
    return unit.startswith("log10")


def shown_power(unit: str, value: float, is_difference: bool = False) -> str:
    """The number whose log10 is `value`: a rate, or a ratio such as ×1.50. The difference of two rates is a ratio.

    unit: log10 rate or log10 ratio.
    """
    return f"{10**value:.2g}" if unit == "log10 rate" and not is_difference else f"×{10**value:.2f}"


def table_unit(metric: str | None) -> str:
    """The unit of a metric's numbers in tables, where accuracies are shares."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    return "share" if unit == "points" else unit
