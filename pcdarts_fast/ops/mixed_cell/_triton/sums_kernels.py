"""Backward, C': the sums that serve batch-norm, alpha and beta alike."""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import maximum_2x2, norm_gradient, pixels_of, put_row, rstd_of, window
from .device import (
    edge_into,
    first_stage,
    map_at,
    one_of,
    second_stage,
    slots_before,
    units_before,
    weights_before,
)
from .source_kernels import pools


@triton.jit
def node_gradient(grad_out, grad_nodes, target, GRAPH: tl.constexpr):
    """The complete gradient of a node: nothing but the outside reaches the last."""
    g = grad_nodes
    if target == GRAPH.states - 1:
        g = grad_out
    return g


@triton.jit
def gradient_rows(g, tables, target, sample, at, ok, size, GRAPH: tl.constexpr):
    """[R, P]: the mixed channels of a node's gradient; at [P] within a plane of `size`."""
    C: tl.constexpr = GRAPH.channels
    rows = tl.arange(0, triton.next_power_of_2(GRAPH.sampled))
    valid = rows < GRAPH.sampled
    channel = tl.load(tables + C + rows, valid, other=0) + (target - GRAPH.inputs) * C
    offset = (sample * (GRAPH.nodes * C * size) + at)[None, :] + channel[:, None] * size
    return tl.load(g + offset, valid[:, None] & ok[None, :], other=0.0).to(tl.float32)


@triton.jit
def last_output(
    x, z, z_first, mean, variance, tables, weights, unit, slot, local, sample, y, column, ok,
    count, H, W,
    CONV: tl.constexpr, PLAN: tl.constexpr, GRAPH: tl.constexpr, STORED: tl.constexpr,
    KEEP: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """z [R, P] of a branch's last stage, stored or computed again, and with KEEP its t."""
    SAMPLED: tl.constexpr = GRAPH.sampled
    rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
    v = tl.zeros((triton.next_power_of_2(SAMPLED), P), tl.float32)
    t = v
    if KEEP or not STORED:
        if CONV.first >= 0:
            norm = (slot + CONV.slot - 1) * SAMPLED
            number = local * len(PLAN.separable) + CONV.first
            v, t = second_stage(
                map_at(z_first, number, sample, count, H * W, SAMPLED), mean + norm,
                variance + norm, weights + CONV.weight, y, column, ok, H, W,
                CONV, GRAPH.eps, SAMPLED, KEEP, P,
            )  # fmt: skip
        else:
            v, t = first_stage(
                x, tables, weights + CONV.weight, y, column, ok, H, W,
                CONV, PLAN.stride, SAMPLED, KEEP, P,
            )  # fmt: skip
    if STORED:
        own = map_at(z, unit + CONV.unit, sample, count, H * W, SAMPLED)
        within = rows[:, None] * (H * W) + (y * W + column)[None, :]
        v = tl.load(
            own[None, :] + within, (rows[:, None] < SAMPLED) & ok[None, :], other=0.0
        )
    return v, t


@triton.jit
def store_sum(partial, v, norm, rows, tile, tiles, SAMPLED: tl.constexpr):
    """The tile's sums of v [R, P] as sum number `norm`."""
    at = partial + (norm * SAMPLED + rows) * tiles + tile
    tl.store(at, tl.sum(v, 1), rows < SAMPLED)


@triton.jit(do_not_specialize=["source", "edges", "count"])
def sums_kernel(
    states, sample_stride, tables, weights, beta, mean, variance, z, z_first, grad_out, grad_nodes,
    partial, bypass, source, edges, count, H, W, tiles, jobs,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, STORED: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Of an edge's tile: S0, and S1 of every branch but for rstd: program (tile, source, edge).

    partial [sources * edges, sums, SAMPLED, tiles]. Further programs (tile, source, bypass channel)
    add up <gradient, pool(x)> to bypass [sources * edges, C - SAMPLED, tiles].
    """
    SAMPLED: tl.constexpr = GRAPH.sampled
    C: tl.constexpr = GRAPH.channels
    CONVS: tl.constexpr = len(PLAN.convolutions)
    S: tl.constexpr = PLAN.stride
    tile, local = tl.program_id(0), tl.program_id(1)
    first_target = tl.maximum(source + 1, GRAPH.inputs)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    at = y * W + column
    if local < jobs:
        number = local // edges
        target = first_target + local % edges
        row, from_inputs, from_nodes = edge_into(target, source + number, GRAPH)
        weights += weights_before(from_inputs, from_nodes, GRAPH)
        slot = slots_before(from_inputs, from_nodes, GRAPH)
        unit = units_before(from_inputs, from_nodes, GRAPH)
        x = one_of(states, number) + sample * sample_stride
        rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
        channels = rows < SAMPLED
        G = node_gradient(grad_out, grad_nodes, target, GRAPH)
        g = gradient_rows(G, tables, target, sample, at, ok, H * W, GRAPH)
        norm = local * PLAN.sums
        store_sum(partial, g, norm, rows, tile, tiles, SAMPLED)
        for i in tl.static_range(CONVS):
            v, _ = last_output(
                x, z, z_first, mean, variance, tables, weights, unit, slot, local, sample,
                y, column, ok, count, H, W,
                PLAN.convolutions[i], PLAN, GRAPH, STORED, False, P,
            )  # fmt: skip
            middle = (slot + PLAN.convolutions[i].slot) * SAMPLED + rows
            m = tl.load(mean + middle, channels, other=0.0)
            store_sum(partial, g * (v - m[:, None]), norm + 1 + i, rows, tile, tiles, SAMPLED)
        norm += 1 + CONVS
        if PLAN.kinds_of_pools > 0:
            largest = tl.zeros((triton.next_power_of_2(SAMPLED), P), tl.float32)
            average = tl.zeros((triton.next_power_of_2(SAMPLED), P), tl.float32)
            offset, inside = window(y, column, ok, H * S, W * S, 3, 1, S)
            for c in range(SAMPLED):
                m, a = pools(x, tl.load(tables + c), H * W * S * S, offset, inside)
                largest = put_row(largest, rows, c, m)
                average = put_row(average, rows, c, a)
            if len(PLAN.max_pools) > 0:
                middle = (slot + PLAN.max_pools[0].slot) * SAMPLED + rows
                m = tl.load(mean + middle, channels, other=0.0)
                v = tl.where(ok[None, :], g * (largest - m[:, None]), 0.0)
                store_sum(partial, v, norm, rows, tile, tiles, SAMPLED)
                norm += 1
            if len(PLAN.avg_pools) > 0:
                middle = (slot + PLAN.avg_pools[0].slot) * SAMPLED + rows
                m = tl.load(mean + middle, channels, other=0.0)
                v = tl.where(ok[None, :], g * (average - m[:, None]), 0.0)
                store_sum(partial, v, norm, rows, tile, tiles, SAMPLED)
                norm += 1
        if len(PLAN.skips) > 0:
            channel = tl.load(tables + rows, channels, other=0)
            v = tl.load(
                x[None, :] + channel[:, None] * (H * W) + at[None, :],
                channels[:, None] & ok[None, :],
                other=0.0,
            ).to(tl.float32)
            store_sum(partial, g * v, norm, rows, tile, tiles, SAMPLED)
    else:
        BYPASS: tl.constexpr = C - SAMPLED
        q = SAMPLED + (local - jobs) % BYPASS
        number = (local - jobs) // BYPASS
        x = one_of(states, number) + sample * sample_stride
        x += tl.load(tables + q) * (H * W * S * S)
        if S == 2:
            v = maximum_2x2(x, 2 * W, y, column, ok)
        else:
            v = tl.load(x + at, ok, other=0.0).to(tl.float32)
        for e in range(edges):
            target = first_target + e
            channel = tl.load(tables + C + q) + (target - GRAPH.inputs) * C
            G = node_gradient(grad_out, grad_nodes, target, GRAPH)
            offset = sample * (GRAPH.nodes * C * H * W) + channel * (H * W) + at
            g = tl.load(G + offset, ok, other=0.0).to(tl.float32)
            product = tl.sum(tl.where(ok, g * v, 0.0), 0)
            tl.store(bypass + ((number * edges + e) * BYPASS + q - SAMPLED) * tiles + tile, product)


@triton.jit
def total_of(partial, number, rows, tiles, SAMPLED: tl.constexpr, BLOCK: tl.constexpr):
    """[R]: the tiles' sums number `number`, added up in one fixed order."""
    total = tl.zeros((triton.next_power_of_2(SAMPLED), BLOCK), tl.float32)
    for first in range(0, tiles, BLOCK):
        t = first + tl.arange(0, BLOCK)
        valid = (rows[:, None] < SAMPLED) & (t[None, :] < tiles)
        at = (number * SAMPLED + rows)[:, None] * tiles + t[None, :]
        total += tl.load(partial + at, valid, other=0.0)
    return tl.sum(total, 1)


@triton.jit
def store_gradient(coefficients, number, rows, a, b, c, SAMPLED: tl.constexpr):
    at = coefficients + number * 3 * SAMPLED + rows
    tl.store(at, a, rows < SAMPLED)
    tl.store(at + SAMPLED, b, rows < SAMPLED)
    tl.store(at + 2 * SAMPLED, c, rows < SAMPLED)


@triton.jit
def branch_gradient(
    s0, s1, norm, column, row, alpha, b, mean, variance, grad_alpha, rows, count,
    GRAPH: tl.constexpr, TRAINING: tl.constexpr, NEED_ALPHA: tl.constexpr,
):  # fmt: skip
    """a, b, c of one branch's last batch-norm, and alpha * d alpha / beta; writes d alpha."""
    SAMPLED: tl.constexpr = GRAPH.sampled
    w = tl.load(alpha + row * GRAPH.columns + column)
    m = tl.load(mean + norm * SAMPLED + rows, rows < SAMPLED, other=0.0)
    rstd = rstd_of(tl.load(variance + norm * SAMPLED + rows, rows < SAMPLED, other=1.0), GRAPH.eps)
    s1 = s1 * rstd
    share = tl.sum(s1, 0)
    if NEED_ALPHA:
        tl.store(grad_alpha + row * GRAPH.columns + column, b * share)
    first, own, constant = norm_gradient(w * b, m, rstd, s0, s1, count, TRAINING)
    return first, own, constant, w * share


@triton.jit
def pools_gradient(
    s0, partial, norm, tiles, slot, row, alpha, b, mean, variance, coefficients, out, grad_alpha,
    rows, count,
    POOLS: tl.constexpr, GRAPH: tl.constexpr, TRAINING: tl.constexpr, NEED_ALPHA: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The same of an edge's pools of one kind, whose a, b, c are added up."""
    s1 = total_of(partial, norm, rows, tiles, GRAPH.sampled, BLOCK)
    upstream, own, constant = s0 * 0.0, s0 * 0.0, s0 * 0.0
    shares = tl.sum(s0, 0) * 0.0
    for i in tl.static_range(len(POOLS)):
        u, o, c, share = branch_gradient(
            s0, s1, slot + POOLS[i].slot, POOLS[i].column, row, alpha, b, mean, variance,
            grad_alpha, rows, count, GRAPH, TRAINING, NEED_ALPHA,
        )  # fmt: skip
        upstream += u
        own += o
        constant += c
        shares += share
    store_gradient(coefficients, out, rows, upstream, own, constant, GRAPH.sampled)
    return shares


@triton.jit(do_not_specialize=["source", "edges", "count", "tiles"])
def edge_gradient_kernel(
    partial, bypass, alpha, beta, mean, variance, coefficients, grad_alpha, grad_beta,
    source, edges, count, tiles,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, TRAINING: tl.constexpr, NEED_ALPHA: tl.constexpr,
    NEED_BETA: tl.constexpr, BLOCK: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """From the sums of an edge: d alpha, d beta, and a, b, c of its last batch-norms.

    Program (source, edge). coefficients [sources * edges, convolutions + 2, 3, SAMPLED]; the last
    two are of all its max-pools and of all its average pools.
    """
    SAMPLED: tl.constexpr = GRAPH.sampled
    CONVS: tl.constexpr = len(PLAN.convolutions)
    local = tl.program_id(0)
    first_target = tl.maximum(source + 1, GRAPH.inputs)
    row, from_inputs, from_nodes = edge_into(
        first_target + local % edges, source + local // edges, GRAPH
    )
    slot = slots_before(from_inputs, from_nodes, GRAPH)
    rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
    b = tl.load(beta + row)
    norm = local * PLAN.sums
    out = local * (CONVS + 2)
    s0 = total_of(partial, norm, rows, tiles, SAMPLED, BLOCK)
    d_beta = tl.sum(s0, 0) * 0.0
    for i in tl.static_range(CONVS):
        s1 = total_of(partial, norm + 1 + i, rows, tiles, SAMPLED, BLOCK)
        upstream, own, constant, share = branch_gradient(
            s0, s1, slot + PLAN.convolutions[i].slot, PLAN.convolutions[i].column, row, alpha, b,
            mean, variance, grad_alpha, rows, count, GRAPH, TRAINING, NEED_ALPHA,
        )  # fmt: skip
        store_gradient(coefficients, out + i, rows, upstream, own, constant, SAMPLED)
        d_beta += share
    norm += 1 + CONVS
    if len(PLAN.max_pools) > 0:
        d_beta += pools_gradient(
            s0, partial, norm, tiles, slot, row, alpha, b, mean, variance, coefficients,
            out + CONVS, grad_alpha, rows, count, PLAN.max_pools, GRAPH, TRAINING, NEED_ALPHA,
            BLOCK,
        )  # fmt: skip
        norm += 1
    if len(PLAN.avg_pools) > 0:
        d_beta += pools_gradient(
            s0, partial, norm, tiles, slot, row, alpha, b, mean, variance, coefficients,
            out + CONVS + 1, grad_alpha, rows, count, PLAN.avg_pools, GRAPH, TRAINING, NEED_ALPHA,
            BLOCK,
        )  # fmt: skip
        norm += 1
    if len(PLAN.skips) > 0:
        share = tl.sum(total_of(partial, norm, rows, tiles, SAMPLED, BLOCK), 0)
        for i in tl.static_range(len(PLAN.skips)):
            d_beta += tl.load(alpha + row * GRAPH.columns + PLAN.skips[i]) * share
            if NEED_ALPHA:
                tl.store(grad_alpha + row * GRAPH.columns + PLAN.skips[i], b * share)
    if NEED_ALPHA:
        for i in tl.static_range(len(PLAN.nones)):
            tl.store(grad_alpha + row * GRAPH.columns + PLAN.nones[i], 0.0)
    if NEED_BETA:
        total = tl.zeros((BLOCK,), tl.float32)
        values = (GRAPH.channels - SAMPLED) * tiles
        for first in range(0, values, BLOCK):
            i = first + tl.arange(0, BLOCK)
            total += tl.load(bypass + local * values + i, i < values, other=0.0)
        tl.store(grad_beta + row, d_beta + tl.sum(total, 0))
