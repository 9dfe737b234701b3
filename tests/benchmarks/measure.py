"""One measurement in a process of its own: `python -m tests.benchmarks.measure WHAT SHAPE PRECISION SECONDS` prints a
number, or numbers as JSON. `speed.py` calls it for each side in turn, so that neither finds the other's memory. WHAT
can be a kind of positions: our speed with it."""
from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from functools import partial

import torch
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode

from study.model.kernels import configure_processor
from study.training.schedule import phases
from study.training.trainer import Trainer, batch_source, batches
from tests.benchmarks.plain import plain_speed
from tests.benchmarks.trainer_baseline import run_trainer, trainer_speed
from tests.benchmarks.workload import LEAST, POSITIONS, SHAPES, WARMUP, Shape, config_of, data_of

PRODUCTS = ("aten::mm", "aten::addmm", "mkldnn::_linear_pointwise", "aten::bmm", "aten::baddbmm",
            "aten::_scaled_dot_product_flash_attention_for_cpu",
            "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
            "aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_flash_attention_backward",
            "aten::_scaled_dot_product_efficient_attention",
            "aten::_scaled_dot_product_efficient_attention_backward")


PARTS = {"matrix products": PRODUCTS,
         "softmax and loss": ("aten::_softmax", "aten::_softmax_backward_data", "aten::_log_softmax",
                              "aten::_log_softmax_backward_data", "aten::nll_loss_forward", "aten::nll_loss_backward",
                              "aten::amax", "aten::log", "aten::gather", "aten::scatter_add_", "InPlaceCrossEntropy",
                              "InPlaceCrossEntropyBackward"),
         "norms and GELU": ("aten::native_layer_norm", "aten::native_layer_norm_backward", "aten::gelu",
                            "aten::gelu_backward"),
         "optimiser": ("aten::_fused_adamw_", "aten::_foreach_norm", "aten::_foreach_mul_", "aten::linalg_vector_norm"),
         "copies and casts": ("aten::copy_", "aten::cat", "aten::stack", "aten::index_select", "aten::embedding",
                              "aten::fill_", "aten::zero_")}

BLOCK = 5                                   # steps of the loop, and as many over ready batches, in turn


def trainer_of(shape: Shape, precision: str, **settings) -> Trainer:
    """A trainer at its first step, set up as a cell's process is. settings: see `config_of`."""
    config = config_of(shape, precision, **settings)
    configure_processor(config.training.threads)
    return Trainer(config, data_of(shape), 0)


def settle() -> None:
    """Waits for what a GPU still has to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def our_speed(shape: Shape, precision: str, seconds: float, positions: str = "absolute") -> float:
    """Tokens a second of our training loop with its batches and records, after the warm-up; like the other side
    without validations."""
    trainer, times = trainer_of(shape, precision, positions=positions), []
    step = trainer.train_step

    def timed(batch) -> None:
        step(batch)
        settle()
        times.append(time.perf_counter())
        if len(times) > WARMUP + LEAST and times[-1] - times[WARMUP] > seconds:
            trainer.progress.status = "finished"

    trainer.train_step, trainer.validate = timed, lambda record, speed=0.0: None
    trainer.train()
    return (len(times) - 1 - WARMUP) * shape.rows * shape.length / (times[-1] - times[WARMUP])


def loop_cost(shape: Shape, precision: str, seconds: float) -> float:
    """How much longer a step takes in the training loop, with its batches and with a record every fifth step (ten
    times as often as in a study), than over batches made beforehand: median over blocks of both that take turns."""
    trainer = trainer_of(shape, precision, logging_steps=BLOCK)
    source = batches(trainer.config, trainer.data, 0, 0)
    made = [next(source) for _ in range(BLOCK)]
    source.close()
    step, ratios, times, first = trainer.train_step, [], [], time.perf_counter()

    def timed(batch) -> None:
        step(batch)
        settle()
        times.append(time.perf_counter())
        if len(times) > BLOCK:
            loop, began = times[-1] - times[0], times[-1]
            for one in made:
                step(one)
            settle()
            times[:] = [time.perf_counter()]
            ratios.append(loop / (times[0] - began) - 1)
            if len(ratios) > 4 and times[0] - first > seconds:
                trainer.progress.status = "finished"

    trainer.train_step, trainer.validate = timed, lambda record, speed=0.0: None
    trainer.train()
    return statistics.median(ratios[1:])


def bare_speed(shape: Shape, precision: str, seconds: float) -> float:
    """Tokens a second of forward, backward, clipping and update over batches that were made beforehand."""
    trainer = trainer_of(shape, precision)
    source = batches(trainer.config, trainer.data, 0, 0)
    made = [next(source) for _ in range(8)]
    source.close()
    for batch in made[:2]:
        trainer.train_step(batch)
    settle()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        trainer.train_step(made[steps % len(made)])
        steps += 1
    settle()
    return steps * shape.rows * shape.length / (time.perf_counter() - began)


class Products(TorchDispatchMode):
    """Keeps every matrix product that runs under it, attention's included, as (function, arguments)."""

    def __init__(self):
        super().__init__()
        self.calls: list = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function.name().partition(".")[0] in PRODUCTS:
            kept = [value.detach().clone(memory_format=torch.preserve_format) if isinstance(value, torch.Tensor)
                    else value for value in arguments]
            self.calls.append((function, kept, keywords or {}))
        return function(*arguments, **(keywords or {}))


def matmul_share(shape: Shape, precision: str, seconds: float) -> float:
    """Time of one step's matrix products alone, at the same shapes, layouts and type, over the time of the step."""
    trainer = trainer_of(shape, precision)
    source = batches(trainer.config, trainer.data, 0, 0)
    for batch in itertools.islice(source, WARMUP):
        trainer.train_step(batch)
    with Products() as seen:
        trainer.train_step(next(source))
    steps, alone, began = [], [], time.perf_counter()
    while time.perf_counter() - began < seconds or len(steps) < 3:
        batch = next(source)
        for times, work in ((steps, lambda batch=batch: trainer.train_step(batch)),
                            (alone, lambda: replay(seen.calls))):
            start = time.perf_counter()
            work()
            settle()
            times.append(time.perf_counter() - start)
    source.close()
    return statistics.median(alone) / statistics.median(steps)


@torch.no_grad()
def replay(calls: list) -> None:
    """The kept products once more."""
    for function, arguments, keywords in calls:
        function(*arguments, **keywords)


def our_parts(shape: Shape, precision: str, _: float) -> dict[str, float]:
    """Milliseconds of one of our steps by kind of operation."""
    trainer = trainer_of(shape, precision)
    source = batches(trainer.config, trainer.data, 0, 0)
    for batch in itertools.islice(source, WARMUP):
        trainer.train_step(batch)
    with profile() as seen:
        for batch in itertools.islice(source, LEAST):
            trainer.train_step(batch)
    source.close()
    return by_part(seen)


def trainer_parts(shape: Shape, precision: str, _: float) -> dict[str, float]:
    """Milliseconds of one of Trainer's steps by kind of operation."""
    seen, steps = profile(), itertools.count(1)

    def enough() -> bool:
        step = next(steps)
        if step == WARMUP:
            seen.__enter__()
        return step == WARMUP + LEAST

    run_trainer(shape, precision, enough)
    seen.__exit__(None, None, None)
    return by_part(seen)


def by_part(seen: profile) -> dict[str, float]:
    """What PARTS holds, and the rest, of LEAST profiled steps."""
    times = {event.key: event.self_cpu_time_total / 1000 / LEAST for event in seen.key_averages()}
    found = {part: sum(times.get(name, 0.0) for name in names) for part, names in PARTS.items()}
    return found | {"all else": sum(times.values()) - sum(found.values())}


def batch_share(shape: Shape, precision: str, seconds: float) -> float:
    """Time that gathering and masking one batch takes, over the time of a step."""
    trainer = trainer_of(shape, precision)
    source = batches(trainer.config, trainer.data, 0, 0)
    batch = next(source)
    source.close()
    maker = batch_source(trainer.data, 0, phases(trainer.config)[0])
    making, steps, began = [], [], time.perf_counter()
    while time.perf_counter() - began < seconds or len(steps) < 3:
        start = time.perf_counter()
        maker.batch(len(steps))
        middle = time.perf_counter()
        trainer.train_step(batch)
        settle()
        making.append(middle - start)
        steps.append(time.perf_counter() - middle)
    return statistics.median(making) / statistics.median(steps)


WHAT = {"ours": our_speed, "trainer": trainer_speed, "plain": plain_speed, "loop": loop_cost, "matmul": matmul_share,
        "batch": batch_share, "ours_parts": our_parts, "trainer_parts": trainer_parts,
        **{kind: partial(our_speed, positions=kind) for kind in POSITIONS}}

if __name__ == "__main__":
    what, name, precision, seconds = sys.argv[1:]
    print(json.dumps(WHAT[what](SHAPES[name], precision, float(seconds))))
