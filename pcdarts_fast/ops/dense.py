"""Tensors as the kernels of the fused cell read them, and the gradients that they write."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
"""Storage types of states; bfloat16 accumulates in float32."""


def dense(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The tensors as kernels read them: contiguous, in the dtype that they accumulate in."""
    return [
        t if t.dtype is dtype and t.is_contiguous() else t.to(dtype).contiguous() for t in tensors
    ]


def parts(flat: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """`flat`, which holds a gradient for every weight, cut into their shapes, in their dtypes."""
    views = torch._C._nn.unflatten_dense_tensors(flat, weights)
    return [g if g.dtype is w.dtype else g.to(w.dtype) for g, w in zip(views, weights, strict=True)]
