"""Which channels a mixed operation or a whole cell samples at a call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ..ops.channels import Sampling

Mix = Callable[[list[Tensor], list[int] | None], Tensor]
"""(states [B, C, H, W], the channels in the order they are sampled) -> [B, n * C, H', W']."""


def mix_sampled(mix: Mix, states: list[Tensor], sampling: Sampling, training: bool) -> Tensor:
    """mix(states, permutation): with "random" drawn anew in training, in order in evaluation.

    The permutation is None for the other samplings.
    """
    C = states[0].shape[1]
    if sampling != "random":
        return mix(states, None)
    if not training:
        return mix(states, list(range(C)))
    order = torch.randperm(C, device="cpu")  # whatever the default device is: it is read below
    if isinstance(order, FakeTensor):  # without values, and any order is as large
        return mix(states, list(range(C)))
    if not torch.compiler.is_compiling():
        return mix(states, order.tolist())
    # The kernels' tables are constants to a tracer, so in its graph the channels move instead.
    order = order.to(states[0].device)
    mixed = mix([state[:, order] for state in states], list(range(C)))
    nodes: Tensor = mixed.unflatten(1, (-1, C))[:, :, order.argsort()]  # [B, n, C, H', W']
    return nodes.flatten(1, 2)
