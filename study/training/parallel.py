"""Training one cell in several processes, as `torchrun` starts them: each takes its part of every batch.

Losses and their gradients are sums over targets, divided by the number of targets in the whole batch. So the sum over
the processes equals the result of one process. Data order, pairs and masks are functions of the seed and the step, so
they do not depend on the number of processes.
"""
from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import nn

from study import StudyError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together: its rank among `count`, and its number on this machine."""
    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Returns whether this is the process that writes files."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Returns this process's GPU, or the CPU if there is no GPU."""
        return torch.device("cuda", self.local) if torch.cuda.is_available() else torch.device("cpu")

    def add_gradients(self, model: nn.Module) -> None:
        """Replaces the gradients by their sums over the processes."""
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if self.count > 1:
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            torch.distributed.all_reduce(flat)
            for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(total.view_as(gradient))

    def add(self, *numbers: float) -> list[float]:
        """Returns the sum of each number over the processes."""
        if self.count == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return total.tolist()

    def wait(self) -> None:
        """Blocks until every process has called it."""
        if self.count > 1:
            torch.distributed.barrier()

    def part(self, parts: list) -> list:
        """Returns this process's share of the parts of a batch. Raises StudyError if they cannot be shared equally."""
        if len(parts) % self.count:
            raise StudyError(f"a batch can be divided among {len(parts)} processes, but {self.count} were started; "
                             f"start fewer")
        return parts[self.rank::self.count]


def join() -> Processes:
    """Returns the processes that torchrun started, connected to each other; without torchrun, this one."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    processes = Processes(int(os.environ["RANK"]), count, int(os.environ["LOCAL_RANK"]))
    if not torch.distributed.is_initialized():
        if processes.device.type == "cuda":
            torch.distributed.init_process_group("nccl", device_id=processes.device)
        else:
            torch.distributed.init_process_group("gloo")
    return processes
