"""The mixed operation written plainly, with every copy the published code makes.

It is the oracle of the fused engines and the baseline of the benchmarks (paper section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mixed_operation(
    operations: Iterable[nn.Module],
    x: Tensor,
    alpha: Tensor,
    *,
    k: int,
    stride: int,
    sampling: str = "shuffle",
    permutation: Sequence[int] | None = None,
) -> Tensor:
    """One edge: x [B, C, H, W], soft-maxed alpha [P] -> [B, C, H/stride, W/stride]."""
    if permutation is not None:
        x = x[:, torch.as_tensor(permutation, device=x.device)]
    sampled, bypass = x.tensor_split([x.shape[1] // k], 1)
    mixed = sum(a * operation(sampled) for a, operation in zip(alpha, operations, strict=True))
    assert isinstance(mixed, Tensor)
    if stride == 2:  # torch pools no empty tensor
        bypass = F.max_pool2d(bypass, 2, 2) if k > 1 else bypass[:, :, ::2, ::2]
    if sampling == "shift":
        return torch.cat([bypass, mixed], 1)
    y = torch.cat([mixed, bypass], 1)
    if permutation is not None:
        return y[:, torch.as_tensor(permutation, device=x.device).argsort()]
    return channel_shuffle(y, k)


def channel_shuffle(x: Tensor, k: int) -> Tensor:
    """Channel g * C/k + r of x [B, C, H, W] lands in channel r * k + g."""
    B, C, H, W = x.shape
    return x.view(B, k, C // k, H, W).transpose(1, 2).reshape(B, C, H, W)
