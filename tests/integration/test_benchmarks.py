"""The sides of the speed benchmark train: each takes its steps at a tiny shape, and the plain loop learns."""
import pytest
import torch

from tests.benchmarks.measure import our_speed
from tests.benchmarks.plain import FIRST, MASK, Bert, masked, plain_speed
from tests.benchmarks.trainer_baseline import trainer_speed
from tests.benchmarks.workload import Shape

TINY = Shape("tiny", layers=1, width=16, heads=2, length=8, rows=4, vocabulary=64)


@pytest.mark.parametrize("speed", [our_speed, plain_speed, trainer_speed])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_side_trains(speed, precision):
    assert speed(TINY, precision, 0.01) > 0


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


def test_the_plain_model_learns_its_rows():
    torch.manual_seed(0)
    model = Bert(TINY)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    shown, positions, targets = masked(torch.randint(FIRST, TINY.vocabulary, (TINY.rows, TINY.length)), TINY.vocabulary)
    losses = []
    for _ in range(60):
        loss = model(shown, positions, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(torch.tensor(float(TINY.vocabulary)).log().item(), abs=0.3)
    assert losses[-1] < 0.1
