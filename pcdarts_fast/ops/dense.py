"""Tensors as the kernels of the fused cell read them, and the gradients that they write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..errors import UserError

_GPU = (torch.float32, torch.bfloat16, torch.float16)
DTYPES = {
    "cpu": (torch.float32, torch.float64, torch.bfloat16),
    "cuda": _GPU,
    "triton": _GPU,
    "reference": (torch.float32, torch.float64, torch.bfloat16, torch.float16),
}
"""Storage types of states by backend; the 16-bit ones accumulate in float32."""


def check_dtype(name: str, x: Tensor, backend: str) -> None:
    """Raises UserError where the backend has no kernels for the dtype of x."""
    if x.dtype not in DTYPES[backend]:
        wanted = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES[backend])
        raise UserError(f"{name}: got {x.dtype}, wanted one of {wanted} (backend {backend})")


def check_devices(op: str, tensors: Iterable[Tensor]) -> None:
    """For tracing, and where one tensor is on the meta device: real kernels look themselves.

    Raises:
        RuntimeError: the tensors lie on several devices.
    """
    devices = {str(tensor.device) for tensor in tensors}
    if len(devices) > 1:
        raise RuntimeError(f"{op}: got tensors on {', '.join(sorted(devices))}, wanted one device")


def check_shape(name: str, x: Tensor, C: int) -> None:
    """Raises UserError where x is not [B, C, H, W] without empty sizes."""
    shape = x.shape
    if len(shape) != 4 or shape[1] != C or 0 in shape:
        raise UserError(f"{name}: got {list(shape)}, wanted [B, {C}, H, W] without empty sizes")


def check_maps(name: str, x: Tensor, C: int, backend: str) -> None:
    """`check_shape` and `check_dtype`."""
    check_shape(name, x, C)
    check_dtype(name, x, backend)


def check_stride(stride: int) -> None:
    """Raises UserError where no mixed operation has this stride."""
    if stride not in (1, 2):
        raise UserError(f"stride: got {stride}, wanted 1 or 2")


def check_even(name: str, x: Tensor, stride: int) -> None:
    """Raises UserError where the height or width of x is odd at stride 2."""
    if stride == 2 and (x.shape[2] % 2 or x.shape[3] % 2):
        raise UserError(f"{name}: got H, W = {tuple(x.shape[2:])}, wanted even sizes for stride 2")


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


def in_dtype_of(x: Tensor, grad: Tensor) -> Tensor:
    """The kernel's gradient of x in its dtype.

    `to` is not called for nothing: with cold caches it costs 20 us even then (2-core EPYC).
    """
    return grad if grad.dtype is x.dtype else grad.to(x.dtype)


def in_dtypes_of(weights: Sequence[Tensor], grads: Sequence[Tensor]) -> list[Tensor | None]:
    """The kernels' gradients of the weights in their dtypes; all None where there are none."""
    if not grads:
        return [None] * len(weights)
    return [in_dtype_of(w, g) for w, g in zip(weights, grads, strict=True)]
