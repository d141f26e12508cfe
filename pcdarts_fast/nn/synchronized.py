"""Batch-norm with the statistics of all processes' batches together, on any device.

`nn.SyncBatchNorm` does the same on GPUs only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..ops.dense import accumulation_dtype


def synchronize_batch_norms(network: nn.Module) -> None:
    """Makes every `nn.BatchNorm2d` of `network` a synchronized one; its state_dict stays."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            # In place, since the fused operators hold references to them.
            module.__class__ = SynchronizedBatchNorm2d


def sharing(norm: nn.BatchNorm2d) -> int:
    """How many processes share the batch statistics that `norm` takes now."""
    synchronized = norm.training and isinstance(norm, SynchronizedBatchNorm2d)
    return dist.get_world_size() if synchronized else 1


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """What `synchronize_batch_norms` makes of a batch-norm.

    In training all processes of the default group must call it in the same order; their batches
    may differ in size.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> the same shape and dtype."""
        if not self.training:
            return super().forward(x)
        wide = x.to(accumulation_dtype(x.dtype))
        count = wide.new_tensor([x.numel() // x.shape[1]])
        sums = _total(torch.cat([wide.sum((0, 2, 3)), count]))  # [C + 1]
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = wide - mean[:, None, None]
        variance = _total(centred.square().sum((0, 2, 3))) / count  # [C]
        out = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            out = out * self.weight[:, None, None] + self.bias[:, None, None]
        self._advance(mean.detach(), variance.detach() * count / (count - 1))
        return out.to(x.dtype)

    @torch.no_grad()
    def _advance(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)
        self.num_batches_tracked += 1


class _Total(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def _total(values: Tensor) -> Tensor:
    return _Total.apply(values)  # type: ignore[no-any-return]
