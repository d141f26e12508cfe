"""What the fused operators refuse: shapes, dtypes, strides and devices."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..errors import UserError
from .dense import DTYPES


def check_dtype(name: str, x: Tensor, backend: str) -> None:
    """Raises UserError where the backend has no kernels for the dtype of x."""
    if x.dtype not in DTYPES[backend]:
        wanted = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES[backend])
        raise UserError(f"{name}: got {x.dtype}, wanted one of {wanted} (backend {backend})")


def check_devices(x: Tensor, **others: Tensor | Sequence[Tensor]) -> None:
    """Raises UserError where another argument does not lie where x does."""
    device = x.device
    for name, given in others.items():
        for tensor in (given,) if isinstance(given, Tensor) else given:
            if tensor.device != device:
                raise UserError(f"{name}: got device {tensor.device}, wanted {device} as the input")


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
