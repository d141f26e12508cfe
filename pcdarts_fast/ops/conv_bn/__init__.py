"""conv_bn: the stem's 3x3 convolution and batch-norm, of which only the input is kept.

It runs on the kernels of relu_conv_bn, to which the 3x3 patches of the images are columns.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_devices, check_maps
from ..dense import accumulation_dtype, dense, dense_statistics, kept_state
from ..once import once_differentiable
from ..processes import shared_kernel


class _ConvBn(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        eps: float,
        backend: str,
        running: tuple[Tensor, Tensor] | None,
        processes: int,
        x: Tensor,
        weight: Tensor,
        gamma: Tensor,
        beta: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        columns = _columns(x, weight)
        out, mean, variance = _normalised(columns, weight, running, eps, backend, processes)
        ctx.constants = eps, backend, running is None, processes
        saved_mean, saved_variance = running or (mean, variance)
        ctx.save_for_backward(x, weight, gamma, saved_mean, saved_variance)
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)  # no zeros for them
        return out.mul_(_channels(gamma)).add_(_channels(beta)), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *_: Tensor) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * len(ctx.needs_input_grad)
        grad = grad.contiguous()
        eps, backend, training, processes = ctx.constants
        x, weight, gamma, mean, variance = ctx.saved_tensors
        mean, variance = dense([mean, variance], accumulation_dtype(x.dtype))
        need_x, need_weight, need_gamma, need_beta = ctx.needs_input_grad[4:]
        columns, matrix = _columns(x, weight), _matrix(weight, x.dtype)
        normalised = _normalised(columns, weight, (mean, variance), eps, backend, 1)[0]
        grad_columns, grad_weights = shared_kernel("relu_conv_bn_bwd", backend, processes)(
            (grad * _channels(gamma)).to(x.dtype),
            columns,
            [matrix],
            normalised,
            variance,
            1,
            eps,
            training,
            need_x,
            need_weight,
            True,
            False,
        )
        grad_x = None
        if need_x:
            kernel_size = weight.shape[-2:]
            padding = kernel_size[0] // 2, kernel_size[1] // 2
            grad_x = F.fold(grad_columns.flatten(2), x.shape[2:], kernel_size, padding=padding)
        return (
            *(None,) * 4,
            grad_x,
            grad_weights[0].view(weight.shape).to(weight.dtype) if need_weight else None,
            (grad * normalised).sum((0, 2, 3)).to(gamma.dtype) if need_gamma else None,
            grad.sum((0, 2, 3)).to(gamma.dtype) if need_beta else None,
        )


def conv_bn(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    *,
    eps: float,
    running: tuple[Tensor, Tensor] | None,
    backend: str,
    processes: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """batch_norm(conv(x)) of stride 1 and the padding that keeps the size, with scale and shift.

    Args:
        x: [B, C_in, H, W], of the backend's `DTYPES` (sums of the 16-bit ones in float32).
        weight: [C_out, C_in, K, K], K odd. gamma, beta: [C_out].
        running: mean and variance [C_out] to normalise with; None: the batch's own.
        backend: a resolved name, see `_registry.resolve`.
        processes: without `running`, how many share their batch's statistics, see `processes.py`.

    Returns:
        [B, C_out, H, W]; the batch's mean and biased variance [C_out] (empty with `running`).

    Raises:
        UserError: the shape or dtype of x, or the device of another argument, does not fit.
    """
    check_maps("x", x, weight.shape[1], backend)
    check_devices(x, weight=weight, gamma=gamma, beta=beta)
    out: tuple[Tensor, Tensor, Tensor] = _ConvBn.apply(
        eps, backend, running, processes, kept_state(x), weight, gamma, beta
    )
    return out


def _normalised(
    columns: Tensor,
    weight: Tensor,
    running: tuple[Tensor, Tensor] | None,
    eps: float,
    backend: str,
    processes: int,
) -> tuple[Tensor, Tensor, Tensor]:
    wide = accumulation_dtype(columns.dtype)
    result: tuple[Tensor, Tensor, Tensor] = shared_kernel("relu_conv_bn_fwd", backend, processes)(
        columns,
        [_matrix(weight, columns.dtype)],
        *dense_statistics(running, wide),
        1,
        eps,
        True,
        False,
    )
    return result


def _columns(x: Tensor, weight: Tensor) -> Tensor:
    """The patches of x [B, C_in, H, W] as channels: [B, C_in * K * K, H, W]."""
    kernel_size = weight.shape[-2:]
    padding = kernel_size[0] // 2, kernel_size[1] // 2
    return F.unfold(x, kernel_size, padding=padding).view(x.shape[0], -1, *x.shape[2:])


def _matrix(weight: Tensor, dtype: torch.dtype) -> Tensor:
    wide = accumulation_dtype(dtype)
    return dense([weight.flatten(1)[:, :, None, None]], wide)[0]


def _channels(parameter: Tensor) -> Tensor:
    return parameter[:, None, None]
