"""How a batch is divided among processes."""
import pytest
import torch

from study import StudyError
from study.training.parallel import Processes, join


@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_part_of_a_batch_belongs_to_one_process(count):
    parts = list(range(8))
    shares = [Processes(rank, count).part(parts) for rank in range(count)]
    assert sorted(part for share in shares for part in share) == parts
    assert {len(share) for share in shares} == {8 // count}


def test_more_processes_than_parts_are_rejected():
    with pytest.raises(StudyError, match="can be divided among 2 processes, but 3 were started; start fewer"):
        Processes(0, 3).part([0, 1])


@pytest.mark.parametrize(("has_gpu", "backend", "options"), [
    (False, "gloo", {}), (True, "nccl", {"device_id": torch.device("cuda", 1)})])
def test_processes_are_connected_by_their_gpus_if_there_are_any(monkeypatch, has_gpu, backend, options):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *names, **more: calls.append((names, more)))
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert join() == Processes(3, 4, 1)
    assert calls == [((backend,), options)]
