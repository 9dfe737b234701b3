"""`study plan`: the cells of a study, which of them are stale, and the tokens, FLOPs and time that they need here.

Time is measured: a few training steps of each kind on the study's own data, in one process. Steps with equal shapes,
inputs, optimiser and precision are of one kind. A cell has several kinds if its rows are short at first, if it starts
from another arm or if its attention becomes local.
"""
from __future__ import annotations

import heapq
import json
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from study.config.arms import resolve
from study.config.schema import RunConfig
from study.config.study import Study
from study.orchestration.processes import processors

if TYPE_CHECKING:
    from study.training.schedule import Phase
    from study.training.trainer import Data

SECONDS = 1.5                               # for which each kind of step is measured
WARMUP_STEPS = 2                            # untimed steps before that
FASTER = 1.1                                # how many times as fast a precision must be to be advised
COST_KEYS = {"gradient_accumulation_steps", "precision", "threads", "optimizer", "skip_padding", "compile",
             "local_attention_from"}        # settings of `training` that decide how long a step takes


@dataclass
class Plan:
    """One arm: its number of cells, how many are stale, how many of these are trained and not only scored again, and
    the cost of one cell.

    epochs: how often the training text is read, None if its length is not known. flops: floating-point operations
    of the training. seconds: training time, None if it was not measured.
    """
    arm: str
    cells: int
    stale: int
    trained: int
    tokens: float
    epochs: float | None
    flops: float
    seconds: float | None


def plan(study: Study, stale: Collection[str], trained: Collection[str], measure: bool = True,
         progress: Callable[..., Iterable] = lambda items, **_: items, words: float | None = None) -> list[Plan]:
    """One Plan per arm, for a study with these stale cells. Time is measured only if the examples exist.

    trained: the cells that will be trained, if they are stale. The others are only scored again.
    words: length of the training text if it is not known yet, with one token for each word; it is longer in tokens.
    """
    from study.training.pretrain import load_data

    seconds, rows = {}, []
    measure = measure and (study.runs / "examples" / "validation.npz").exists()
    data, text = load_data(study) if measure else None, text_tokens(study) or words
    vocabulary_size = data.tokenizer.vocabulary_size if measure else study.settings.tokenizer.vocabulary_size
    for arm in progress(study.settings.arms, description="measuring"):
        config = resolve(study, arm)
        names = [f"{arm}-{seed}" for seed in study.settings.seeds]
        waiting = [name for name in names if name in stale]
        count, cell_seconds = sum(name in trained for name in waiting), None
        if measure and count:
            cell_seconds = 0.0
            for part in _parts(config):
                if (kind := _kind(part)) not in seconds:
                    seconds[kind] = step_seconds(part, data)
                cell_seconds += seconds[kind] * (part.end - part.begin)
        tokens, flops = _work(config, vocabulary_size)
        epochs = tokens / (text * config.training.data_fraction) if text else None
        rows.append(Plan(arm, len(names), len(waiting), count, tokens, epochs, flops, cell_seconds))
    return rows


def cells_at_once(study: Study, jobs: int | None) -> int:
    """How many cells can train at the same time at the measured speed: at most `jobs`, and no more than there are
    processors for their threads. Cells that use all processors train one after the other."""
    threads = study.settings.training.threads or processors()
    possible = max(1, processors() // threads)
    return min(jobs or possible, possible)


def elapsed_seconds(plans: list[Plan], jobs: int) -> float:
    """Time in which the cells of these plans train, `jobs` of them at the same time (s)."""
    ends = [0.0] * jobs                     # when each job is free again; a heap
    for seconds in (row.seconds for row in plans for _ in range(row.trained)):
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


def text_tokens(study: Study) -> int | None:
    """The number of tokens of the training text; None before the examples stage."""
    path = study.runs / "examples" / "references.json"
    return json.loads(path.read_text())["train"]["tokens"] if path.exists() else None


def precision_advice(study: Study) -> str:
    """Says which precision is faster here by a factor of FASTER, if that is not the study's own; empty otherwise, and
    if it cannot be measured, without examples or training.

    The baseline's steps with full rows are timed in both precisions.
    """
    from study.model.kernels import has_bfloat16
    from study.training.pretrain import load_data

    parts, times = _parts(resolve(study, study.settings.baseline)), {}
    if not parts or not (study.runs / "examples" / "validation.npz").exists():
        return ""
    data, config = load_data(study), parts[-1].config
    for precision in ("float32", "bfloat16"):
        times[precision] = step_seconds(replace(parts[-1], config=_with_training(config, precision=precision)), data)
    chosen, faster = config.training.precision, min(times, key=times.__getitem__)
    if not times[faster] or times[chosen] / times[faster] < FASTER:
        return ""
    missing = "" if has_bfloat16() else "this machine has no bfloat16 instructions; "
    return (f"{missing}training.precision {chosen} takes {times[chosen] / times[faster]:.1f} times as long per step as "
            f"{faster} here. Set it to {faster} in {study.params_path} to train faster; this changes the results "
            f"slightly, so all cells become stale.")


def _parts(config: RunConfig) -> list[Phase]:
    """The phases of a cell in which every step takes as long, each with settings that hold from its first step on: with
    short rows and with full ones, before and after a branch, before and after attention becomes local."""
    from study.training.schedule import phases

    parts = []
    for phase in phases(config):
        own = phase.config.model_copy(update={"branch": None})
        start = own.training.local_attention_from
        switch = phase.end if start is None else min(max(start, phase.begin), phase.end)
        for begin, end, local in ((phase.begin, switch, None), (switch, phase.end, 0)):
            if begin < end:
                part = _with_training(own, local_attention_from=local, count_embeddings_at=None)
                parts.append(replace(phase, begin=begin, end=end, config=part))
    return parts


def _with_training(config: RunConfig, **settings) -> RunConfig:
    return config.model_copy(update={"training": config.training.model_copy(update=settings)})


def _kind(part: Phase) -> str:
    """Equal for phases whose training steps take as long."""
    config, training = part.config, part.config.training.model_dump(include=COST_KEYS)
    return str([part.length, part.batch_size, config.model, config.inputs, config.objective,
                config.masking.mlm_probability, config.masking.selection, training])


def _work(config: RunConfig, vocabulary_size: int) -> tuple[float, float]:
    """Tokens and floating-point operations of a cell's training."""
    from study.training.pretrain import training_flops
    from study.training.schedule import phases

    parts = [(phase, phase.end - phase.begin) for phase in phases(config)]
    tokens = sum(steps * phase.batch_size * phase.length for phase, steps in parts)
    return tokens, training_flops(parts, vocabulary_size, tokens)


def step_seconds(part: Phase, data: Data) -> float:
    """Mean duration of a training step of this phase, in seconds."""
    from study.data.batches import prefetch
    from study.model.kernels import configure_processor
    from study.training.trainer import Trainer, batch_source

    configure_processor(part.config.training.threads)
    trainer = Trainer(part.config, data, 0)
    source = prefetch(batch_source(data, 0, part), range(max(part.end - part.begin, WARMUP_STEPS + 1)))
    trainer.model.train()
    times = [time.perf_counter()]
    for batch in source:
        trainer.train_step(batch)
        times.append(time.perf_counter())
        if len(times) > WARMUP_STEPS + 1 and times[-1] - times[WARMUP_STEPS] > SECONDS:
            break
    source.close()
    return (times[-1] - times[WARMUP_STEPS]) / (len(times) - 1 - WARMUP_STEPS)
