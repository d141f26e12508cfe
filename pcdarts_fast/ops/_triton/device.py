"""Functions that kernels call: pixels, windows, ReLU, pools, statistics.

A program works on a tile of P pixels, numbered over the whole batch: sample by sample, row by row.
Everything is loaded as it is stored and computed in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def relu(v):
    """A NaN stays one."""
    return tl.where(v <= 0, 0.0, v)


@triton.jit
def rstd_of(variance, eps):
    return 1.0 / tl.sqrt_rn(variance + eps)


@triton.jit
def pixels_of(tile, count, H, W, P: tl.constexpr):
    """Of the tile's pixels, [P] each: is it one of `count`, its sample, row, column."""
    i = tile * P + tl.arange(0, P)
    at = i % (H * W)
    return i < count, (i // (H * W)).to(tl.int64), at // W, at % W


@triton.jit
def window(y, x, ok, H, W, KERNEL: tl.constexpr, DILATION: tl.constexpr, STRIDE: tl.constexpr):
    """Offsets [taps, P] of a K x K window within a plane [H, W], and which taps lie inside.

    y, x [P] are output pixels; taps are padded to a power of two.
    """
    tap = tl.arange(0, triton.next_power_of_2(KERNEL * KERNEL))[:, None]
    row = y[None, :] * STRIDE + (tap // KERNEL - KERNEL // 2) * DILATION
    column = x[None, :] * STRIDE + (tap % KERNEL - KERNEL // 2) * DILATION
    inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
    return row * W + column, inside & (tap < KERNEL * KERNEL) & ok[None, :]


@triton.jit
def readers(y, x, ok, H, W, KERNEL: tl.constexpr, DILATION: tl.constexpr, STRIDE: tl.constexpr):
    """The windows that read the pixel y, x of a plane, tap by tap: `window` turned around.

    [taps, P] offsets within an output plane [H, W], and which of them exist.
    """
    tap = tl.arange(0, triton.next_power_of_2(KERNEL * KERNEL))[:, None]
    row = y[None, :] - (tap // KERNEL - KERNEL // 2) * DILATION
    column = x[None, :] - (tap % KERNEL - KERNEL // 2) * DILATION
    exists = (row >= 0) & (column >= 0) & (tap < KERNEL * KERNEL) & ok[None, :]
    if STRIDE == 2:
        exists &= (row % 2 == 0) & (column % 2 == 0)
        row //= 2
        column //= 2
    return row * W + column, exists & (row < H) & (column < W)


@triton.jit
def kernel_weights(weights, KERNEL: tl.constexpr):
    """The K x K weights of a depthwise channel, [taps, 1], padded with zeros."""
    tap = tl.arange(0, triton.next_power_of_2(KERNEL * KERNEL))
    return tl.load(weights + tap, tap < KERNEL * KERNEL, other=0.0)[:, None]


@triton.jit
def window_2x2(plane_width, y, column, ok):
    """`window` of the 2x2 maximum of stride 2: offsets [4, P], and which exist."""
    tap = tl.arange(0, 4)[:, None]
    offset = (2 * y[None, :] + tap // 2) * plane_width + 2 * column[None, :] + tap % 2
    return offset, (tap >= 0) & ok[None, :]


@triton.jit
def largest_of(v, valid):
    """[P] from [taps, P], NaN left out."""
    return tl.max(tl.where(valid & (v == v), v, float("-inf")), 0)


@triton.jit
def maximum_of(v, valid):
    """[P] from [taps, P], as max_pool2d has it: a NaN wins; 0 where nothing is valid."""
    largest = largest_of(v, valid)
    kind = tl.max(tl.where(valid, tl.where(v != v, 2, 1), 0), 0)
    return tl.where(kind == 2, float("nan"), tl.where(kind == 1, largest, 0.0))


@triton.jit
def winner_of(v, valid, largest, TAPS: tl.constexpr):
    """Which tap of [TAPS, P] max_pool2d takes: the last NaN, else the first maximum."""
    tap = tl.arange(0, TAPS)[:, None]
    last_bad = tl.max(tl.where(valid & (v != v), tap, -1), 0)
    first = tl.min(tl.where(valid & (v == largest[None, :]), tap, TAPS), 0)
    return tl.where(last_bad >= 0, last_bad, first)


@triton.jit
def maximum_2x2(x, plane_width, y, column, ok):
    """The 2x2 maximum of stride 2 at the output pixels y, column; x: [P] pointers to planes."""
    offset, valid = window_2x2(plane_width, y, column, ok)
    return maximum_of(tl.load(x[None, :] + offset, valid, other=0.0).to(tl.float32), valid)


@triton.jit
def put_row(tile, rows, row, values):
    """The tile [R, P] with `values` [P] in one of its rows."""
    return tl.where(rows[:, None] == row, values[None, :], tile)


@triton.jit
def row_of(tile, rows, row):
    return tl.sum(tl.where(rows[:, None] == row, tile, 0.0), 0)


@triton.jit
def store_moments(partial, tile, tiles, v, rows, ok, SAMPLED: tl.constexpr):
    """The tile's mean and sum of squared deviations of v [R, P], to partial [2, SAMPLED, tiles]."""
    count = tl.sum(ok.to(tl.float32), 0)
    mean = tl.sum(tl.where(ok[None, :], v, 0.0), 1) / count
    deviation = tl.where(ok[None, :], v - mean[:, None], 0.0)
    at = partial + rows * tiles + tile
    tl.store(at, mean, rows < SAMPLED)
    tl.store(at + SAMPLED * tiles, tl.sum(deviation * deviation, 1), rows < SAMPLED)


@triton.jit
def merged_moments(partial, square, tiles, count, P: tl.constexpr, BLOCK: tl.constexpr):
    """Mean and biased variance of `count` values from their tiles' moments, in one fixed order."""
    i = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, tiles, BLOCK):
        t = first + i
        values = tl.minimum(P, count - t * P).to(tl.float32)
        mean = tl.load(partial + t, t < tiles, other=0.0)
        total += tl.where(t < tiles, mean * values, 0.0)
    overall = tl.sum(total, 0) / count
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, tiles, BLOCK):
        t = first + i
        values = tl.minimum(P, count - t * P).to(tl.float32)
        shift = tl.load(partial + t, t < tiles, other=0.0) - overall
        squares = tl.load(square + t, t < tiles, other=0.0)
        total += tl.where(t < tiles, squares + values * shift * shift, 0.0)
    return overall, tl.sum(total, 0) / count


@triton.jit
def norm_gradient(weight, mean, rstd, s0, s1, count, TRAINING: tl.constexpr):
    """a, b, c of dz = a * upstream + b * z + c: csrc/common/batch_norm.h."""
    scale = weight * rstd
    if TRAINING:
        own = -scale * rstd * s1 / count
        return scale, own, -scale * s0 / count - own * mean
    return scale, scale * 0.0, scale * 0.0


@triton.jit
def through_norm(a, b, c, upstream, z):
    """dz = a * upstream + b * z + c. In eval mode b is 0, and stays so beside an infinite z."""
    return a * upstream + tl.where(b == 0, 0.0, b * z) + c
