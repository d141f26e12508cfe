"""The dominant eigenvalue of the architecture Hessian, as a monitor.

Where it grows, a search tends to architectures that do badly on their own (Zela et al.,
arXiv 1909.09656).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ..data import Batch
from ..nn.search_network import SearchNetwork
from ..run.processes import Processes
from .gradients import assign, gradients, restored

ITERATIONS = 12
"""Of the power iteration."""

STEP = 0.01
"""Length of the finite difference, of a direction of norm 1: the curvature at this scale, which
kinks of the loss (ReLU, max-pool) take part in. Float32 does not resolve much shorter ones."""


def dominant_eigenvalue(
    network: SearchNetwork, batch: Batch, group: Processes | None = None
) -> float:
    """Largest eigenvalue in absolute value of d2 L(batch) / d arch2, by power iteration.

    H v is a central difference of architecture gradients, averaged over processes. Alpha, beta and
    the batch-norm statistics are left as they were.
    """
    group = group or Processes()
    arch = network.arch_parameters()
    sizes = [parameter.numel() for parameter in arch]
    with restored(network, arch) as kept:
        start = torch.cat([tensor.flatten() for tensor in kept])

        def gradient(at: Tensor) -> Tensor:
            assign(arch, at.split(sizes))
            with network.learning("architecture"):
                parts = gradients(network, batch, arch, group)
            return torch.cat([part.flatten() for part in parts])

        direction = torch.randn(len(start), generator=Generator().manual_seed(0)).to(start)
        eigenvalue = torch.zeros(())
        for _ in range(ITERATIONS):
            direction = direction / direction.norm().clamp_min(1e-30)
            product = gradient(start + STEP * direction) - gradient(start - STEP * direction)
            product = product / (2 * STEP)
            eigenvalue, direction = direction @ product, product
    return float(eigenvalue)
