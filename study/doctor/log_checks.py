"""Findings about the run: its state, predicted tokens per step, learning rate, warm-up and length."""
from __future__ import annotations

from dataclasses import dataclass

from study.doctor.checks import Finding
from study.doctor.curve import Position
from study.doctor.lines import RowShares
from study.doctor.logs import TrainingLog

BERT_PREDICTED = 256 * 128 * 0.15           # tokens that BERT predicts per step in its rows of 128 (Devlin et al. 2019)
FEW_PREDICTED = 200
LARGER_STUDIED = 4 * 64 * 64 * 0.15         # predicted per step in reports/plateau with four times the rows
LOW_RATE, HIGH_RATE = 5e-5, 1e-2            # of BERT-sized models 1e-4 is usual; small ones take up to 5e-3
RATE_FOR_WARMUP = 5e-4                      # from here on a run without warm-up is risky
LONG_WARMUP = 0.5                           # share of the planned steps
ENDED = 0.05                                # of the largest rate: the schedule is over
FAR_BELOW = 1.0                             # nats below the best count model
RISE = 0.1                                  # nats that the evaluation loss may rise above its minimum
# reports/plateau (WikiText-2, 2 layers of width 128): training tokens until each of five runs had left the plateau.
ROTARY_TOKENS = (0.6e6, 1.0e6)
ABSOLUTE_TOKENS = (5.4e6, 6.1e6)
SHORT_RUN = 6e6                             # training tokens
PASS_BATCH_SIZE = "Pass --batch-size: rows per step over all devices, accumulation included."
LATER_LOG = "Pass the log of a later step with --log."


@dataclass(frozen=True)
class RowSettings:
    """What the user says about the run: rows per step over all devices (None: unknown), tokens per row, share that is
    selected."""
    batch_size: int | None
    max_seq_length: int
    mlm_probability: float


def check_run(position: Position | None, log: TrainingLog | None, settings: RowSettings,
              rows: RowShares | None) -> list[Finding]:
    """Findings about a run and its log; those that need a log are listed as not checked where there is none."""
    stuck = position is not None and position.state in ("plateau", "above")
    findings = [absolute_positions()] if stuck else []
    findings.append(check_batch_size(log, settings, rows, stuck))
    if log is None:
        findings.append(Finding("not checked", "learning rate, warm-up, steps", "No log was given.",
                                "Pass the log of the run with --log."))
    else:
        findings += [*check_learning_rate(log, stuck), *check_length(log, settings, stuck), *check_end(position, log)]
    if position is not None:
        findings += check_low_loss(position, settings.mlm_probability)
    return findings


def absolute_positions() -> Finding:
    """A likely cause of a long plateau, which neither a loss nor a log can show."""
    return Finding("note", "absolute positions", "In this project's study of the plateau, small encoders with learned "
                   "absolute positions stayed on it seven times as long as those with rotary positions. A loss or log "
                   "does not show which positions a model has, so it was not checked.",
                   "See docs/plateau.md. Try rotary positions (RoFormerForMaskedLM in transformers) for a few hundred "
                   "steps.")


def check_batch_size(log: TrainingLog | None, settings: RowSettings, rows: RowShares | None, stuck: bool) -> Finding:
    """Tokens that are predicted per step."""
    size = settings.batch_size or (log.batch_size if log else None)
    if size is None:
        return Finding("not checked", "predicted tokens per step", "The batch size is not known.", PASS_BATCH_SIZE)
    full = size * settings.max_seq_length * settings.mlm_probability
    detail = (f"About {full:,.0f} tokens are predicted per step: {size:,} rows x {settings.max_seq_length} tokens x "
              f"{settings.mlm_probability:.0%}, if rows are full")
    if rows is not None:
        detail += f"; {size * rows.mean * settings.mlm_probability:,.0f} if each line is a row"
    detail += f". BERT has {BERT_PREDICTED:,.0f} in its rows of 128."
    if settings.batch_size is None:
        detail += " The batch size is that of one device in the log; devices and accumulation multiply it."
    remedy = ""
    if full < FEW_PREDICTED:
        remedy = "Use more rows per step, or accumulate gradients: the gradient of so few tokens is mostly noise."
    elif stuck and full < LARGER_STUDIED:
        detail += (" In this project's study of the plateau, encoders with four times the rows per step left it after "
                   "little more than a third of the steps, which was more text.")
        remedy = "Use more rows per step, or accumulate gradients. It saves steps, but no text."
    return Finding("note" if remedy else "fine", "predicted tokens per step", detail, remedy)


def check_learning_rate(log: TrainingLog, stuck: bool) -> list[Finding]:
    """The largest learning rate, where it is, and whether the schedule has ended."""
    if not log.learning_rates:
        return [Finding("not checked", "learning rate, warm-up", f"{log.path.name} has no learning_rate.")]
    top = max(rate for _, rate in log.learning_rates)
    peak = next(step for step, rate in log.learning_rates if rate == top)
    first, (last_step, last) = log.learning_rates[0][0], log.learning_rates[-1]
    detail = f"The largest logged learning rate is {top:.2g}, at step {peak:,}."
    severity, remedy = "fine", ""
    if top > HIGH_RATE:
        severity, remedy = "note", "This is high for Adam. Try a tenth of it."
    elif _is_rising(log, peak):
        severity, detail, remedy = "not checked", _still_rising(peak, top), LATER_LOG
    elif top < LOW_RATE:
        severity, remedy = "note", "This is a rate for fine-tuning. Try 1e-4 for BERT-base, 1e-3 for small models."
    findings = [Finding(severity, "learning rate", detail, remedy), _warm_up(log, peak, first, top)]
    if stuck and last < ENDED * top:
        findings.append(Finding("note", "schedule has ended", f"At step {last_step:,} the learning rate is {last:.2g}, "
                                f"{last / top:.1%} of its maximum.", "More steps at this rate change little. Start "
                                "again with a longer schedule."))
    return findings


def _warm_up(log: TrainingLog, peak: int, first: int, top: float) -> Finding:
    if len(log.learning_rates) < 3:
        return Finding("not checked", "warm-up", f"{log.path.name} has too few learning rates.")
    planned = log.planned or log.steps
    long = peak > LONG_WARMUP * planned
    if _is_rising(log, peak) and not (log.planned and long):
        return Finding("not checked", "warm-up", _still_rising(peak, top), LATER_LOG)
    if peak == first:
        risky = top >= RATE_FOR_WARMUP
        return Finding("note" if risky else "fine", "warm-up", f"The rate is largest at the first logged step, "
                       f"{first:,}: the run has no warm-up, or it ended earlier.",
                       "Warm up over the first few percent of the steps." if risky else "")
    return Finding("note" if long else "fine", "warm-up", f"The rate rises until step {peak:,}, {peak / planned:.0%} "
                   f"of {planned:,} steps.", "Shorten the warm-up: most of the run was below the intended rate."
                   if long else "")


def _is_rising(log: TrainingLog, peak: int) -> bool:
    """Whether the largest rate is the last one, and the run may go on after it."""
    first, last = log.learning_rates[0][0], log.learning_rates[-1][0]
    return first < peak == last and (log.planned is None or log.steps < log.planned)


def _still_rising(peak: int, top: float) -> str:
    return f"The rate was still rising at the end of the log: it was {top:.2g} at step {peak:,}."


def check_length(log: TrainingLog, settings: RowSettings, stuck: bool) -> list[Finding]:
    """Whether the run was long enough to leave the plateau."""
    size = settings.batch_size or log.batch_size
    if size is None:
        return [Finding("fine", "steps", f"The log ends at step {log.steps:,}. Without the batch size this cannot be "
                        f"compared with other runs.")]
    tokens, per_device = log.steps * size * settings.max_seq_length, settings.batch_size is None
    detail = (f"The log ends at step {log.steps:,}: {'at least ' if per_device else ''}{tokens / 1e6:,.2f} million "
              f"tokens in full rows of {settings.max_seq_length}.")
    if per_device:
        detail += f" The log gives {size:,} rows per device; devices and accumulation multiply them."
    if not stuck or tokens >= SHORT_RUN:
        return [Finding("fine", "steps", detail)]
    if per_device:
        return [Finding("not checked", "steps", f"{detail} So it is not known whether the run was too short.",
                        PASS_BATCH_SIZE)]
    rotary, absolute = (f"{low / 1e6:g} to {high / 1e6:g} million" for low, high in (ROTARY_TOKENS, ABSOLUTE_TOKENS))
    return [Finding("note", "fewer steps than the escape needs", f"{detail} In this project's study of the plateau (2 "
                    f"layers of width 128, WikiText-2), runs left it after {rotary} with rotary positions and after "
                    f"{absolute} with absolute ones.",
                    "Train for longer before you judge the recipe, or use rotary positions.")]


def check_end(position: Position, log: TrainingLog) -> list[Finding]:
    """Divergence, numbers that are not finite, and an evaluation loss that rises."""
    if position.diverged is not None:
        what = ("a loss or gradient norm is not a finite number" if log.diverged is not None else
                f"the loss is above that of a uniform guess, {position.levels.uniform:.2f}")
        return [Finding("problem", "diverged", f"From step {position.diverged:,} on, {what}.",
                        "Lower the learning rate, lengthen the warm-up, clip gradients at 1.0, and use bfloat16 or "
                        "float32 instead of float16.")]
    findings = []
    if log.not_finite:
        findings.append(Finding("note", "numbers that are not finite", f"At {log.not_finite:,} of the logged steps a "
                                f"loss or gradient norm is not a finite number, but this does not last.",
                                "A few such gradient norms are usual with float16, whose loss scaling skips these "
                                "steps. Otherwise clip gradients at 1.0, or use bfloat16 or float32."))
    step, lowest = position.lowest
    if position.is_evaluation and position.last > lowest + RISE:
        findings.append(Finding("note", "evaluation loss rises", f"It was lowest at step {step:,}, {lowest:.2f}, and "
                                f"is {position.last:.2f} now.", "If the training loss still falls, the model learns "
                                "its rows by heart: use more text. If it rises too, lower the learning rate."))
    return findings


def check_low_loss(position: Position, mlm_probability: float) -> list[Finding]:
    """A loss far below the count models, or lower than any encoder of this kind is known to reach."""
    remedy = "Check a batch with --batch: labels must be -100 wherever no token was selected."
    everywhere = mlm_probability * position.levels.plateau
    if position.state == "too low":
        return [Finding("problem", "loss too low", f"The {position.measure} is {position.last:.3f}. RoBERTa-base after "
                        f"a billion words of training is at 1.35. The labels probably include tokens that the model "
                        f"can see, or it is scored on what it was trained on. With labels at every position, a model "
                        f"on the plateau has a loss near {everywhere:.2f}.", remedy)]
    if position.last < position.levels.best - FAR_BELOW:
        return [Finding("note", "far below the count models", f"The {position.measure} is "
                        f"{position.levels.best - position.last:.2f} nats below the best count model. Large encoders "
                        f"get there after long training. In a short run, or with a training loss on few rows, it may "
                        f"be another fault.", f"{remedy} Hold out text and look at its loss.")]
    return []
