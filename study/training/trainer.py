"""The training loop of one cell.

The state is the weights, the optimiser's state and `Progress`. Everything else is a function of the settings, the seed
and the step.
"""
from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from study import randomness
from study.config.corruption import sees_mask
from study.config.schema import RunConfig
from study.config.seeds import seeds_of
from study.data.batches import Batch, BatchSource, micro_batches, prefetch
from study.data.evaluation_sets import EvaluationSet
from study.data.plateau import escape_step
from study.data.prepared import prepared
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo
from study.model.attention_offsets import attention_offsets
from study.objectives import objective_of
from study.objectives.masked_lm import remasked_nll
from study.objectives.pretraining_model import new_model
from study.training.checkpoint import Progress, read_checkpoint, write_checkpoint
from study.training.interventions import check_interventions, intervene
from study.training.optimizers import Optimizers
from study.training.parallel import Processes
from study.training.schedule import Phase, learning_rate, phases, reads_short_rows, settings_at

SINGLE_PROCESS = Processes()
ATTENTION_ROWS = 64                         # validation rows whose attention is recorded


@dataclass(frozen=True)
class Data:
    """The data that every cell of a study reads."""
    train: TokenStore
    validation: EvaluationSet
    tokenizer: TokenizerInfo


def drawn_source(data: Data, seed: int, phase: Phase) -> BatchSource:
    """Returns the source that draws the rows of a phase when they are needed."""
    seeds = seeds_of(phase.config, seed)
    return BatchSource(data.train, data.tokenizer, objective_of(phase.config), seeds.order, phase.length,
                       phase.batch_size, seeds.masks)


def batch_source(data: Data, seed: int, phase: Phase) -> BatchSource:
    """Returns the source of the batches of a phase. Rows that are prepared are made now."""
    return prepared(drawn_source(data, seed, phase))


def batches(config: RunConfig, data: Data, seed: int, begin: int) -> Iterator[Batch]:
    """Yields the batches from step `begin` to the last."""
    for phase in phases(config):
        if phase.end > begin:
            shift = phase.first_batch - phase.begin
            numbers = range(max(begin, phase.begin) + shift, phase.end + shift)
            yield from prefetch(batch_source(data, seed, phase), numbers)


class Trainer:
    """Trains one cell, from its newest checkpoint if there is one.

    `config` has the settings that are in force. Those of a branched cell change once, after the step of the branch.

    state: folder of the checkpoints; None writes none. fingerprint: a checkpoint is used only if it has the same.
    on_record: called with each new record (a line of metrics.jsonl) and the speed in tokens per second; what it raises
    ends the training. With several processes, each has a trainer with the same arguments, and the first one writes.
    Raises StudyError if an intervention of the settings cannot be made.
    """

    def __init__(self, config: RunConfig, data: Data, seed: int, state: Path | None = None, fingerprint: str = "",
                 on_record: Callable[[dict, float], None] = lambda record, speed: None,
                 processes: Processes = SINGLE_PROCESS):
        self.cell_config, self.data, self.seed, self.state, self.fingerprint = config, data, seed, state, fingerprint
        self.on_record, self.processes, self.device = on_record, processes, processes.device
        check_interventions(config, data.tokenizer.vocabulary_size)
        self._build(settings_at(0, config))
        self.progress = Progress()
        for is_first in (True, False):      # the first process renames damaged checkpoints before the others read
            if state is not None and processes.first == is_first:
                checkpoint = read_checkpoint(state, fingerprint)
                if checkpoint is not None:
                    self.progress, tensors = checkpoint
                    if settings_at(self.progress.step - 1, config) is not self.config:
                        self._build(config)
                    self.load_tensors(tensors)
            processes.wait()

    def _build(self, config: RunConfig) -> None:
        """Makes a new model and new optimisers for these settings, which are in force from now on."""
        self.config, self.objective, self.seeds = config, objective_of(config), seeds_of(config, self.seed)
        self.model = new_model(config, self.data.tokenizer.vocabulary_size, self.seeds.initialization).to(self.device)
        self.forward = torch.compile(self.model) if config.training.compile else self.model
        self.optimizers = Optimizers(self.model, config.training)

    def _branch(self) -> None:
        """Goes on with the cell's own settings if this is the step to do so. Weights and the state of the optimisers
        are carried on; what only the new model has, such as another head, starts as initialised."""
        config = settings_at(self.progress.step, self.cell_config)
        if config is not self.config:
            carried = self.tensors()
            self._build(config)
            new = self.tensors()
            self.load_tensors(new | {name: tensor for name, tensor in carried.items()
                                     if name in new or name.startswith("optimizer.")})

    def train(self) -> Progress:
        """Trains to the last step, to divergence, or until `patience` or `stop_after_escape` ends the run. Returns the
        progress.

        A diverged run is a result, not an error.
        """
        progress = self.progress
        if progress.step == 0 and not progress.records:
            self.validate({"step": 0, "tokens": 0})
        began, seconds_before, tokens_before = time.perf_counter(), progress.seconds, progress.tokens
        self.model.train()
        for batch in batches(self.cell_config, self.data, self.seed, progress.step):
            if progress.status != "running":
                break
            self.train_step(batch)
            progress.seconds = seconds_before + time.perf_counter() - began
            if progress.status == "running" and self._is_record_step:
                self._record((progress.tokens - tokens_before) / (progress.seconds - seconds_before))
            is_due = progress.step % self.config.training.save_steps == 0 and not self._is_last_step
            if self.state is not None and is_due:
                if self.processes.first:
                    write_checkpoint(self.state, self.fingerprint, progress, self.tensors())
                self.processes.wait()
        if progress.status == "running":
            has_learned = self._is_below_uniform() or not progress.step
            progress.status = "finished" if has_learned else "diverged"
        return progress

    def train_step(self, batch: Batch) -> None:
        """Updates the weights once. Sets the status to `diverged`, without an update, if a loss or gradient is not
        finite."""
        self._branch()
        training, progress = self.config.training, self.progress
        intervene(self.model.encoder, training, progress.step, self.data.train.ids)
        rate = learning_rate(progress.step, training)
        if self.config.model.dropout:       # dropout is a function of the seed and the step, so it needs no saved state
            coordinates = (progress.step, self.processes.rank)[:1 if self.processes.first else 2]
            torch.manual_seed(int(randomness.integers(self.seeds.masks, randomness.DROPOUT, *coordinates) >> 1))
        token_loss, sentence_loss = self.backward(batch)
        max_norm = math.inf if training.max_grad_norm is None else training.max_grad_norm
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm))
        if not (math.isfinite(norm) and math.isfinite(token_loss)):
            progress.status = "diverged"
            progress.records.append({"step": progress.step + 1, "tokens": progress.tokens + batch.tokens, "loss": None,
                                     "learning_rate": _rounded(rate), "gradient_norm": None} | self._extremes())
            self.on_record(progress.records[-1], 0.0)
        else:
            self.optimizers.step(rate)
        self.model.zero_grad(set_to_none=True)
        progress.step += 1
        progress.tokens += batch.tokens
        progress.positions += batch.input_ids.size
        progress.rows += len(batch.input_ids)
        sums = {"token_loss": token_loss, "targets": len(batch.targets), "sentence_loss": sentence_loss or 0.0,
                "pairs": 0 if sentence_loss is None else len(batch.input_ids), "gradient_norm": norm, "steps": 1,
                "clipped": int(norm > max_norm)}
        largest = {"largest_gradient_norm": norm, "largest_loss": token_loss / max(1, len(batch.targets))}
        before = progress.pending
        progress.pending = ({key: before.get(key, 0.0) + value for key, value in sums.items()}
                            | {key: max(before.get(key, value), value) for key, value in largest.items()})
        self.rate = rate

    def backward(self, batch: Batch) -> tuple[float, float | None]:
        """Adds the gradients of the batch's mean loss to those of the parameters.

        Returns the summed token loss and sentence loss (None without a sentence objective), in nats. Every target has
        the same weight, however the batch is divided into micro-batches and among processes.
        """
        token_loss, sentence_loss = 0.0, None
        parts = list(micro_batches(batch, self.config.training.gradient_accumulation_steps * self.processes.count))
        for part in self.processes.part(parts):
            arguments = [self.model.as_tensor(array) for array in part]
            with self._precision():
                loss = self.forward(*arguments)
            mean = loss.token / max(1, len(batch.targets))
            token_loss += loss.token.item()
            if loss.sentence is not None:
                mean = mean + self.objective.sentence.weight * loss.sentence / len(batch.input_ids)
                sentence_loss = (sentence_loss or 0.0) + loss.sentence.item()
            mean.backward()
        self.processes.add_gradients(self.model)
        token_loss, total = self.processes.add(token_loss, sentence_loss or 0.0)
        return token_loss, None if sentence_loss is None else total

    def _precision(self):
        if self.config.training.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @property
    def _is_last_step(self) -> bool:
        return self.progress.step == self.config.training.steps

    @property
    def _is_record_step(self) -> bool:
        """At multiples of logging_steps, at validations, and at the branch, so that no record mixes two settings."""
        step = self.progress.step
        return (step % self.config.training.logging_steps == 0 or self._is_validation_step
                or settings_at(step, self.cell_config) is not self.config)

    @property
    def _is_validation_step(self) -> bool:
        """At multiples of eval_steps, before the first of them at powers of two, and at the last step."""
        step, every = self.progress.step, self.config.training.eval_steps
        return step % every == 0 or self._is_last_step or (step < every and step & (step - 1) == 0)

    def _record(self, speed: float) -> None:
        """Records the means and extremes since the last record, and the validation loss if it is due."""
        sums, progress = self.progress.pending, self.progress
        record = {"step": progress.step, "tokens": progress.tokens,
                  "loss": _rounded(sums["token_loss"] / max(1, sums["targets"])), "learning_rate": _rounded(self.rate),
                  "gradient_norm": _rounded(sums["gradient_norm"] / sums["steps"])}
        if sums["pairs"]:
            record["pair_loss"] = _rounded(sums["sentence_loss"] / sums["pairs"])
        record |= self._extremes()
        progress.pending = {}
        if self._is_validation_step:
            self.validate(record, speed)
        else:
            progress.records.append(record)
            self.on_record(record, speed)

    def _extremes(self) -> dict[str, float | None]:
        """How many steps since the last record were clipped, and the largest gradient norm (before clipping) and loss
        of a step; None if there was no step."""
        pending = self.progress.pending
        largest = {key: pending.get(key) for key in ("largest_gradient_norm", "largest_loss")}
        return {"clipped": int(pending.get("clipped", 0)),
                **{key: None if value is None else _rounded(value) for key, value in largest.items()}}

    def validate(self, record: dict, speed: float = 0.0) -> None:
        """Adds the validation loss to the record, if the objective has one, and appends the record."""
        progress, training = self.progress, self.config.training
        batch_size = max(1, 4 * training.batch_size // training.gradient_accumulation_steps)    # as a micro-batch fits
        nll = self.objective.token.validation_nll(self.model, self.data.validation, batch_size)
        if nll is not None and not math.isfinite(nll):
            progress.status = "diverged"    # and the record has no validation_nll
        elif nll is not None:
            record["validation_nll"] = _rounded(nll)
            record |= self._other_scores(batch_size)
            is_better = progress.best_nll is None or nll < progress.best_nll
            is_regular = progress.step % training.eval_steps == 0                 # patience ignores the early ones
            progress.best_nll = nll if is_better else progress.best_nll
            progress.stale = 0 if is_better else progress.stale + is_regular
            if reads_short_rows(progress.step - 1, self.cell_config):             # it begins with the full rows
                progress.best_nll, progress.stale = None, 0
        self.model.train()
        progress.records.append(record)
        self.on_record(record, speed)
        if progress.status == "running" and training.patience and progress.stale >= training.patience and progress.step:
            progress.status = "finished" if self._is_below_uniform() else "diverged"
        if progress.status == "running" and self._has_escaped_long_ago():
            progress.status = "finished"

    def _other_scores(self, batch_size: int) -> dict:
        """The scores of a validation besides the NLL on [MASK], as far as the settings ask for them."""
        validation, remasked = self.data.validation, self.config.examples.remasked
        scores: dict = {"own_format_nll": self.objective.token.own_format_nll(self.model, validation, batch_size)}
        if remasked is not None and self.progress.step % remasked.steps == 0:
            scores["remasked_nll"] = remasked_nll(self.model, self.config, validation.paragraphs, self.data.tokenizer,
                                                  self.seed, self.progress.step)
        scores = {key: _rounded(nll) for key, nll in scores.items() if nll is not None and math.isfinite(nll)}
        if self.config.training.attention_offsets:
            rows = validation.sets["mask_only"].shown[:ATTENTION_ROWS]
            shares = attention_offsets(self.model.encoder, self.model.as_tensor(rows))
            scores["attention_offsets"] = [[[round(share, 4) for share in head] for head in layer] for layer in shares]
        return scores

    def _has_escaped_long_ago(self) -> bool:
        """Whether the run left the plateau at least `stop_after_escape` steps ago."""
        limit = self.config.training.stop_after_escape
        if limit is None:
            return False
        points = [(record["step"], record["validation_nll"]) for record in self.progress.records
                  if "validation_nll" in record]
        escape = escape_step(points, self.data.validation.unigram_nll)
        return escape is not None and self.progress.step >= escape + limit

    def _is_below_uniform(self) -> bool:
        """Whether the last validation loss is below that of guessing; the last training loss if [MASK], which the
        validation needs, is never seen in training."""
        key = "validation_nll" if sees_mask(self.config) else "loss"
        losses = [record[key] for record in self.progress.records if record.get(key) is not None]
        return not losses or losses[-1] < math.log(self.data.tokenizer.vocabulary_size)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors of a checkpoint: weights and the state of the optimisers."""
        return ({f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
                | {f"optimizer.{name}": tensor for name, tensor in self.optimizers.tensors().items()})

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Sets weights and the state of the optimisers to those of a checkpoint."""
        model, optimizers = ({name.removeprefix(prefix): tensor for name, tensor in tensors.items()
                              if name.startswith(prefix)} for prefix in ("model.", "optimizer."))
        self.model.load_state_dict(model)
        self.optimizers.load_tensors(optimizers)


def _rounded(value: float) -> float:
    """Seven significant digits, as in the records."""
    return float(f"{value:.7g}")
