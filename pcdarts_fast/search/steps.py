"""The two steps that a search alternates. Each computes the gradients it uses and no others."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from ..data import Batch
from ..nn.search_network import SearchNetwork
from ..run.tally import tally
from .unrolled import unrolled_gradient


def weight_step(
    network: SearchNetwork, optimizer: Optimizer, batch: Batch, *, grad_clip: float
) -> Tensor:
    """One step of the weights; `tally` of the batch before it."""
    images, labels = batch
    optimizer.zero_grad()
    with network.learning("weights"):
        logits = network(images)  # [B, num_classes]
        F.cross_entropy(logits, labels).backward()
    clip_grad_norm_(network.weight_parameters(), grad_clip)
    optimizer.step()
    return tally(logits.detach(), labels)


def architecture_step(
    network: SearchNetwork,
    arch_optimizer: Optimizer,
    batch: Batch,
    *,
    grad_clip: float | None,
    unrolled: tuple[Optimizer, Batch] | None = None,
) -> None:
    """One step of alpha and beta on a `batch` that the weights do not learn from.

    With `unrolled`, the weights' optimizer and the batch of their next step, the gradient is of
    second order (see `unrolled_gradient`).
    """
    images, labels = batch
    arch_optimizer.zero_grad()
    if unrolled is None:
        with network.learning("architecture"):
            F.cross_entropy(network(images), labels).backward()
    else:
        gradients = unrolled_gradient(network, *unrolled, batch)
        for parameter, gradient in zip(network.arch_parameters(), gradients, strict=True):
            parameter.grad = gradient
    if grad_clip is not None:
        clip_grad_norm_(network.arch_parameters(), grad_clip)
    arch_optimizer.step()
