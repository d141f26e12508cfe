"""relu_conv_bn: ReLU, 1x1 convolution and batch-norm as one operator that keeps only its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from .._registry import implements_in_triton
from ..checks import check_devices, check_even, check_maps, check_stride
from ..dense import accumulation_dtype, dense, dense_statistics, in_dtypes_of, kept_state
from ..once import once_differentiable
from ..processes import shared_kernel
from . import schema as schema  # registers the schemas

implements_in_triton(
    __name__,
    relu_conv_bn_fwd="forward",
    relu_conv_bn_bwd="backward",
    synchronized_relu_conv_bn_fwd="synchronized_forward",
    synchronized_relu_conv_bn_bwd="synchronized_backward",
)


class _ReluConvBn(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        stride: int,
        eps: float,
        backend: str,
        running: tuple[Tensor, Tensor] | None,
        plain: bool,
        processes: int,
        x: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = accumulation_dtype(x.dtype)
        out, mean, variance = shared_kernel("relu_conv_bn_fwd", backend, processes)(
            x,
            dense(weights, wide),
            *dense_statistics(running, wide),
            stride,
            eps,
            plain,
            plain,
        )
        ctx.constants = stride, eps, backend, running is None, plain, processes
        ctx.save_for_backward(x, out, running[1] if running else variance, *weights)
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)  # no zeros for them
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *_: Tensor) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * len(ctx.needs_input_grad)
        stride, eps, backend, training, plain, processes = ctx.constants
        x, out, variance, *weights = ctx.saved_tensors
        need_x, *need_each_weight = ctx.needs_input_grad[6:]
        need_weights = any(need_each_weight)
        wide = accumulation_dtype(grad.dtype)
        grad_x, grad_weights = shared_kernel("relu_conv_bn_bwd", backend, processes)(
            *dense([grad, x], grad.dtype),
            dense(weights, wide),
            *dense([out], grad.dtype),
            *dense([variance], wide),
            stride,
            eps,
            training,
            need_x,
            need_weights,
            plain,
            plain,
        )
        return (
            *(None,) * 6,
            grad_x if need_x else None,
            *in_dtypes_of(weights, grad_weights),
        )


def relu_conv_bn(
    x: Tensor,
    weights: Sequence[Tensor],
    *,
    stride: int,
    eps: float,
    running: tuple[Tensor, Tensor] | None,
    backend: str,
    processes: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """batch_norm(conv1x1(relu(x))) without scale and shift: a cell's preprocessing.

    Args:
        x: [B, C_in, H, W], of the backend's `DTYPES` (sums of the 16-bit ones in float32).
        weights: stride 1: one tensor [C_out, C_in, 1, 1]. Stride 2 (factorized reduction): two,
            of the pixels (2y, 2x) and (2y + 1, 2x + 1), whose outputs are concatenated.
        running: mean and variance [C_out] to normalise with; None: the batch's own.
        backend: a resolved name, see `_registry.resolve`.
        processes: without `running`, how many share their batch's statistics, see `processes.py`.

    Returns:
        [B, C_out, H/stride, W/stride]; the batch's mean and biased variance [C_out] (empty with
        `running`).

    Raises:
        UserError: the shape or dtype of x, the stride, or the shape or device of a weight does not
            fit.
    """
    C_in = weights[0].shape[1]
    check_maps("x", x, C_in, backend)
    check_stride(stride)
    check_even("x", x, stride)
    check_devices(x, weights=weights)
    for i, weight in enumerate(weights):
        if weight.shape[1:] != (C_in, 1, 1) or len(weights) != stride:
            raise UserError(
                f"weights[{i}] of {len(weights)}: got {list(weight.shape)}, "
                f"wanted [C_out, {C_in}, 1, 1], {stride} of them for stride {stride}"
            )
    out: tuple[Tensor, Tensor, Tensor] = _ReluConvBn.apply(
        stride, eps, backend, running, False, processes, kept_state(x), *weights
    )
    return out


def linear_map(x: Tensor, weight: Tensor, *, backend: str) -> Tensor:
    """x [B, C_in] times weight [C_out, C_in] transposed, by the same kernels: [B, C_out].

    Slower than a matrix product, but its gradient has the same bits for any number of threads.

    Raises:
        UserError: the shape or dtype of x, or the device of the weight, does not fit.
    """
    maps = kept_state(x[..., None, None])  # [B, C_in, 1, 1]
    check_maps("x", maps, weight.shape[1], backend)
    check_devices(x, weight=weight)
    out, _, _ = _ReluConvBn.apply(1, 0.0, backend, None, True, 1, maps, weight[:, :, None, None])
    return out.flatten(1)  # type: ignore[no-any-return]
