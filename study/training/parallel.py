"""One training run by several processes, as `torchrun` starts them: each takes its part of every batch.

Gradients and losses are sums over what was predicted in the whole batch, so adding up those of the parts gives those
of one process; data order, pairs and masks are functions of (seed, step) and know nothing of processes.
"""
from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import nn

from study import StudyError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together: its rank of `count`, and its number on this machine."""
    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", self.local) if torch.cuda.is_available() else torch.device("cpu")

    def add_gradients(self, model: nn.Module) -> None:
        """Replaces each process's gradients by their sum over all of them."""
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if self.count > 1:
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            torch.distributed.all_reduce(flat)
            for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(total.view_as(gradient))

    def add(self, *numbers: float) -> list[float]:
        """Sums over the processes."""
        if self.count == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return total.tolist()

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            torch.distributed.barrier()

    def part(self, parts: list) -> list:
        """Of equal parts of a batch, those of this process."""
        if len(parts) % self.count:
            raise StudyError(f"a batch has rows for {len(parts)} processes, and {self.count} were started; use fewer")
        return parts[self.rank::self.count]


def join() -> Processes:
    """The processes that torchrun started, or this one alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    processes = Processes(int(os.environ["RANK"]), count, int(os.environ["LOCAL_RANK"]))
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if processes.device.type == "cuda" else "gloo")
    return processes
