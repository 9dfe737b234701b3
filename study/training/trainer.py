"""The training loop of one cell. The state is (weights, moments, progress); all else is a function of the step."""
from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from study import randomness
from study.config.schema import RunConfig, Training
from study.data.batches import Batch, BatchSource, prefetch
from study.data.evaluation_sets import EvaluationSet
from study.data.examples import TokenStore
from study.data.tokenizer_info import TokenizerInfo
from study.evaluation.perplexity import as_tensor, mean_nll
from study.model.heads import PretrainingModel, new_model
from study.training.checkpoint import Progress, read_checkpoint, write_checkpoint
from study.training.parallel import Processes
from study.training.schedule import learning_rate


@dataclass(frozen=True)
class Data:
    """What every cell of a study reads."""
    train: TokenStore
    validation: EvaluationSet
    tokenizer: TokenizerInfo


@dataclass(frozen=True)
class Phase:
    """Steps [begin, end) at one row length; tokens a step are the same in every phase."""
    begin: int
    end: int
    length: int
    batch_size: int


def phases(config: RunConfig) -> list[Phase]:
    """One phase, or two with a length curriculum (short rows first, as many more of them)."""
    steps, length, rows = config.training.steps, config.examples.max_seq_length, config.training.batch_size
    if config.training.curriculum is None:
        return [Phase(0, steps, length, rows)]
    switch = round(config.training.curriculum.share * steps)
    factor = max(1, round(1 / config.training.curriculum.length))
    return [Phase(0, switch, length // factor, rows * factor), Phase(switch, steps, length, rows)]


def batch_source(config: RunConfig, data: Data, seed: int, phase: Phase) -> BatchSource:
    """Where the batches of a phase come from."""
    return BatchSource(data.train, data.tokenizer, config, seed, phase.length, phase.batch_size)


def batches(config: RunConfig, data: Data, seed: int, begin: int) -> Iterator[Batch]:
    """The batches of steps `begin` to the end."""
    for phase in phases(config):
        if phase.end > begin:
            steps = range(max(begin, phase.begin) - phase.begin, phase.end - phase.begin)
            yield from prefetch(batch_source(config, data, seed, phase), steps)


ALONE = Processes()


class Trainer:
    """Trains one cell, from its newest checkpoint if there is one.

    on_record is called with each new record (as in metrics.jsonl) and the tokens a second; it must not raise. Of
    several processes each has a trainer of its own with the same arguments; the first one writes.
    """

    def __init__(self, config: RunConfig, data: Data, seed: int, state: Path | None = None, fingerprint: str = "",
                 on_record: Callable[[dict, float], None] = lambda record, speed: None,
                 processes: Processes = ALONE):
        self.config, self.data, self.seed, self.state, self.fingerprint = config, data, seed, state, fingerprint
        self.on_record, self.processes, self.device = on_record, processes, processes.device
        self.model = new_model(config, data.tokenizer.vocabulary_size, seed).to(self.device)
        self.forward = torch.compile(self.model) if config.training.compile else self.model
        self.optimizer = AdamW(self.model, config.training)
        self.progress = Progress()
        for turn in (True, False):          # the first process may set a damaged checkpoint aside; then the others
            if state is not None and processes.first == turn and (found := read_checkpoint(state, fingerprint)):
                self.progress = found[0]
                self._load_tensors(found[1])
            processes.wait()

    def train(self) -> Progress:
        """Runs to the last step, to divergence, or until patience ends. A diverged run is a result, not an error."""
        training, progress = self.config.training, self.progress
        if progress.step == 0 and not progress.records:
            self._validate({"step": 0, "tokens": 0})
        began, already, counted = time.perf_counter(), progress.seconds, progress.tokens
        self.model.train()
        for batch in batches(self.config, self.data, self.seed, progress.step):
            if progress.status != "running":
                break
            self._step(batch)
            progress.seconds = already + time.perf_counter() - began
            due = progress.step % training.logging_steps == 0 or self._validates
            if progress.status == "running" and due:
                self._record((progress.tokens - counted) / (progress.seconds - already))
            if self.state is not None and progress.step % training.save_steps == 0 and not self._last:
                if self.processes.first:
                    write_checkpoint(self.state, self.fingerprint, progress, self._tensors())
                self.processes.wait()
        if progress.status == "running":
            fine = self._below_uniform() or not progress.step
            progress.status = "finished" if fine else "diverged"
        return progress

    @property
    def _last(self) -> bool:
        return self.progress.step == self.config.training.steps

    @property
    def _validates(self) -> bool:
        """At powers of two as long as these are closer together than the regular validations; then at those, and last.
        """
        step, every = self.progress.step, self.config.training.eval_steps
        return step % every == 0 or self._last or (step < every and step & (step - 1) == 0)

    def _step(self, batch: Batch) -> None:
        training, progress = self.config.training, self.progress
        rate = learning_rate(progress.step, training)
        if self.config.model.dropout:         # dropout too is a function of (seed, step): nothing to store or restore
            place = (progress.step, self.processes.rank)[:1 + (not self.processes.first)]
            torch.manual_seed(int(randomness.integers(self.seed, randomness.DROPOUT, *place) >> 1))
        words, pairs = self._backward(batch)
        clip = math.inf if training.max_grad_norm is None else training.max_grad_norm
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip))
        if not (math.isfinite(norm) and math.isfinite(words)):
            progress.status = "diverged"
            progress.records.append({"step": progress.step + 1, "tokens": progress.tokens + batch.tokens,
                                     "loss": None, "learning_rate": _short(rate), "gradient_norm": None})
            self.on_record(progress.records[-1], 0.0)
        else:
            self.optimizer.step(rate)
        self.model.zero_grad(set_to_none=True)
        progress.step += 1
        progress.tokens += batch.tokens
        progress.slots += batch.input_ids.size
        progress.rows += len(batch.input_ids)
        sums = {"words": words, "targets": len(batch.targets), "pairs": pairs or 0.0,
                "rows": 0 if pairs is None else len(batch.input_ids), "norms": norm, "steps": 1}
        progress.pending = {key: progress.pending.get(key, 0.0) + value for key, value in sums.items()}
        self.rate = rate

    def _backward(self, batch: Batch) -> tuple[float, float | None]:
        """Gradients of the whole batch, in micro-batches weighted by what they predict; summed losses."""
        weight, words, pairs = self.config.objective.sentence_weight, 0.0, None
        parts = list(micro_batches(batch, self.config.training.gradient_accumulation_steps * self.processes.count))
        for part in self.processes.part(parts):
            tensors = [as_tensor(array, self.device) for array in part]
            with self._precision():
                loss = self.forward(*tensors)
            total = loss.words / max(1, len(batch.targets))
            words += loss.words.item()
            if loss.pairs is not None:
                total = total + weight * loss.pairs / len(batch.input_ids)
                pairs = (pairs or 0.0) + loss.pairs.item()
            total.backward()
        self.processes.add_gradients(self.model)
        words, summed = self.processes.add(words, pairs or 0.0)
        return words, None if pairs is None else summed

    def _precision(self):
        if self.config.training.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _record(self, speed: float) -> None:
        sums, progress = self.progress.pending, self.progress
        record = {"step": progress.step, "tokens": progress.tokens,
                  "loss": _short(sums["words"] / max(1, sums["targets"])), "learning_rate": _short(self.rate),
                  "gradient_norm": _short(sums["norms"] / sums["steps"])}
        if sums["rows"]:
            record["pair_loss"] = _short(sums["pairs"] / sums["rows"])
        progress.pending = {}
        if self._validates:
            self._validate(record, speed)
        else:
            progress.records.append(record)
            self.on_record(record, speed)

    def _validate(self, record: dict, speed: float = 0.0) -> None:
        progress, patience = self.progress, self.config.training.patience
        if self.config.objective.token_objective == "mlm":
            nll = mean_nll(self.model, self.data.validation, "mask_only", 4 * self.config.training.batch_size)
            if not math.isfinite(nll):      # nothing was measured: the record has no such key
                progress.status = "diverged"
            else:
                record["validation_nll"] = _short(nll)
                better = progress.best_nll is None or nll < progress.best_nll
                regular = progress.step % self.config.training.eval_steps == 0    # early ones try no patience
                progress.best_nll = nll if better else progress.best_nll
                progress.stale = 0 if better else progress.stale + regular
        self.model.train()
        progress.records.append(record)
        self.on_record(record, speed)
        if progress.status == "running" and patience is not None and progress.stale >= patience and progress.step:
            progress.status = "finished" if self._below_uniform() else "diverged"

    def _below_uniform(self) -> bool:
        """Whether the last validation (left to right: the last training loss) is better than guessing."""
        key = "loss" if self.config.objective.token_objective == "causal" else "validation_nll"
        values = [record[key] for record in self.progress.records if record.get(key) is not None]
        return not values or values[-1] < math.log(self.data.tokenizer.vocabulary_size)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, state in self.optimizer.state.items():
            tensors |= {f"optimizer.{name}.{key}": value for key, value in state.items()}
        return tensors

    def _load_tensors(self, tensors: dict[str, Tensor]) -> None:
        self.model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in tensors.items()
                                    if name.startswith("model.")})
        for name, state in self.optimizer.state.items():
            for key, value in state.items():
                value.copy_(tensors[f"optimizer.{name}.{key}"])


def _short(value: float) -> float:
    return float(f"{value:.7g}")


class AdamW:
    """torch's fused AdamW (Loshchilov and Hutter 2019), with weight decay on matrices alone: none on biases and norms.

    Called as a function: the class in torch.optim loads torch's compiler, a second that each cell would pay for
    nothing. A parameter without a gradient stays as it is.
    """

    def __init__(self, model: PretrainingModel, training: Training):
        self.training, self.parameters = training, dict(model.named_parameters())
        self.state = {name: {"step": torch.zeros((), device=p.device), "exp_avg": torch.zeros_like(p),
                             "exp_avg_sq": torch.zeros_like(p)} for name, p in self.parameters.items()}

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update of every parameter from its gradient."""
        settings = self.training
        for matrices in (True, False):
            names = [name for name, p in self.parameters.items() if (p.ndim >= 2) == matrices and p.grad is not None]
            if not names:
                continue
            state = {key: [self.state[name][key] for name in names] for key in ("exp_avg", "exp_avg_sq", "step")}
            adamw([self.parameters[name] for name in names], [self.parameters[name].grad for name in names],
                  state["exp_avg"], state["exp_avg_sq"], [], state["step"], fused=True, amsgrad=False,
                  beta1=settings.adam_beta1, beta2=settings.adam_beta2, lr=learning_rate, eps=settings.adam_epsilon, maximize=False,
                  weight_decay=settings.weight_decay if matrices else 0.0)


def micro_batches(batch: Batch, count: int) -> Iterator[tuple]:
    """The batch in `count` parts of equal rows, or one row more or less (in as many as there are rows, where these are
    fewer): arguments of the model's forward pass."""
    rows, length = batch.input_ids.shape
    bounds = np.linspace(0, rows, min(count, rows) + 1).round().astype(int).tolist()
    for begin, end in itertools.pairwise(bounds):
        part = slice(begin, end)
        inside = (batch.positions >= begin * length) & (batch.positions < end * length)
        yield (batch.input_ids[part], batch.token_type_ids[part],
               None if batch.attention_mask is None else batch.attention_mask[part],
               _rounded_up(batch.positions[inside] - begin * length), batch.targets[inside],
               None if batch.next_sentence_label is None else batch.next_sentence_label[part])


def _rounded_up(positions: np.ndarray) -> np.ndarray:
    """Positions (S,) with some more, of no target, up to a multiple of ROUND."""
    return np.pad(positions, (0, -len(positions) % ROUND))


ROUND = 32                                  # else every step has a number of targets, and kernels, of its own
