"""How much memory a run has taken at most, as the system or the GPU counts it."""

from __future__ import annotations

import resource

import torch

MIB = 2**20


def peak_memory_mib(device: str) -> float:
    """Of this process so far: resident memory, or on "cuda" what PyTorch has allocated there."""
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / MIB, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)  # Linux: KiB
