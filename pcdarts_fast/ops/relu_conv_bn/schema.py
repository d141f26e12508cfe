"""The kernels of relu_conv_bn: their schemas, and their results' shapes for tracing.

`linear` leaves out the ReLU, `plain` the batch-norm. The oracles are the eager modules one floor
up: ReLUConvBN and FactorizedReduce.
"""

from __future__ import annotations

from torch import Tensor

from .._registry import define
from ..dense import accumulation_dtype
from ..processes import define_synchronized

FORWARD = (
    "relu_conv_bn_fwd(Tensor x, Tensor[] weights, Tensor? running_mean, Tensor? running_variance,"
    " int stride, float eps, bool linear, bool plain) -> (Tensor, Tensor, Tensor)"
)
BACKWARD = (
    "relu_conv_bn_bwd(Tensor grad_out, Tensor x, Tensor[] weights, Tensor out, Tensor variance,"
    " int stride, float eps, bool training, bool need_x, bool need_weights, bool linear,"
    " bool plain) -> (Tensor, Tensor[])"
)


def _forward_fake(
    x: Tensor,
    weights: list[Tensor],
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    stride: int,
    eps: float,
    linear: bool,
    plain: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    B, _, H, W = x.shape
    C_out = sum(weight.shape[0] for weight in weights)
    wide = accumulation_dtype(x.dtype)
    norms = C_out if running_mean is None and not plain else 0
    out = x.new_empty(B, C_out, H // stride, W // stride)
    return out, x.new_empty(norms, dtype=wide), x.new_empty(norms, dtype=wide)


def _backward_fake(
    grad_out: Tensor,
    x: Tensor,
    weights: list[Tensor],
    out: Tensor,
    variance: Tensor,
    stride: int,
    eps: float,
    training: bool,
    need_x: bool,
    need_weights: bool,
    linear: bool,
    plain: bool,
) -> tuple[Tensor, list[Tensor]]:
    wide = accumulation_dtype(x.dtype)
    grad_weights = [x.new_empty(weight.shape, dtype=wide) for weight in weights]
    return x.new_empty(x.shape if need_x else (0,)), grad_weights if need_weights else []


for _define in (define, define_synchronized):
    _define(FORWARD, fake=_forward_fake)
    _define(BACKWARD, fake=_backward_fake)
