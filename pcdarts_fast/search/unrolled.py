"""The second-order architecture gradient of DARTS (arXiv 1806.09055, section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data import Batch
from ..nn.search_network import SearchNetwork
from ..run.processes import Processes
from .gradients import assign, gradients, restored

STEP = 0.01
"""Length of the finite difference, as in DARTS: epsilon = 0.01 / |gradient|."""


def unrolled_gradient(
    network: SearchNetwork,
    optimizer: Optimizer,
    train_batch: Batch,
    valid_batch: Batch,
    group: Processes | None = None,
) -> list[Tensor]:
    """d L_valid(w', arch) / d arch, where w' is w after the next step of `optimizer` (eq. 6).

    result = grad_arch L_valid(w') - r H v,   v = grad_w' L_valid(w')                     (eq. 7)
    H v = (grad_arch L_train(w + e v) - grad_arch L_train(w - e v)) / 2e,  e = 0.01 / |v|  (eq. 8)

    One tensor for each of `network.arch_parameters()`. `optimizer` is SGD over
    `network.weight_parameters()`; r is its learning rate. The step to w' has its momentum and
    weight decay; its gradient is not clipped, as those of a search's own steps are. Weights,
    batch-norm statistics and the optimizer are left as they were. Every gradient is averaged over
    the processes of `group`, each with batches of its own.
    """
    group = group or Processes()
    weights, arch = network.weight_parameters(), network.arch_parameters()
    rate = optimizer.param_groups[0]["lr"]
    with restored(network, weights) as start:
        with network.learning("weights"):
            step = gradients(network, train_batch, weights, group)
        assign(weights, _next_weights(optimizer, weights, step))
        both = gradients(network, valid_batch, [*arch, *weights], group)
        outer, direction = both[: len(arch)], both[len(arch) :]
        epsilon = STEP / torch.cat([part.flatten() for part in direction]).norm()
        sides = []
        for shift in (epsilon, -epsilon):
            assign(weights, [w + shift * v for w, v in zip(start, direction, strict=True)])
            with network.learning("architecture"):
                sides.append(gradients(network, train_batch, arch, group))
    return [
        gradient - rate * (plus - minus) / (2 * epsilon)
        for gradient, plus, minus in zip(outer, *sides, strict=True)
    ]


@torch.no_grad()
def _next_weights(
    optimizer: Optimizer, weights: Sequence[nn.Parameter], grads: Sequence[Tensor]
) -> list[Tensor]:
    settings = optimizer.param_groups[0]
    result = []
    for weight, gradient in zip(weights, grads, strict=True):
        step = gradient + settings["weight_decay"] * weight
        buffer = optimizer.state.get(weight, {}).get("momentum_buffer")
        if buffer is not None:
            step = step + settings["momentum"] * buffer
        result.append(weight - settings["lr"] * step)
    return result
