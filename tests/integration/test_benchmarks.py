"""The sides of the speed benchmark: each takes its steps at a tiny shape, and the plain loop learns."""
import math

import pytest
import torch

from tests.benchmarks.measure import our_speed
from tests.benchmarks.plain import FIRST, MASK, Bert, masked, plain_speed, train_step
from tests.benchmarks.trainer_baseline import trainer_speed
from tests.benchmarks.workload import LEAST, WARMUP, Shape

TINY = Shape("tiny", layers=1, width=16, heads=2, length=8, rows=4, vocabulary=64)


@pytest.mark.parametrize("speed", [our_speed, plain_speed, trainer_speed])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_side_takes_its_steps(monkeypatch, speed, precision):
    """Each moves its weights as often as it counts steps."""
    steps, step = [], torch.optim.AdamW.step

    def counted(optimizer, *arguments, **more):
        before = [weight.detach().clone() for group in optimizer.param_groups for weight in group["params"]]
        result = step(optimizer, *arguments, **more)
        after = [weight for group in optimizer.param_groups for weight in group["params"]]
        steps.append(any(not torch.equal(*pair) for pair in zip(before, after, strict=True)))
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
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
