"""The dominant eigenvalue of the architecture Hessian, as a monitor.

Where it grows, a search tends to architectures that do badly on their own (Zela et al.,
arXiv 1909.09656).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from ..data import Batch
from ..nn.search_network import SearchNetwork
from ..run.processes import Processes

ITERATIONS = 12
"""Of the power iteration."""

STEP = 0.01
"""Length of the finite difference, of a direction of norm 1: the curvature at this scale, which
kinks of the loss (ReLU, max-pool) take part in. Float32 does not resolve much shorter ones."""


def dominant_eigenvalue(
    network: SearchNetwork, batch: Batch, group: Processes | None = None, *, seed: int = 0
) -> float:
    """Largest eigenvalue in absolute value of d2 L(batch) / d arch2, by power iteration.

    H v is a central difference of architecture gradients, averaged over processes. Alpha, beta and
    the batch-norm statistics are left as they were.
    """
    group = group or Processes()
    arch = network.arch_parameters()
    kept = [tensor.detach().clone() for tensor in (*arch, *network.buffers())]
    sizes = [parameter.numel() for parameter in arch]
    start = torch.cat([tensor.flatten() for tensor in kept[: len(arch)]])

    def gradient(at: Tensor) -> Tensor:
        with torch.no_grad():
            for parameter, values in zip(arch, at.split(sizes), strict=True):
                parameter.copy_(values.view_as(parameter))
        images, labels = batch
        with network.learning("architecture"):
            loss = F.cross_entropy(network(images), labels)
            parts = torch.autograd.grad(loss, arch, allow_unused=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in group.average(parts)])

    direction = torch.randn(len(start), generator=Generator().manual_seed(seed)).to(start)
    eigenvalue = torch.zeros(())
    for _ in range(ITERATIONS):
        direction = direction / direction.norm().clamp_min(1e-30)
        product = gradient(start + STEP * direction) - gradient(start - STEP * direction)
        product = product / (2 * STEP)
        eigenvalue, direction = direction @ product, product
    with torch.no_grad():
        for tensor, values in zip((*arch, *network.buffers()), kept, strict=True):
            tensor.copy_(values)
    return float(eigenvalue)
