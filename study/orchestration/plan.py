"""`study plan`: the cells of a study, which of them are stale, and the tokens, FLOPs and time that they need here.

Time is measured: a few training steps of each kind of cell on the study's own data, in one process. Cells with equal
shapes, inputs and precision are of one kind.
"""
from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from study.config.arms import resolve
from study.config.schema import RunConfig
from study.config.study import Study

SECONDS = 1.5                               # for which each kind of cell is measured
WARMUP_STEPS = 2                            # untimed steps before that
COST_KEYS = {"batch_size", "gradient_accumulation_steps", "precision", "threads", "curriculum"}  # of `training`


@dataclass
class Plan:
    """One arm: its number of cells, how many are stale, and the cost of one cell.

    epochs: how often the training text is read, None if its length is not known. flops: floating-point operations
    of the training. seconds: training time, None if it was not measured.
    """
    arm: str
    cells: int
    stale: int
    tokens: float
    epochs: float | None
    flops: float
    seconds: float | None


def plan(study: Study, stale: Collection[str], measure: bool = True,
         progress: Callable[..., Iterable] = lambda items, **_: items, words: float | None = None) -> list[Plan]:
    """One Plan per arm, for a study with these stale cells. Time is measured only if the examples exist.

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
        count, cell_seconds = sum(name in stale for name in names), None
        if measure and count:
            cell_seconds = 0.0
            for part, steps in _parts(config):
                if (kind := _kind(part)) not in seconds:
                    seconds[kind] = step_seconds(part, data)
                cell_seconds += seconds[kind] * steps
        tokens, flops = _work(config, vocabulary_size)
        epochs = tokens / (text * config.training.data_fraction) if text else None
        rows.append(Plan(arm, len(names), count, tokens, epochs, flops, cell_seconds))
    return rows


def text_tokens(study: Study) -> int | None:
    """The number of tokens of the training text; None before the examples stage."""
    path = study.runs / "examples" / "references.json"
    return json.loads(path.read_text())["train"]["tokens"] if path.exists() else None


def precision_advice(study: Study) -> str:
    """Says which precision is faster here, if that is not the study's own; empty if the study's is, or if there are no
    examples to measure with.

    The baseline's steps are timed in both precisions.
    """
    from study.model.kernels import has_bfloat16
    from study.training.pretrain import load_data

    (config, _), times = _parts(resolve(study, study.settings.baseline))[-1], {}
    if not (study.runs / "examples" / "validation.npz").exists():
        return ""
    data = load_data(study)
    for precision in ("float32", "bfloat16"):
        training = config.training.model_copy(update={"precision": precision})
        times[precision] = step_seconds(config.model_copy(update={"training": training}), data)
    chosen, faster = config.training.precision, min(times, key=times.__getitem__)
    if chosen == faster:
        return ""
    missing = "" if has_bfloat16() else "this machine has no bfloat16 instructions; "
    return (f"{missing}training.precision {chosen} takes {times[chosen] / times[faster]:.1f} times as long per step as "
            f"{faster} here. Set it to {faster} in {study.params_path} to train faster; this changes the results "
            f"slightly, so all cells become stale.")


def _parts(config: RunConfig) -> list[tuple[RunConfig, int]]:
    """The settings of a cell and its number of steps; those before and those after the branch of a branched one."""
    steps, branch = config.training.steps, config.branch
    if branch is None:
        return [(config, steps)]
    return [(branch.before, branch.step), (config.model_copy(update={"branch": None}), steps - branch.step)]


def _kind(config: RunConfig) -> str:
    """Equal for cells whose training steps cost the same."""
    training = config.training.model_dump(include=COST_KEYS)
    return str([config.model, config.inputs, config.objective, config.examples.max_seq_length,
                config.masking.mlm_probability, config.masking.selection, training])


def _work(config: RunConfig, vocabulary_size: int) -> tuple[float, float]:
    """Tokens and floating-point operations of a cell's training."""
    from study.training.pretrain import training_flops
    from study.training.schedule import phases

    parts = [(phase, phase.end - phase.begin) for phase in phases(config)]
    tokens = sum(steps * phase.batch_size * phase.length for phase, steps in parts)
    return tokens, training_flops(parts, vocabulary_size, tokens)


def step_seconds(config: RunConfig, data) -> float:
    """Mean duration of a training step of this cell, in seconds."""
    from study.model.kernels import configure_processor
    from study.training.trainer import Trainer, batches

    if not config.training.steps:
        return 0.0
    configure_processor(config.training.threads)
    trainer, source = Trainer(config, data, 0), batches(config, data, 0, 0)
    trainer.model.train()
    times = [time.perf_counter()]
    for batch in source:
        trainer.train_step(batch)
        times.append(time.perf_counter())
        if len(times) > WARMUP_STEPS + 1 and times[-1] - times[WARMUP_STEPS] > SECONDS:
            break
    source.close()
    timed = times[WARMUP_STEPS:] if len(times) > WARMUP_STEPS + 1 else times
    return (timed[-1] - timed[0]) / (len(timed) - 1)
