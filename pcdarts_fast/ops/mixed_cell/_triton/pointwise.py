"""Backward through batch-norm and pointwise convolution: what first and second stages share."""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import row_of, through_norm
from .device import rolled, skip_taps


@triton.jit
def through_norms(coefficients, number, upstream, z, ok, rows, SAMPLED: tl.constexpr):
    """dz [R, P] of a batch-norm of all channels; zero in pixels that do not exist."""
    at = coefficients + number * 3 * SAMPLED + rows
    a = tl.load(at, rows < SAMPLED, other=0.0)
    b = tl.load(at + SAMPLED, rows < SAMPLED, other=0.0)
    c = tl.load(at + 2 * SAMPLED, rows < SAMPLED, other=0.0)
    dz = through_norm(a[:, None], b[:, None], c[:, None], upstream, z)
    return tl.where(ok[None, :] & (rows[:, None] < SAMPLED), dz, 0.0)


@triton.jit
def through_pointwise(
    dt, grad_matrix, dz, t, matrix, rows, at, ok, size,
    SAMPLED: tl.constexpr, WEIGHTS: tl.constexpr,
):  # fmt: skip
    """Writes the gradient of a depthwise output to dt ([P] pointers), the tile's of the matrix."""
    for c in tl.range(0, rolled(SAMPLED, size), disable_licm=True):
        w = tl.load(matrix + rows * SAMPLED + c, rows < SAMPLED, other=0.0)
        tl.store(dt + (c * size + at), tl.sum(w[:, None] * dz, 0), ok)
        if WEIGHTS:
            d = tl.sum(dz * row_of(t, rows, c)[None, :], 1)
            tl.store(grad_matrix + rows * SAMPLED + c, d, rows < SAMPLED)


@triton.jit
def through_skip(
    x, tables, first, second, grad_matrix, dz, matrix, rows, y, column, ok, H, W,
    SAMPLED: tl.constexpr, WEIGHTS: tl.constexpr,
):  # fmt: skip
    """The same of a stride-2 skip, whose halves read two pixels: first, second [P] pointers."""
    half = rows >= SAMPLED - SAMPLED // 2
    at = y * W + column
    for c in tl.range(0, rolled(SAMPLED, H), disable_licm=True):
        w = tl.load(matrix + rows * SAMPLED + c, rows < SAMPLED, other=0.0)
        product = w[:, None] * dz
        even = tl.sum(tl.where(half[:, None], 0.0, product), 0)
        odd = tl.sum(tl.where(half[:, None], product, 0.0), 0)
        tl.store(first + (c * (H * W) + at), even, ok)
        tl.store(second + (c * (H * W) + at), odd, ok)
        if WEIGHTS:
            v, w_odd = skip_taps(x, c, tables, y, column, ok, H, W)
            t = tl.where(half[:, None], w_odd[None, :], v[None, :])
            tl.store(grad_matrix + rows * SAMPLED + c, tl.sum(dz * t, 1), rows < SAMPLED)
