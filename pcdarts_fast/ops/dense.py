"""Tensors as the kernels of the fused cell read them, and the gradients that they write."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_GPU = (torch.float32, torch.bfloat16, torch.float16)
DTYPES = {
    "cpu": (torch.float32, torch.float64, torch.bfloat16),
    "cuda": _GPU,
    "triton": _GPU,
    "reference": (torch.float32, torch.float64, torch.bfloat16, torch.float16),
}
"""Storage types of states by backend; the 16-bit ones accumulate in float32."""


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """What values of a storage type are added up in: float64, else float32."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def kept_state(x: Tensor) -> Tensor:
    """x [B, C, H, W] as autograd can keep it: contiguous; of what inference mode made, a copy."""
    x = x.contiguous()
    if torch.compiler.is_compiling() or not x.is_inference():
        return x
    return x.clone() if torch.is_grad_enabled() else x


def dense(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The tensors as kernels read them: contiguous, in this dtype. In backward also those that were
    so in forward: hooks of saved tensors may bring them back otherwise.
    """
    return [
        t if t.dtype is dtype and t.is_contiguous() else t.to(dtype).contiguous() for t in tensors
    ]


def dense_statistics(
    running: tuple[Tensor, Tensor] | None, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None]:
    """Running mean and variance as kernels read them; None, None in training."""
    if running is None:
        return None, None
    mean, variance = dense(running, dtype)
    return mean, variance


def in_dtype_of(x: Tensor, grad: Tensor) -> Tensor:
    """The kernel's gradient of x in its dtype.

    A `to` that changes nothing is skipped: with cold caches it costs 20 us (2-core EPYC).
    """
    return grad if grad.dtype is x.dtype else grad.to(x.dtype)


def in_dtypes_of(weights: Sequence[Tensor], grads: Sequence[Tensor]) -> list[Tensor | None]:
    """The kernels' gradients of the weights in their dtypes; all None where there are none."""
    if not grads:
        return [None] * len(weights)
    return [in_dtype_of(w, g) for w, g in zip(weights, grads, strict=True)]
