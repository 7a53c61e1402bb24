"""Several processes that train together: started by `torchrun`, gradients averaged after every step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among the others.

    Args:
        rank: of this process.
        count: of processes.
        device: that this process computes on.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's rows of a batch that all processes have drawn alike."""
        return batch.tensor_split(self.count)[self.rank]

    def average(self, tensors: list[Tensor], *, weight: float) -> None:
        """Replace tensors by their weighted average over the processes, in place (weights add up to 1)."""
        if self.count == 1:
            return
        flat = torch.cat([t.flatten() for t in tensors]) * weight
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def agree(self, value: float) -> float:
        """The first process's value of a number, on every process."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, src=0)
        return float(shared)

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that `torchrun` started (one alone otherwise), and leave them at the end.

    Args:
        device: `cpu`, `cuda` or `auto`.
    """
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    count = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if count == 1:
        yield Processes(device=place)
        return
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Processes(rank=distributed.get_rank(), count=count, device=place)
    finally:
        distributed.destroy_process_group()
