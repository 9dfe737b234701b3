"""The sides of the benchmarks of speed: each takes its steps at a tiny shape, and the plain loop learns."""
import json
import math
import re

import pytest
import torch

from study.training.trainer import batches
from tests.benchmarks import clone, finetuning, measure, table
from tests.benchmarks.measure import our_speed
from tests.benchmarks.plain import FIRST, MASK, Bert, masked, plain_speed, train_step
from tests.benchmarks.trainer_baseline import trainer_speed
from tests.benchmarks.workload import LEAST, POSITIONS, SHAPES, WARMUP, Shape, config_of, data_of
from tests.support.studies import ROOT

TINY = Shape("tiny", layers=1, width=16, heads=2, length=8, rows=4, vocabulary=64)


@pytest.fixture
def steps(monkeypatch) -> list[bool]:
    """Whether each step of AdamW has moved a weight."""
    steps, step = [], torch.optim.AdamW.step

    def counted(optimizer, *arguments, **more):
        before = [weight.detach().clone() for group in optimizer.param_groups for weight in group["params"]]
        result = step(optimizer, *arguments, **more)
        after = [weight for group in optimizer.param_groups for weight in group["params"]]
        steps.append(any(not torch.equal(*pair) for pair in zip(before, after, strict=True)))
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    return steps


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_our_side_trains_on_rows_of_the_shape(shape):
    """Its speed counts that many tokens for each step."""
    config = config_of(shape)
    source = batches(config, data_of(shape, 20_000), 0, 0)
    assert next(source).input_ids.shape == (shape.rows, shape.length)
    source.close()
    assert (config.model.hidden_size, config.model.num_hidden_layers) == (shape.width, shape.layers)


@pytest.mark.parametrize("speed", [our_speed, plain_speed, trainer_speed])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_side_takes_its_steps(steps, speed, precision):
    """Each moves its weights as often as it counts steps."""
    assert speed(TINY, precision, 0.01) > 0
    assert len(steps) > WARMUP + LEAST
    assert sum(steps) >= len(steps) - 1     # a learning rate may be 0 at the first step of a warm-up


def test_the_plain_loop_corrupts_15_percent_by_80_10_10():
    torch.manual_seed(0)
    ids = torch.randint(FIRST, 1000, (400, 512))
    ids[:, 0] = 2
    shown, positions, targets = masked(ids, 1000)
    selected = torch.zeros(ids.numel(), dtype=torch.bool)
    selected[positions] = True
    before, after = ids.flatten(), shown.flatten()
    assert torch.equal(before[positions], targets)
    assert torch.equal(after[~selected], before[~selected])
    assert not selected.view_as(ids)[:, 0].any()
    assert selected.float().mean() == pytest.approx(0.15, abs=0.005)
    assert (after[positions] == MASK).float().mean() == pytest.approx(0.8, abs=0.01)
    assert (after[positions] == targets).float().mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_plain_loop_learns_what_follows_from_a_row(precision):
    torch.manual_seed(0)
    model = Bert(TINY)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, fused=True)
    rows = torch.randint(FIRST, TINY.vocabulary, (1, 1)).expand(64, TINY.length)     # one word, again and again
    losses = [train_step(model, optimizer, rows, TINY.vocabulary, precision) for _ in range(40)]
    assert losses[0] == pytest.approx(math.log(TINY.vocabulary), abs=0.3)
    assert losses[-1] < 0.1


# ---- fine-tuning

@pytest.mark.parametrize("side", finetuning.SPEEDS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_sides_fine_tune_on_every_text_once(monkeypatch, steps, side, precision):
    texts, seen, embedding = finetuning.texts_of(TINY, 70), [], torch.nn.functional.embedding

    def counted(ids, weight, *arguments, **more):
        if len(weight) == TINY.vocabulary:
            seen.append(int((ids != 0).sum()))
        return embedding(ids, weight, *arguments, **more)

    monkeypatch.setattr(torch.nn.functional, "embedding", counted)
    assert finetuning.SPEEDS[side](TINY, texts, precision) > 0
    assert len(steps) == math.ceil(70 / finetuning.DEFAULT.batch_size)
    assert sum(steps) >= len(steps) - 1
    assert sum(seen) == sum(map(len, texts.ids))                        # tokens, without padding


def test_both_sides_of_fine_tuning_take_turns(monkeypatch):
    order = []
    monkeypatch.setattr(finetuning, "SPEEDS", {
        side: lambda shape, texts, precision, side=side: order.append((side, precision)) or len(order)
        for side in ("trainer", "ours")})
    measured = finetuning.run(TINY, finetuning.texts_of(TINY, 4), 2)
    assert [side for side, _ in order] == ["trainer", "ours"] * 4
    assert measured == {"trainer": {"float32": [1, 3], "bfloat16": [5, 7]},
                        "ours": {"float32": [2, 4], "bfloat16": [6, 8]}}
    summary = finetuning.summary(measured)
    assert summary["sides"] == {"trainer": ("bfloat16", 6), "ours": ("bfloat16", 7)}
    assert summary["ratio"] == {"ratio": 7 / 6, "low": 8 / 7, "high": 6 / 5}


WHEN = {"date": "2020-01-01", "commit": "abcdef0"}


@pytest.fixture
def made_up_speed(monkeypatch, tmp_path):
    """The results of speed.py, and no others."""
    monkeypatch.setattr(table, "RESULTS", tmp_path / "benchmarks")
    table.RESULTS.mkdir()
    numbers = {precision: [1.0, 2.0] for precision in ("float32", "bfloat16")}
    kinds = dict.fromkeys(("trainer", "plain", "ours", "matmul", "loop", "batch", *POSITIONS), numbers)
    (table.RESULTS / "speed.json").write_text(json.dumps(WHEN | {
        "hardware": {"cores": 2, "processor": "made up", "gpu": None}, "seconds": 1.0, "warmup": 1,
        "versions": {"torch": "0", "transformers": "0"}, "measured": dict.fromkeys(SHAPES, kinds),
        "parts": dict.fromkeys(SHAPES, dict.fromkeys(("trainer", "ours"), {"all else": 1.0}))}))


def test_the_page_has_the_speed_of_fine_tuning_once_it_is_measured(made_up_speed):
    assert "Fine-tuning" not in table.write_table().read_text()
    (table.RESULTS / "finetuning.json").write_text(json.dumps(WHEN | {
        "workload": "a workload", "rows": 6400, "mean_length": 41.6,
        "measured": {"trainer": {"float32": [900.0, 1000.0], "bfloat16": [10.0, 10.0]},
                     "ours": {"float32": [3000.0, 2000.0], "bfloat16": [20.0, 20.0]}}}))
    page = table.write_table().read_text()
    assert "6,400 texts of 42 tokens" in page
    assert "| a workload | 950 (float32) | 2,500 (float32) | **2.6** (2.0 to 3.3) |" in page


def test_the_page_has_the_way_from_a_clone_to_a_report_once_it_is_measured(made_up_speed):
    (table.RESULTS / "clone.json").write_text(json.dumps(WHEN | {
        "install": 61.2, "quick": 330.0, "cells": 32, "cell": {"training": 14.0, "besides": 5.25, "idle_run": 11.0},
        "dependencies": {"small": {"module": "small", "seconds": 0.1, "megabytes": 1.0},
                         "large": {"module": "large", "seconds": 1.5, "megabytes": 700.0}}}))
    page = table.write_table().read_text()
    assert "| `make study` after it, 32 cells | 5.5 min |" in page
    assert "| a cell apart from training | 5.2 processor-seconds |" in page
    assert page.index("| large | 700.0 | 1.50 |") < page.index("| small | 1.0 | 0.10 |")


def test_the_page_has_the_time_of_a_step_with_each_kind_of_positions(made_up_speed):
    path = table.RESULTS / "speed.json"
    speed = json.loads(path.read_text())
    speed["measured"]["small"]["rotary"] = {"float32": [0.8, 1.6], "bfloat16": [0.8, 2.5]}
    path.write_text(json.dumps(speed))
    assert "| +0.0 % (+0.0 to +0.0) | +25.0 % (+25.0 to +25.0) | +0.0 %" in table.write_table().read_text()


@pytest.mark.parametrize("kind", POSITIONS)
def test_our_side_can_have_every_kind_of_positions(kind, steps):
    assert config_of(TINY, positions=kind).model.positions == kind
    assert measure.WHAT[kind](TINY, "float32", 0.01) > 0
    assert len(steps) > WARMUP + LEAST


def test_the_direct_dependencies_are_those_of_pyproject():
    names = clone.direct_dependencies()
    assert {"torch", "scikit-learn", "ruamel.yaml", "dvc"} <= set(names)
    assert not [name for name in names if set(name) & set("<>=[; ")]


def test_make_bench_measures_everything_that_the_page_shows():
    """speed.py comes last, since it writes the page."""
    target = re.search(r"^bench:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    assert re.findall(r"tests\.benchmarks\.(\w+)", target) == ["harness", "precision", "finetuning", "clone", "speed"]
