"""Backward, C': the sums that serve batch-norm, alpha and beta alike."""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import maximum_2x2, pixels_of
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
from .source_kernels import pool_rows


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
        v = tl.load(own[None, :] + within, (rows[:, None] < SAMPLED) & ok[None, :], other=0.0)
    return v, t


@triton.jit
def store_sum(partial, v, norm, rows, tile, tiles, SAMPLED: tl.constexpr):
    """The tile's sums of v [R, P] as sum number `norm`."""
    at = partial + (norm * SAMPLED + rows) * tiles + tile
    tl.store(at, tl.sum(v, 1), rows < SAMPLED)


@triton.jit
def branch_sums(
    partial, norm, g, v, mean, slot, rows, ok, tile, tiles, SAMPLED: tl.constexpr
):  # fmt: skip
    """The tile's S1 of a branch but for rstd, from its z [R, P]."""
    m = tl.load(mean + slot * SAMPLED + rows, rows < SAMPLED, other=0.0)
    product = tl.where(ok[None, :], g * (v - m[:, None]), 0.0)
    store_sum(partial, product, norm, rows, tile, tiles, SAMPLED)


@triton.jit
def edge_sums(
    x, tables, weights, mean, variance, z, z_first, G, partial, source, target, local,
    tile, sample, y, column, ok, count, H, W, tiles,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, STORED: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """All sums of an edge's tile; x: [P] pointers to the state's samples, G: to the gradients."""
    SAMPLED: tl.constexpr = GRAPH.sampled
    CONVS: tl.constexpr = len(PLAN.convolutions)
    S: tl.constexpr = PLAN.stride
    _, from_inputs, from_nodes = edge_into(target, source, GRAPH)
    weights += weights_before(from_inputs, from_nodes, GRAPH)
    slot = slots_before(from_inputs, from_nodes, GRAPH)
    unit = units_before(from_inputs, from_nodes, GRAPH)
    at = y * W + column
    rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
    g = gradient_rows(G, tables, target, sample, at, ok, H * W, GRAPH)
    norm = local * PLAN.sums
    store_sum(partial, g, norm, rows, tile, tiles, SAMPLED)
    for i in tl.static_range(CONVS):
        v, _ = last_output(
            x, z, z_first, mean, variance, tables, weights, unit, slot, local, sample,
            y, column, ok, count, H, W,
            PLAN.convolutions[i], PLAN, GRAPH, STORED, False, P,
        )  # fmt: skip
        own = slot + PLAN.convolutions[i].slot
        branch_sums(partial, norm + 1 + i, g, v, mean, own, rows, ok, tile, tiles, SAMPLED)
    norm += 1 + CONVS
    if PLAN.kinds_of_pools > 0:
        largest, average = pool_rows(x, tables, y, column, ok, H, W, SAMPLED, S, P)
        if len(PLAN.max_pools) > 0:
            own = slot + PLAN.max_pools[0].slot
            branch_sums(partial, norm, g, largest, mean, own, rows, ok, tile, tiles, SAMPLED)
            norm += 1
        if len(PLAN.avg_pools) > 0:
            own = slot + PLAN.avg_pools[0].slot
            branch_sums(partial, norm, g, average, mean, own, rows, ok, tile, tiles, SAMPLED)
            norm += 1
    if len(PLAN.skips) > 0:
        valid = (rows[:, None] < SAMPLED) & ok[None, :]
        channel = tl.load(tables + rows, rows < SAMPLED, other=0)
        offset = channel[:, None] * (H * W) + at[None, :]
        passed = tl.load(x[None, :] + offset, valid, other=0.0).to(tl.float32)
        store_sum(partial, g * passed, norm, rows, tile, tiles, SAMPLED)


@triton.jit
def bypass_products(
    x, tables, grad_out, grad_nodes, bypass, q, first_target, edges, tile, sample, y, column, ok,
    H, W, tiles,
    GRAPH: tl.constexpr, STRIDE: tl.constexpr,
):  # fmt: skip
    """<gradient, pool(x)> in bypass channel q, for each edge of a source."""
    C: tl.constexpr = GRAPH.channels
    BYPASS: tl.constexpr = C - GRAPH.sampled
    at = y * W + column
    own = x + tl.load(tables + q) * (H * W * STRIDE * STRIDE)
    if STRIDE == 2:
        pooled = maximum_2x2(own, 2 * W, y, column, ok)
    else:
        pooled = tl.load(own + at, ok, other=0.0).to(tl.float32)
    for e in range(edges):
        target = first_target + e
        channel = tl.load(tables + C + q) + (target - GRAPH.inputs) * C
        G = node_gradient(grad_out, grad_nodes, target, GRAPH)
        offset = sample * (GRAPH.nodes * C * H * W) + channel * (H * W) + at
        g = tl.load(G + offset, ok, other=0.0).to(tl.float32)
        product = tl.sum(tl.where(ok, g * pooled, 0.0), 0)
        tl.store(bypass + (e * BYPASS + q - GRAPH.sampled) * tiles + tile, product)


@triton.jit(
    do_not_specialize=["source", "edges", "count", "H", "W", "tiles", "jobs", "sample_stride"]
)
def sums_kernel(
    states, sample_stride, tables, weights, mean, variance, z, z_first, grad_out, grad_nodes,
    partial, bypass, source, edges, count, H, W, tiles, jobs,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, STORED: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Of an edge's tile: S0, and S1 of every branch but for rstd: program (tile, source, edge).

    partial [sources * edges, sums, SAMPLED, tiles]. Further programs (tile, source, bypass channel)
    write the products that beta needs to bypass [sources * edges, C - SAMPLED, tiles].
    """
    BYPASS: tl.constexpr = GRAPH.channels - GRAPH.sampled
    tile, local = tl.program_id(0), tl.program_id(1)
    first_target = tl.maximum(source + 1, GRAPH.inputs)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    if local < jobs:
        target = first_target + local % edges
        edge_sums(
            one_of(states, local // edges) + sample * sample_stride, tables, weights, mean,
            variance, z, z_first, node_gradient(grad_out, grad_nodes, target, GRAPH), partial,
            source + local // edges, target, local, tile, sample, y, column, ok, count, H, W, tiles,
            GRAPH, PLAN, STORED, P,
        )  # fmt: skip
    elif BYPASS > 0:
        number = (local - jobs) // BYPASS
        bypass_products(
            one_of(states, number) + sample * sample_stride, tables, grad_out, grad_nodes,
            bypass + number * edges * BYPASS * tiles, GRAPH.sampled + (local - jobs) % BYPASS,
            first_target, edges, tile, sample, y, column, ok, H, W, tiles,
            GRAPH, PLAN.stride,
        )  # fmt: skip
