"""How far results may be from what is wanted."""

from __future__ import annotations

import torch
from torch import Tensor


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    """rtol and atol of a kernel against its reference: the one place where they are set."""
    return {
        torch.float64: {"rtol": 1e-10, "atol": 1e-10},
        torch.float32: {"rtol": 1e-5, "atol": 1e-5},
        torch.bfloat16: {"rtol": 1.6e-2, "atol": 1e-3},
        torch.float16: {"rtol": 2e-3, "atol": 1e-3},
    }[dtype]


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """Norm of the difference over norm of what is wanted, in float64."""
    got, wanted = got.detach().double(), wanted.detach().double()
    return float((got - wanted).norm() / wanted.norm().clamp_min(torch.finfo(torch.float32).tiny))
