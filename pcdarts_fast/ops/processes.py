"""What the kernels of a synchronized operator ask of the other processes of a run."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ._registry import define, implements, kernel

define(
    "gather_from_processes(Tensor own, int processes) -> Tensor",
    fake=lambda own, processes: own.new_empty(processes, *own.shape),
)


@implements("gather_from_processes", "cpu")  # on any device: every engine calls this one
def gather(own: Tensor, processes: int) -> Tensor:
    """`own` [...] of every process of the default group, by rank: [processes, ...]."""
    rows = list(own.new_empty(processes, *own.shape))
    dist.all_gather(rows, own)
    return torch.stack(rows)


def total(own: Tensor, processes: int) -> Tensor:
    """The sum of `own` [...] over all processes, in the order of their ranks."""
    return gather(own, processes).sum(0)


def merge_moments(
    mean: Tensor, variance: Tensor, processes: int, rows: Tensor | None = None
) -> None:
    """Makes mean and biased variance of a batch, [N] or `rows` of [N, C], those of all batches."""
    at = slice(None) if rows is None else rows
    own = gather(torch.stack((mean[at], variance[at])), processes)  # [processes, 2, ...]
    overall = own[:, 0].mean(0)
    mean[at] = overall
    variance[at] = (own[:, 1] + (own[:, 0] - overall).square()).mean(0)


def define_synchronized(schema: str, *, fake: Any) -> None:
    """Defines `synchronized_NAME(int processes, ...)` beside a kernel `NAME(...)`.

    It takes batch statistics over the batches, of one size, of all processes, which must all call
    it in the same order; gradients of weights, alpha and beta stay those of the own batch.
    """
    name, _, rest = schema.partition("(")
    define(f"synchronized_{name}(int processes, {rest}", fake=lambda _, *rest: fake(*rest))


def shared_kernel(name: str, backend: str, processes: int) -> Any:
    """The kernel `name`, or its synchronized one where there are others."""
    if processes == 1:
        return kernel(name, backend)
    synchronized = kernel(f"synchronized_{name}", backend)
    return lambda *arguments: synchronized(processes, *arguments)
