"""The two steps that a search alternates. Each computes the gradients it uses and no others."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from ..data import Batch
from ..nn.search_network import SearchNetwork
from ..run.precision import Precision
from ..run.processes import Processes
from ..run.tally import tally
from .unrolled import unrolled_gradient

Forward = Callable[[Tensor], Tensor]
"""The network, or what averages its gradients over processes: images -> logits."""


def weight_step(
    network: SearchNetwork,
    optimizer: Optimizer,
    batch: Batch,
    *,
    grad_clip: float,
    forward: Forward | None = None,
    precision: Precision | None = None,
) -> Tensor:
    """One step of the weights; `tally` of the batch before it."""
    images, labels = batch
    precision = precision or Precision(device=images.device.type)
    optimizer.zero_grad()
    with network.learning("weights"):
        logits = precision.forward(forward or network, images)  # [B, num_classes]
        precision.backward(F.cross_entropy(logits, labels))
    precision.step(optimizer, grad_clip)
    return tally(logits.detach(), labels)


def architecture_step(
    network: SearchNetwork,
    arch_optimizer: Optimizer,
    batch: Batch,
    *,
    grad_clip: float | None,
    forward: Forward | None = None,
    precision: Precision | None = None,
    unrolled: tuple[Optimizer, Batch, Processes] | None = None,
) -> None:
    """One step of alpha and beta on a `batch` that the weights do not learn from.

    With `unrolled`, the weights' optimizer, the batch of their next step and the processes to
    average over, the gradient is of second order (see `unrolled_gradient`), in float32.
    """
    images, labels = batch
    precision = precision or Precision(device=images.device.type)
    arch_optimizer.zero_grad()
    if unrolled is None:
        with network.learning("architecture"):
            logits = precision.forward(forward or network, images)  # [B, num_classes]
            precision.backward(F.cross_entropy(logits, labels))
    else:
        optimizer, train_batch, group = unrolled
        gradients = unrolled_gradient(network, optimizer, train_batch, batch, group)
        for parameter, gradient in zip(network.arch_parameters(), gradients, strict=True):
            parameter.grad = gradient
    precision.step(arch_optimizer, grad_clip)
