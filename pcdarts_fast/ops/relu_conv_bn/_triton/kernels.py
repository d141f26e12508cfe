"""The kernels of relu_conv_bn: a matrix product over pixels, its statistics, and its gradients.

With stride 2 the first `first` outputs read the pixels (2y, 2x), the others (2y + 1, 2x + 1): two
halves, each with blocks of outputs of its own.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import (
    merged_moments,
    norm_gradient,
    pixels_of,
    relu,
    rstd_of,
    through_norm,
)


@triton.jit
def half_of(block, C_out, first, STRIDE: tl.constexpr, ROWS: tl.constexpr):
    """Of a block of outputs: its half, its rows [ROWS], and where its half ends."""
    blocks = tl.cdiv(first, ROWS)
    half = 0
    rows = block * ROWS + tl.arange(0, ROWS)
    end = C_out
    if STRIDE == 2:
        end = first
        if block >= blocks:
            half = 1
            rows += first - blocks * ROWS
            end = C_out
    return half, rows, end


@triton.jit
def input_block(x, columns, sample, y, column, ok, C_in, H, W, half,
                STRIDE: tl.constexpr, LINEAR: tl.constexpr):  # fmt: skip
    """relu(x) [COLUMNS, P] of one half's pixels."""
    plane = H * W * STRIDE * STRIDE
    at = (y * STRIDE + half) * (W * STRIDE) + column * STRIDE + half
    offset = (sample * C_in * plane + at)[None, :] + columns[:, None] * plane
    valid = (columns[:, None] < C_in) & ok[None, :]
    v = tl.load(x + offset, valid, other=0.0).to(tl.float32)
    if LINEAR:
        return v
    return relu(v)


@triton.jit
def weight_block(weights, rows, end, columns, C_in):
    valid = (rows[:, None] < end) & (columns[None, :] < C_in)
    return tl.load(weights + rows[:, None] * C_in + columns[None, :], valid, other=0.0)


@triton.jit(do_not_specialize=["count", "first", "H", "W", "tiles", "C_in", "C_out"])
def product_kernel(
    x, weights, mean, variance, out, partial, count, C_in, C_out, first, H, W, tiles,
    EPS: tl.constexpr, STRIDE: tl.constexpr, LINEAR: tl.constexpr, STATS: tl.constexpr,
    NORMALISE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """out = W relu(x), normalised where the statistics are given: program (tile, output block)."""
    tile = tl.program_id(0)
    half, rows, end = half_of(tl.program_id(1), C_out, first, STRIDE, ROWS)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    z = tl.zeros((ROWS, P), tl.float32)
    for start in range(0, C_in, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        v = input_block(x, columns, sample, y, column, ok, C_in, H, W, half, STRIDE, LINEAR)
        w = weight_block(weights, rows, end, columns, C_in)
        z = tl.dot(w, v, z, input_precision="ieee")
    if STATS:
        at = partial + rows * tiles + tile
        count_here = tl.sum(ok.to(tl.float32), 0)
        m = tl.sum(tl.where(ok[None, :], z, 0.0), 1) / count_here
        deviation = tl.where(ok[None, :], z - m[:, None], 0.0)
        tl.store(at, m, rows < end)
        tl.store(at + C_out * tiles, tl.sum(deviation * deviation, 1), rows < end)
    if NORMALISE:
        rstd = rstd_of(tl.load(variance + rows, rows < end, other=1.0), EPS)
        z = (z - tl.load(mean + rows, rows < end, other=0.0)[:, None]) * rstd[:, None]
    offset = (sample * C_out * (H * W) + y * W + column)[None, :] + rows[:, None] * (H * W)
    keep = (rows[:, None] < end) & ok[None, :]
    tl.store(out + offset, z.to(out.dtype.element_ty), keep)


@triton.jit(do_not_specialize=["count", "tiles"])
def moments_kernel(partial, mean, variance, count, tiles, BLOCK: tl.constexpr, P: tl.constexpr):
    """Mean and variance of a channel: program (channel)."""
    c, C_out = tl.program_id(0), tl.num_programs(0)
    own = partial + c * tiles
    value, square = merged_moments(own, own + C_out * tiles, tiles, count, P, BLOCK)
    tl.store(mean + c, value)
    tl.store(variance + c, square)


@triton.jit(do_not_specialize=["count", "H", "W", "C_out"])
def normalise_kernel(out, mean, variance, count, C_out, H, W, EPS: tl.constexpr, P: tl.constexpr):
    """out = (out - mean) * rstd in place: program (tile, channel)."""
    c = tl.program_id(1)
    ok, sample, y, column = pixels_of(tl.program_id(0), count, H, W, P)
    at = out + (sample * C_out + c) * (H * W) + y * W + column
    rstd = rstd_of(tl.load(variance + c), EPS)
    v = (tl.load(at, ok, other=0.0).to(tl.float32) - tl.load(mean + c)) * rstd
    tl.store(at, v.to(out.dtype.element_ty), ok)


@triton.jit(do_not_specialize=["count", "H", "W", "tiles", "C_out"])
def sums_kernel(grad_out, out, partial, count, C_out, H, W, tiles, P: tl.constexpr):
    """partial [2, C_out, tiles]: sums of the gradient, and of it times out: program (tile, c)."""
    tile, c = tl.program_id(0), tl.program_id(1)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    at = (sample * C_out + c) * (H * W) + y * W + column
    g = tl.load(grad_out + at, ok, other=0.0).to(tl.float32)
    v = tl.load(out + at, ok, other=0.0).to(tl.float32)
    tl.store(partial + c * tiles + tile, tl.sum(g, 0))
    tl.store(partial + (C_out + c) * tiles + tile, tl.sum(g * v, 0))


@triton.jit(do_not_specialize=["count", "tiles"])
def norm_kernel(partial, variance, coefficients, count, tiles, EPS: tl.constexpr,
                TRAINING: tl.constexpr, BLOCK: tl.constexpr, P: tl.constexpr):  # fmt: skip
    """a, b, c [3, C_out] of dz = a G + b out + c, where out is normalised: program (channel)."""
    c, C_out = tl.program_id(0), tl.num_programs(0)
    s0 = tl.zeros((BLOCK,), tl.float32)
    s1 = tl.zeros((BLOCK,), tl.float32)
    if TRAINING:
        for first in range(0, tiles, BLOCK):
            t = first + tl.arange(0, BLOCK)
            s0 += tl.load(partial + c * tiles + t, t < tiles, other=0.0)
            s1 += tl.load(partial + (C_out + c) * tiles + t, t < tiles, other=0.0)
    rstd = rstd_of(tl.load(variance + c), EPS)
    a, b, constant = norm_gradient(rstd, 0.0, 1.0, tl.sum(s0, 0), tl.sum(s1, 0), count, TRAINING)
    tl.store(coefficients + c, a)
    tl.store(coefficients + C_out + c, b)
    tl.store(coefficients + 2 * C_out + c, constant)


@triton.jit
def gradient_block(grad_out, out, coefficients, rows, end, sample, y, column, ok, C_out, H, W,
                   PLAIN: tl.constexpr):  # fmt: skip
    """dz [ROWS, P]."""
    valid = (rows[:, None] < end) & ok[None, :]
    offset = (sample * C_out * (H * W) + y * W + column)[None, :] + rows[:, None] * (H * W)
    g = tl.load(grad_out + offset, valid, other=0.0).to(tl.float32)
    if PLAIN:
        return g
    a = tl.load(coefficients + rows, rows < end, other=0.0)
    b = tl.load(coefficients + C_out + rows, rows < end, other=0.0)
    c = tl.load(coefficients + 2 * C_out + rows, rows < end, other=0.0)
    v = tl.load(out + offset, valid, other=0.0).to(tl.float32)
    return tl.where(valid, through_norm(a[:, None], b[:, None], c[:, None], g, v), 0.0)


@triton.jit(do_not_specialize=["count", "first", "H", "W", "C_in", "C_out"])
def gradient_kernel(
    x, weights, grad_out, out, coefficients, grad_x, partial, count, C_in, C_out, first, H, W,
    STRIDE: tl.constexpr, LINEAR: tl.constexpr, PLAIN: tl.constexpr, NEED_X: tl.constexpr,
    WEIGHTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """grad_x, and the tile's gradient of the weights: program (tile, block of inputs).

    partial [tiles, C_out, C_in].
    """
    tile = tl.program_id(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    plane = H * W * STRIDE * STRIDE
    base = (sample * C_in * plane)[None, :] + columns[:, None] * plane
    keep = (columns[:, None] < C_in) & ok[None, :]
    partial += tl.cast(tile, tl.int64) * C_out * C_in
    for half in tl.static_range(STRIDE):
        begin = 0
        end = C_out
        if STRIDE == 2:
            begin = first if half == 1 else 0
            end = C_out if half == 1 else first
        v = input_block(x, columns, sample, y, column, ok, C_in, H, W, half, STRIDE, LINEAR)
        dx = tl.zeros((COLUMNS, P), tl.float32)
        for start in range(begin, end, ROWS):
            rows = start + tl.arange(0, ROWS)
            dz = gradient_block(
                grad_out, out, coefficients, rows, end, sample, y, column, ok, C_out, H, W, PLAIN
            )
            if NEED_X:
                w = weight_block(weights, rows, end, columns, C_in)
                dx = tl.dot(tl.trans(w), dz, dx, input_precision="ieee")
            if WEIGHTS:
                dw = tl.dot(dz, tl.trans(v), input_precision="ieee")
                valid = (rows[:, None] < end) & (columns[None, :] < C_in)
                tl.store(partial + rows[:, None] * C_in + columns[None, :], dw, valid)
        if NEED_X:
            if not LINEAR:
                dx = tl.where(v <= 0, 0.0, dx)
            here = (y * STRIDE + half) * (W * STRIDE) + column * STRIDE + half
            tl.store(grad_x + base + here[None, :], dx.to(grad_x.dtype.element_ty), keep)
            if STRIDE == 2:  # the pixels that no half reads
                unread = (y * 2 + half) * (W * 2) + column * 2 + 1 - half
                nothing = tl.zeros((COLUMNS, P), grad_x.dtype.element_ty)
                tl.store(grad_x + base + unread[None, :], nothing, keep)
