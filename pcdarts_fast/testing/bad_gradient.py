"""A module that gets a gradient which is not finite."""

from __future__ import annotations

from torch import Tensor, nn


class BadGradient(nn.Module):
    """`module`, the gradient of whose output [B, C, H, W] holds `bad` in the middle of the first
    map."""

    def __init__(self, module: nn.Module, bad: float) -> None:
        super().__init__()
        self.module = module
        self.bad = bad

    def forward(self, *tensors: Tensor) -> Tensor:
        out: Tensor = self.module(*tensors)
        out.register_hook(self._spoilt)
        return out

    def _spoilt(self, grad: Tensor) -> Tensor:
        grad = grad.clone()
        grad[0, 0, grad.shape[2] // 2, grad.shape[3] // 2] = self.bad
        return grad
