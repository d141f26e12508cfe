"""The oracle of `partial_mix`; the mixed operation has its own, nn/naive.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nn.naive import channel_shuffle
from ..ops.channels import Table, channel_tables


def naive_partial_mix(
    outputs: Sequence[Tensor],
    weights: Tensor,
    x: Tensor,
    *,
    k: int,
    stride: int = 1,
    tables: tuple[Table, Table] | None = None,
) -> Tensor:
    """What everybody writes in plain torch: weigh, sum, pool, cat, reorder; a copy at each."""
    B, C, H, W = x.shape
    source, destination = tables or channel_tables(C, k)
    bypass = x[:, list(source[C // k :])]
    if stride == 2 and k > 1:  # max_pool2d refuses a tensor without channels
        bypass = F.max_pool2d(bypass, 2, 2)
    mixed = x.new_zeros(B, C // k, H // stride, W // stride)
    for i, (weight, output) in enumerate(zip(weights, outputs, strict=True)):
        mixed = weight * output if i == 0 else mixed + weight * output
    cat = mixed if k == 1 else torch.cat([mixed, bypass], 1)
    if tables is None:
        return channel_shuffle(cat, k)
    return cat[:, [destination.index(c) for c in range(C)]]
