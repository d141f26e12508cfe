"""What the second-order step and the Hessian monitor share: gradients at parameters moved aside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Batch
from ..nn.search_network import SearchNetwork
from ..run.processes import Processes


def gradients(
    network: SearchNetwork, batch: Batch, parameters: Sequence[nn.Parameter], group: Processes
) -> list[Tensor]:
    """Of the loss on the batch, averaged over the processes, each with a batch of its own.

    Torch's generator is left as it was: calls in a row sample the same channels, so that their
    differences are those of one function.
    """
    images, labels = batch
    with torch.random.fork_rng(devices=[]):  # channels are drawn on the CPU
        loss = F.cross_entropy(network(images), labels)
    return group.average(
        torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    )


@torch.no_grad()
def assign(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copies the values, of any shapes with as many elements, into the parameters."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value.view_as(parameter))


@contextmanager
def restored(network: SearchNetwork, parameters: Sequence[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Yields copies of the parameters; puts them and the batch-norm statistics back at the end."""
    kept = [*parameters, *network.buffers()]
    copies = [tensor.detach().clone() for tensor in kept]
    try:
        yield copies[: len(parameters)]
    finally:
        assign(kept, copies)
