"""What a study is about to cost: its cells, which are stale, tokens, operations and the time that they take here.

The time is measured: a few steps of every kind of cell (equal shapes, inputs and precision cost the same), on the
study's own data, as one process alone does them.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from study.config.load import Study, resolve
from study.config.schema import RunConfig
from study.orchestration.runner import stale_cells

SECONDS = 1.5                               # that each kind of cell is measured for


@dataclass
class Plan:
    """One arm: its cells, those of them that are stale; tokens, operations and training seconds a cell (None: not
    measured)."""
    arm: str
    cells: int
    stale: int
    tokens: float
    flops: float
    seconds: float | None


def plan(study: Study, measure: bool = True,
         progress: Callable[..., Iterable] = lambda items, **_: items) -> list[Plan]:
    """A line an arm. Raises StudyError where DVC or the settings do; measures nothing before the examples are made."""
    from study.training.pretrain import load_data

    stale, seconds, rows = set(stale_cells(study)), {}, []
    ready = measure and (study.runs / "examples" / "validation.npz").exists()
    data = load_data(study) if ready else None
    size = data.tokenizer.vocabulary_size if data is not None else study.settings.tokenizer.vocabulary_size
    for arm in progress(study.settings.arms, description="measuring"):
        config = resolve(study, arm)
        names = [f"{arm}-{seed}" for seed in study.settings.seeds]
        count = sum(name in stale for name in names)
        if data is not None and count:
            kind = _kind(config)
            if kind not in seconds:
                seconds[kind] = step_seconds(config, data)
            each = seconds[kind] * config.training.steps
        rows.append(Plan(arm, len(names), count, *_work(config, size), each if data is not None and count else None))
    return rows


def _kind(config: RunConfig) -> str:
    """Equal for cells whose steps cost the same."""
    training = config.training.model_dump(include={"batch_size", "gradient_accumulation_steps", "precision", "threads", "curriculum"})
    return str([config.model, config.inputs, config.objective, config.examples.max_seq_length, config.masking.mlm_probability,
                config.masking.selection, training])


def _work(config: RunConfig, vocabulary_size: int) -> tuple[float, float]:
    """Tokens and floating-point operations of a cell's training."""
    from study.model.heads import flops_per_token
    from study.training.trainer import phases

    work = [((phase.end - phase.begin) * phase.batch_size * phase.length,
             flops_per_token(config, vocabulary_size, phase.length)) for phase in phases(config)]
    return sum(tokens for tokens, _ in work), sum(tokens * flops for tokens, flops in work)


def step_seconds(config: RunConfig, data) -> float:
    """Mean seconds of a training step of this cell."""
    from study.model.heads import use_processor
    from study.training.trainer import Trainer, batches

    if not config.training.steps:
        return 0.0
    use_processor(config)
    trainer, source = Trainer(config, data, 0), batches(config, data, 0, 0)
    trainer.model.train()
    times = [time.perf_counter()]
    for batch in source:
        trainer._step(batch)
        times.append(time.perf_counter())
        if len(times) > 3 and times[-1] - times[2] > SECONDS:
            break
    source.close()
    used = times[2:] if len(times) > 3 else times
    return (used[-1] - used[0]) / (len(used) - 1)
