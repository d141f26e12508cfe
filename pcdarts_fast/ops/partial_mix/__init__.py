"""partial_mix: mixes candidate outputs into the sampled channels, around a bypass, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from .._registry import device_type, implements_in_triton, kernel, resolve
from ..channels import Table, channel_tables, check_channels, check_tables
from ..checks import check_dtype, check_even, check_stride
from ..dense import accumulation_dtype, dense, in_dtype_of
from ..once import once_differentiable
from . import reference as reference  # registers the schemas and the oracle

implements_in_triton(__name__, partial_mix_fwd="forward", partial_mix_bwd="backward")


class _PartialMix(torch.autograd.Function):
    """The one gradient formula above all namespaces; a backend only supplies two kernels."""

    @staticmethod
    def forward(
        ctx: Any,
        backend: str,
        k: int,
        stride: int,
        source: Table,
        destination: Table,
        weights: Tensor,
        x: Tensor,
        *outputs: Tensor,
    ) -> Tensor:
        need_weights, need_x = ctx.needs_input_grad[5:7]
        ctx.constants = backend, k, stride, source, destination, len(outputs)
        saved = list(outputs) if need_weights else []
        if need_x and stride == 2:
            saved.append(x)
        ctx.save_for_backward(weights, *saved)
        (wide_weights,) = dense([weights], accumulation_dtype(x.dtype))
        out: Tensor = kernel("partial_mix_fwd", backend)(
            outputs, wide_weights, x, k, stride, source, destination
        )
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        backend, k, stride, source, destination, P = ctx.constants
        need_weights, need_x, *need_outputs = ctx.needs_input_grad[5:]
        weights, *saved = ctx.saved_tensors
        (wide_weights,) = dense([weights], accumulation_dtype(grad.dtype))
        grad_outputs, grad_weights, grad_x = kernel("partial_mix_bwd", backend)(
            grad,
            saved[:P] if need_weights else [],
            wide_weights,
            saved[-1] if need_x and stride == 2 else None,
            k,
            stride,
            source,
            destination,
            any(need_outputs),
            need_weights,
            need_x,
        )
        return (
            *(None,) * 5,
            in_dtype_of(weights, grad_weights) if need_weights else None,
            grad_x if need_x else None,
            *(grad_outputs if any(need_outputs) else [None] * P),
        )


def partial_mix(
    outputs: Sequence[Tensor],
    weights: Tensor,
    x: Tensor,
    *,
    k: int,
    stride: int = 1,
    tables: tuple[Table, Table] | None = None,
    backend: str = "auto",
) -> Tensor:
    """Partial-channel mixed operation after its candidates (paper section 3.2), without a copy.

        out[:, destination[q]] = sum_i weights[i] * outputs[i][:, q]   for q <  C/k
                               = pool(x[:, source[q]])                 for q >= C/k

    where pool is the identity (stride 1) or the 2x2 maximum of stride 2 (first maximum wins, NaN
    beats all). The candidates have been applied to x[:, source[:C/k]] by the caller, so that the
    gradient of x returned from here is zero there. A candidate that is zero is left out.

    Args:
        outputs: P tensors [B, C/k, H/stride, W/stride]; P may be 0.
        weights: [P], already soft-maxed; of any floating dtype.
        x: [B, C, H, W], of the backend's `DTYPES` (sums of the 16-bit ones in float32); strided,
            sliced and channels_last tensors are taken (copied where a plane is not contiguous).
        k: C/k channels are mixed.
        stride: 1 or 2; 2 needs even H and W.
        tables: (source, destination) of `channel_tables`; None: its channel shuffle.
        backend: auto, reference, cpu, triton or cuda.

    Returns:
        [B, C, H/stride, W/stride], contiguous, dtype of x.

    Raises:
        UserError (a ValueError): an argument's shape, dtype or device does not fit; names it.
    """
    if tables is None:
        tables = channel_tables(x.shape[1], k) if x.dim() == 4 and k > 0 else ((), ())
    _check(outputs, weights, x, k, stride, tables)
    chosen = resolve(backend, "partial_mix", device_type(x))
    check_dtype("x", x, chosen)
    out: Tensor = _PartialMix.apply(chosen, k, stride, *tables, weights, x, *outputs)
    return out


def _check(
    outputs: Sequence[Tensor],
    weights: Tensor,
    x: Tensor,
    k: int,
    stride: int,
    tables: tuple[Table, Table],
) -> None:
    if x.dim() != 4:
        raise UserError(f"x must be [B, C, H, W]: got {list(x.shape)}")
    B, C, H, W = x.shape
    check_channels(C, k)
    check_stride(stride)
    check_even("x", x, stride)
    check_tables(tables, C)
    if weights.shape != (len(outputs),) or not weights.is_floating_point():
        raise UserError(
            f"weights must be [P] for P={len(outputs)} outputs, of a floating dtype: "
            f"got {list(weights.shape)}, {weights.dtype}"
        )
    if weights.device != x.device:
        raise UserError(f"weights must be on the device of x, {x.device}: got {weights.device}")
    wanted = (B, C // k, H // stride, W // stride)
    for i, output in enumerate(outputs):
        if output.shape != wanted or output.dtype != x.dtype or output.device != x.device:
            raise UserError(
                f"outputs[{i}] must be {list(wanted)}, {x.dtype} on {x.device}: "
                f"got {list(output.shape)}, {output.dtype} on {output.device}"
            )
