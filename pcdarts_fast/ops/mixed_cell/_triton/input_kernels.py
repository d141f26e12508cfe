"""Backward, the end of A': a state's gradient, each channel once."""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import (
    kernel_weights,
    largest_of,
    pixels_of,
    readers,
    relu,
    window_2x2,
    winner_of,
)
from .device import edge_into, map_at, one_of, weights_before
from .sums_kernels import node_gradient


@triton.jit
def through_branch(
    total, dt, weights, grad_weights, source, local, first_target, edges, c, r, y, x, ok, sample,
    count, H, W,
    CONV: tl.constexpr, GRAPH: tl.constexpr, PLAN: tl.constexpr, WEIGHTS: tl.constexpr,
):  # fmt: skip
    """total [P] plus what the first depthwise convolutions of a branch, of all edges, send back.

    One branch after the other, so that the windows of only one are kept in registers.
    """
    SAMPLED: tl.constexpr = GRAPH.sampled
    if CONV.kernel == 0:
        at = c * (H * W) + (y // 2) * W + x // 2
        for e in range(edges):
            number = (local + e) * PLAN.grads + CONV.grad
            first = map_at(dt, number, sample, count, H * W, SAMPLED) + at
            total += tl.load(first, ok & (y % 2 == 0) & (x % 2 == 0), other=0.0)
            second = map_at(dt, number + 1, sample, count, H * W, SAMPLED) + at
            total += tl.load(second, ok & (y % 2 == 1) & (x % 2 == 1), other=0.0)
    else:
        taps: tl.constexpr = CONV.kernel * CONV.kernel
        tap = tl.arange(0, triton.next_power_of_2(taps))
        offset, exists = readers(y, x, ok, H, W, CONV.kernel, CONV.dilation, PLAN.stride)
        for e in range(edges):
            _, from_inputs, from_nodes = edge_into(first_target + e, source, GRAPH)
            at = weights_before(from_inputs, from_nodes, GRAPH) + CONV.weight + c * taps
            number = (local + e) * PLAN.grads + CONV.grad
            maps = map_at(dt, number, sample, count, H * W, SAMPLED)
            v = tl.load(maps[None, :] + (c * (H * W) + offset), exists, other=0.0)
            total += tl.sum(kernel_weights(weights + at, CONV.kernel) * v, 0)
            if WEIGHTS:
                d = tl.sum(tl.where(exists, v * r[None, :], 0.0), 1)
                tl.store(grad_weights + at + tap, d, tap < taps)
    return total


@triton.jit
def through_pools(total, max_grad, avg_grad, winners, y, x, ok, H, W, PLAN: tl.constexpr):
    """total [P] plus what the pools send back; [P] pointers to the channel's maps."""
    tap = tl.arange(0, 16)[:, None]
    offset, exists = readers(y, x, ok, H, W, 3, 1, PLAN.stride)
    if len(PLAN.max_pools) > 0:
        mine = tl.load(winners[None, :] + offset, exists, other=-1).to(tl.int32) == tap
        total += tl.sum(tl.load(max_grad[None, :] + offset, exists & mine, other=0.0), 0)
    if len(PLAN.avg_pools) > 0:
        total += tl.sum(tl.load(avg_grad[None, :] + offset, exists, other=0.0), 0)
    return total


@triton.jit(do_not_specialize=["source", "edges", "count", "H", "W", "sample_stride"])
def input_gradient_kernel(
    states, grads, sample_stride, tables, alpha, beta, weights, dt, grad_weights, pool_grads,
    winners, grad_out, grad_nodes, source, edges, count, H, W,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, WEIGHTS: tl.constexpr, NEED: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """The gradient of a source, one channel of one tile of its pixels: program (tile, source, q).

    count: pixels of the nodes; a source of stride 2 has four times as many. Without NEED only the
    weights' gradients, for which there are programs of the sampled channels alone.
    """
    INPUTS: tl.constexpr = GRAPH.inputs
    C: tl.constexpr = GRAPH.channels
    S: tl.constexpr = PLAN.stride
    SAMPLED: tl.constexpr = GRAPH.sampled
    rows: tl.constexpr = C if NEED else SAMPLED
    tile, q, number = tl.program_id(0), tl.program_id(1) % rows, tl.program_id(1) // rows
    first_target = tl.maximum(source + 1, INPUTS)
    ok, sample, y, x = pixels_of(tile, count * S * S, H * S, W * S, P)
    here = tl.load(tables + q) * (H * W * S * S) + y * (W * S) + x
    state = one_of(states, number) + sample * sample_stride
    node_channel = tl.load(tables + C + q)
    total = tl.zeros((P,), tl.float32)
    if q < SAMPLED:
        r = relu(tl.load(state + here, ok, other=0.0).to(tl.float32))
        for i in tl.static_range(len(PLAN.convolutions)):
            total = through_branch(
                total, dt, weights, grad_weights + tl.cast(tile, tl.int64) * GRAPH.all_weights,
                source + number, number * edges, first_target, edges, q, r, y, x, ok, sample,
                count, H, W,
                PLAN.convolutions[i], GRAPH, PLAN, WEIGHTS,
            )  # fmt: skip
        if NEED:
            total = tl.where(r <= 0, 0.0, total)
            if PLAN.kinds_of_pools > 0:
                own = q * (H * W)
                total = through_pools(
                    total,
                    map_at(pool_grads, number * 2, sample, count, H * W, SAMPLED) + own,
                    map_at(pool_grads, number * 2 + 1, sample, count, H * W, SAMPLED) + own,
                    map_at(winners, number, sample, count, H * W, SAMPLED) + own,
                    y, x, ok, H, W, PLAN,
                )  # fmt: skip
    if NEED:
        if q >= SAMPLED or len(PLAN.skips) > 0:
            passed = tl.zeros((P,), tl.float32)
            output = (y // S) * W + x // S
            for e in range(edges):
                target = first_target + e
                row, _, _ = edge_into(target, source + number, GRAPH)
                w = tl.load(beta + row)
                if q < SAMPLED:
                    share = 0.0
                    for i in tl.static_range(len(PLAN.skips)):
                        share += tl.load(alpha + row * GRAPH.columns + PLAN.skips[i])
                    w *= share
                G = node_gradient(grad_out, grad_nodes, target, GRAPH)
                channel = node_channel + (target - INPUTS) * C
                at = sample * (GRAPH.nodes * C * H * W) + channel * (H * W) + output
                passed += w * tl.load(G + at, ok, other=0.0).to(tl.float32)
            if S == 2 and q >= SAMPLED:
                plane = state + tl.load(tables + q) * (H * W * 4)
                offset, valid = window_2x2(2 * W, y // 2, x // 2, ok)
                v = tl.load(plane[None, :] + offset, valid, other=0.0).to(tl.float32)
                winner = winner_of(v, valid, largest_of(v, valid), 4)
                wins = winner == y % 2 * 2 + x % 2
                passed = tl.where(wins, passed, 0.0)
            total += passed
        if source >= INPUTS:
            at = sample * (GRAPH.nodes * C * H * W) + (source - INPUTS) * C * (H * W) + here
            total += tl.load(grad_out + at, ok, other=0.0).to(tl.float32)
        to = one_of(grads, number) + sample * sample_stride + here
        tl.store(to, total.to(grad_out.dtype.element_ty), ok)
