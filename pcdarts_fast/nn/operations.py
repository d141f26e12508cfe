"""The candidate operations as modules (paper section 4.1), shared by super-net and derived network.

Parameter names are those of the published checkpoints. All modules map [B, C_in, H, W] to
[B, C_out, H/stride, W/stride], rounded up where H or W is odd.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError, did_you_mean


class Zero(nn.Module):
    """No connection: zeros of the output's shape."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class Identity(nn.Module):
    """The skip connection of stride 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class ReLUConvBN(nn.Module):
    """ReLU, convolution, batch-norm: the 1x1 preprocessing of a cell's inputs."""

    def __init__(self, C_in: int, C_out: int, *, affine: bool = True) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(C_in, C_out, 1, bias=False),
            nn.BatchNorm2d(C_out, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)  # type: ignore[no-any-return]


class FactorizedReduce(nn.Module):
    """Halves H and W: two strided 1x1 convolutions, the second a pixel further, and batch-norm.

    An odd `C_out` gives the first convolution the extra channel, an odd H or W is padded by a row
    or column of zeros; the published code refuses both.
    """

    def __init__(self, C_in: int, C_out: int, *, affine: bool = True) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(C_in, C_out - C_out // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(C_in, max(C_out // 2, 1), 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(C_out, affine=affine)
        if C_out == 1:  # torch has no convolution to zero channels, its weight can be empty
            self.conv_2.weight = nn.Parameter(self.conv_2.weight.detach()[:0])

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        if x.shape[2] % 2 or x.shape[3] % 2:
            x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        if x.shape[1] < 8 and x.stride(1) == 1:
            # Channels last, torch 2.14.1 gives these convolutions wrong gradients of their weights,
            # or writes beyond its memory (AVX2). `contiguous` leaves a single channel as it is.
            x = x.clone(memory_format=torch.contiguous_format)
        halves = [self.conv_1(x)]
        if self.conv_2.weight.numel():
            halves.append(self.conv_2(x[:, :, 1:, 1:]))
        return self.bn(torch.cat(halves, 1))  # type: ignore[no-any-return]


class DilConv(nn.Module):
    """ReLU, depthwise convolution of dilation 2, pointwise convolution, batch-norm."""

    def __init__(self, C_in: int, C_out: int, kernel: int, stride: int, *, affine: bool) -> None:
        super().__init__()
        self.op = nn.Sequential(
            *_depthwise_separable(C_in, C_out, kernel, stride, dilation=2, affine=affine)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)  # type: ignore[no-any-return]


class SepConv(nn.Module):
    """Twice: ReLU, depthwise convolution, pointwise convolution, batch-norm."""

    def __init__(self, C_in: int, C_out: int, kernel: int, stride: int, *, affine: bool) -> None:
        super().__init__()
        self.op = nn.Sequential(
            *_depthwise_separable(C_in, C_in, kernel, stride, dilation=1, affine=affine),
            *_depthwise_separable(C_in, C_out, kernel, 1, dilation=1, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)  # type: ignore[no-any-return]


def _depthwise_separable(
    C_in: int, C_out: int, kernel: int, stride: int, *, dilation: int, affine: bool
) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(C_in, C_in, kernel, stride, padding, dilation=dilation, groups=C_in, bias=False),
        nn.Conv2d(C_in, C_out, 1, bias=False),
        nn.BatchNorm2d(C_out, affine=affine),
    ]


Factory = Callable[[int, int, bool], nn.Module]
"""(C, stride, affine) -> a module that maps [B, C, H, W] to [B, C, H/stride, W/stride]."""

OPERATIONS: dict[str, Factory] = {
    "none": lambda C, stride, affine: Zero(stride),
    "max_pool_3x3": lambda C, stride, affine: nn.MaxPool2d(3, stride, 1),
    "avg_pool_3x3": lambda C, stride, affine: nn.AvgPool2d(3, stride, 1, count_include_pad=False),
    "skip_connect": lambda C, stride, affine: (
        Identity() if stride == 1 else FactorizedReduce(C, C, affine=affine)
    ),
    "sep_conv_3x3": lambda C, stride, affine: SepConv(C, C, 3, stride, affine=affine),
    "sep_conv_5x5": lambda C, stride, affine: SepConv(C, C, 5, stride, affine=affine),
    "dil_conv_3x3": lambda C, stride, affine: DilConv(C, C, 3, stride, affine=affine),
    "dil_conv_5x5": lambda C, stride, affine: DilConv(C, C, 5, stride, affine=affine),
}
"""Every known primitive. Add your own candidate operation: `OPERATIONS["name"] = factory`."""

_BUILT_IN = dict(OPERATIONS)


def is_built_in(primitive: str) -> bool:
    """Whether it is one of this file's, and no other has been put in its place."""
    return primitive in _BUILT_IN and OPERATIONS.get(primitive) is _BUILT_IN[primitive]


def make_operation(primitive: str, C: int, stride: int, *, affine: bool) -> nn.Module:
    """The candidate operation `primitive` on C channels.

    Raises:
        UserError: `primitive` is not in OPERATIONS.
    """
    if primitive not in OPERATIONS:
        hint = did_you_mean(primitive, OPERATIONS)
        raise UserError(f"unknown primitive {primitive!r}{hint}; known: {', '.join(OPERATIONS)}")
    return OPERATIONS[primitive](C, stride, affine)
