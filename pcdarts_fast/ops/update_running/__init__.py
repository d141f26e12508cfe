"""update_running: the running statistics of many batch-norms, in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from .._registry import define, implements, kernel

define(
    "update_running_(Tensor(a!)[] running_mean, Tensor(b!)[] running_variance,"
    " Tensor(c!)[] batches, Tensor mean, Tensor variance, SymInt count, float momentum) -> ()",
    fake=lambda *_: None,
)


@implements("update_running_", "reference")
def _reference(
    running_mean: list[Tensor],
    running_variance: list[Tensor],
    batches: list[Tensor],
    mean: Tensor,
    variance: Tensor,
    count: int,
    momentum: float,
) -> None:
    unbiased = variance * (count / (count - 1))
    for running, batch in ((running_mean, mean), (running_variance, unbiased)):
        torch._foreach_lerp_(running, list(batch.to(running[0].dtype).unbind()), momentum)
    torch._foreach_add_(batches, 1)


def update_running(
    running_mean: Sequence[Tensor],
    running_variance: Sequence[Tensor],
    batches: Sequence[Tensor],
    mean: Tensor,
    variance: Tensor,
    *,
    count: int,
    momentum: float,
    backend: str,
) -> None:
    """What nn.BatchNorm2d does in training, to N batch-norms of C channels in place.

    Args:
        running_mean, running_variance: N tensors [C], any floating dtype; batches: N counters.
        mean, variance: of the batch, [N, C], the variance biased, over `count` > 1 values a
            channel; without gradient.
        momentum: the share of the batch in the new running value.
        backend: a resolved name; cpu and cuda have a kernel of their own.

    Raises:
        RuntimeError: a number of tensors, of channels or a dtype does not fit; nothing is changed.
    """
    own = backend in ("cpu", "cuda")
    kernel("update_running_", backend if own else "reference")(
        running_mean, running_variance, batches, mean, variance, count, momentum
    )
    if own and not torch.compiler.is_compiling():  # for graphs that have saved them
        increment_version([*running_mean, *running_variance, *batches])
