"""The kernels of partial_mix: a program takes one position q of one tile of pixels."""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import largest_of, maximum_2x2, pixels_of, window_2x2, winner_of


@triton.jit(do_not_specialize=["count", "H", "W"])
def forward_kernel(
    outputs, weights, x, tables, out, count, H, W,
    OUTPUTS: tl.constexpr, C: tl.constexpr, MIXED: tl.constexpr, STRIDE: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """Program (tile, q)."""
    q = tl.program_id(1)
    ok, sample, y, column = pixels_of(tl.program_id(0), count, H, W, P)
    at = y * W + column
    total = tl.zeros((P,), tl.float32)
    if q < MIXED:
        own = (sample * MIXED + q) * (H * W) + at
        for i in tl.static_range(OUTPUTS):
            w = tl.load(weights + i).to(tl.float32)
            total += w * tl.load(outputs[i] + own, ok, other=0.0).to(tl.float32)
    else:
        plane = H * W * STRIDE * STRIDE
        own = x + sample * (C * plane) + tl.load(tables + q) * plane
        if STRIDE == 2:
            total += maximum_2x2(own, 2 * W, y, column, ok)
        else:
            total += tl.load(own + at, ok, other=0.0).to(tl.float32)
    to = out + (sample * C + tl.load(tables + C + q)) * (H * W) + at
    tl.store(to, total.to(out.dtype.element_ty), ok)


@triton.jit(do_not_specialize=["count", "H", "W"])
def backward_kernel(
    grad, outputs, weights, x, tables, grad_outputs, partial, grad_x, count, H, W,
    OUTPUTS: tl.constexpr, C: tl.constexpr, MIXED: tl.constexpr, STRIDE: tl.constexpr,
    NEED_OUTPUTS: tl.constexpr, NEED_WEIGHTS: tl.constexpr, NEED_X: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """Program (tile, q). partial: [tiles * MIXED, OUTPUTS], of the weights' gradient."""
    tile, q = tl.program_id(0), tl.program_id(1)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    at = y * W + column
    channel = tl.load(tables + C + q)
    g = tl.load(grad + (sample * C + channel) * (H * W) + at, ok, other=0.0).to(tl.float32)
    if q < MIXED:
        own = (sample * MIXED + q) * (H * W) + at
        for i in tl.static_range(OUTPUTS):
            if NEED_OUTPUTS:
                d = g * tl.load(weights + i).to(tl.float32)
                to = grad_outputs[i]
                tl.store(to + own, d.to(grad.dtype.element_ty), ok)
            if NEED_WEIGHTS:
                v = tl.load(outputs[i] + own, ok, other=0.0).to(tl.float32)
                tl.store(partial + (tile * MIXED + q) * OUTPUTS + i, tl.sum(g * v, 0))
    if NEED_X:
        plane = H * W * STRIDE * STRIDE
        base = sample * (C * plane) + tl.load(tables + q) * plane
        sent = tl.where(q < MIXED, 0.0, g)
        if STRIDE == 1:
            tl.store(grad_x + base + at, sent.to(grad.dtype.element_ty), ok)
        else:
            offset, valid = window_2x2(2 * W, y, column, ok)
            v = tl.load(x + base[None, :] + offset, valid, other=0.0).to(tl.float32)
            winner = winner_of(v, valid, largest_of(v, valid), 4)
            wins = winner[None, :] == tl.arange(0, 4)[:, None]
            d = tl.where(wins, sent[None, :], 0.0)
            tl.store(grad_x + base[None, :] + offset, d.to(grad.dtype.element_ty), valid)
