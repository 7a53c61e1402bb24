"""What computes: the processor's threads, or a graphics card."""

from __future__ import annotations

import torch

from anycalo.errors import CommandError


def use_processor(device: str, threads: int | None) -> None:
    """Set the number of threads, and check that the device is there.

    Raises:
        CommandError: for fewer than one thread, or a graphics card that PyTorch does not find.
    """
    if threads is not None:
        if threads < 1:
            raise CommandError(f"{threads} threads asked for; expected at least 1")
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise CommandError("device is cuda, but PyTorch finds no graphics card; expected cpu, or a CUDA build of PyTorch")
