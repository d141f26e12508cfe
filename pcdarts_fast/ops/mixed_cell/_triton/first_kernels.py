"""Backward, A': first stages through batch-norm and pointwise convolution; the pools' gradients."""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import pixels_of, through_norm, window, winner_of
from .device import (
    edge_into,
    first_stage,
    map_at,
    one_of,
    rolled,
    slots_before,
    units_before,
    weights_before,
)
from .pointwise import through_norms, through_pointwise, through_skip
from .source_kernels import pools
from .sums_kernels import gradient_rows, last_output, node_gradient


@triton.jit
def edge_first_stages(
    x, tables, weights, mean, variance, z, z_first, G, coefficients, first_coefficients, g_first,
    dt, grad_weights, source, target, local, sample, y, column, ok, count, H, W,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, STORED: tl.constexpr, WEIGHTS: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """dt of all first stages of an edge's tile; grad_weights: the tile's own."""
    SAMPLED: tl.constexpr = GRAPH.sampled
    CONVS: tl.constexpr = len(PLAN.convolutions)
    _, from_inputs, from_nodes = edge_into(target, source, GRAPH)
    before = weights_before(from_inputs, from_nodes, GRAPH)
    weights += before
    grad_weights += before
    slot = slots_before(from_inputs, from_nodes, GRAPH)
    unit = units_before(from_inputs, from_nodes, GRAPH)
    at = y * W + column
    rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
    within = rows[:, None] * (H * W) + at[None, :]
    keep = (rows[:, None] < SAMPLED) & ok[None, :]
    g = gradient_rows(G, tables, target, sample, at, ok, H * W, GRAPH)
    for i in tl.static_range(CONVS):
        number = local * PLAN.grads + PLAN.convolutions[i].grad
        to = map_at(dt, number, sample, count, H * W, SAMPLED)
        if PLAN.convolutions[i].first >= 0:
            job = local * len(PLAN.separable) + PLAN.convolutions[i].first
            if WEIGHTS:
                v, t = first_stage(
                    x, tables, weights + PLAN.convolutions[i].weight, y, column, ok, H, W,
                    PLAN.convolutions[i], PLAN.stride, SAMPLED, True, P,
                )  # fmt: skip
            else:
                own = map_at(z_first, job, sample, count, H * W, SAMPLED)
                v = tl.load(own[None, :] + within, keep, other=0.0)
                t = v
            own = map_at(g_first, job, sample, count, H * W, SAMPLED)
            u = tl.load(own[None, :] + within, keep, other=0.0)
            dz = through_norms(first_coefficients, job, u, v, ok, rows, SAMPLED)
        else:
            v, t = last_output(
                x, z, z_first, mean, variance, tables, weights, unit, slot, local, sample,
                y, column, ok, count, H, W,
                PLAN.convolutions[i], PLAN, GRAPH, STORED,
                WEIGHTS and PLAN.convolutions[i].kernel > 0, P,
            )  # fmt: skip
            dz = through_norms(coefficients, local * (CONVS + 2) + i, g, v, ok, rows, SAMPLED)
        matrix = PLAN.convolutions[i].weight + (
            SAMPLED * PLAN.convolutions[i].kernel * PLAN.convolutions[i].kernel
        )
        if PLAN.convolutions[i].kernel == 0:
            through_skip(
                x, tables, to, map_at(dt, number + 1, sample, count, H * W, SAMPLED),
                grad_weights + matrix, dz, weights + matrix, rows, y, column, ok, H, W,
                SAMPLED, WEIGHTS,
            )  # fmt: skip
        else:
            through_pointwise(
                to, grad_weights + matrix, dz, t, weights + matrix, rows, at, ok, H * W,
                SAMPLED, WEIGHTS,
            )  # fmt: skip


@triton.jit
def through_norm_at(a, upstream, z, SAMPLED: tl.constexpr):
    """The same of one channel, [P]; a: where its a, b, c lie, SAMPLED apart."""
    b, c = tl.load(a + SAMPLED), tl.load(a + 2 * SAMPLED)
    return through_norm(tl.load(a), b, c, upstream, z)


@triton.jit
def through_pools(
    x, tables, grad_out, grad_nodes, coefficients, pool_grads, winners, number, first_target, edges,
    sample, y, column, ok, count, H, W,
    GRAPH: tl.constexpr, PLAN: tl.constexpr,
):  # fmt: skip
    """The gradients of a source's pools over all its edges, and where the maxima came from."""
    SAMPLED: tl.constexpr = GRAPH.sampled
    C: tl.constexpr = GRAPH.channels
    S: tl.constexpr = PLAN.stride
    CONVS: tl.constexpr = len(PLAN.convolutions)
    at = y * W + column
    offset, inside = window(y, column, ok, H * S, W * S, 3, 1, S)
    pixels = tl.maximum(tl.sum(inside.to(tl.float32), 0), 1.0)
    for c in tl.range(0, rolled(SAMPLED, H), disable_licm=True):
        channel = tl.load(tables + c)
        plane = H * W * S * S
        largest, average = pools(x, channel, plane, offset, inside)
        d_max, d_avg = tl.zeros_like(average), tl.zeros_like(average)
        for e in range(edges):
            target = first_target + e
            G = node_gradient(grad_out, grad_nodes, target, GRAPH)
            node_channel = tl.load(tables + C + c) + (target - GRAPH.inputs) * C
            here = sample * (GRAPH.nodes * C * H * W) + node_channel * (H * W) + at
            g = tl.load(G + here, ok, other=0.0).to(tl.float32)
            a = coefficients + ((number * edges + e) * (CONVS + 2) + CONVS) * 3 * SAMPLED + c
            if len(PLAN.max_pools) > 0:
                d_max += through_norm_at(a, g, largest, SAMPLED)
            if len(PLAN.avg_pools) > 0:
                d_avg += through_norm_at(a + 3 * SAMPLED, g, average, SAMPLED)
        within = c * (H * W) + at
        if len(PLAN.max_pools) > 0:
            to = map_at(pool_grads, number * 2, sample, count, H * W, SAMPLED)
            tl.store(to + within, d_max, ok)
            v = tl.load(x[None, :] + (channel * plane + offset), inside, other=0.0).to(tl.float32)
            best = winner_of(v, inside, largest, 16).to(tl.int8)
            tl.store(map_at(winners, number, sample, count, H * W, SAMPLED) + within, best, ok)
        if len(PLAN.avg_pools) > 0:
            to = map_at(pool_grads, number * 2 + 1, sample, count, H * W, SAMPLED)
            tl.store(to + within, d_avg / pixels, ok)


@triton.jit(do_not_specialize=["source", "edges", "count", "H", "W", "jobs", "sample_stride"])
def first_pointwise_kernel(
    states, sample_stride, tables, weights, mean, variance, z, z_first, grad_out, grad_nodes,
    coefficients, first_coefficients, g_first, dt, grad_weights, pool_grads, winners,
    source, edges, count, H, W, jobs,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, STORED: tl.constexpr, WEIGHTS: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """dt of all first stages, and their pointwise gradients: program (tile, source, edge).

    dt: maps [sources * edges * grads]. Further programs (tile, source) write the gradients of its
    pools: maps pool_grads [sources * 2], and winners [sources], the tap of each maximum.
    """
    tile, local = tl.program_id(0), tl.program_id(1)
    first_target = tl.maximum(source + 1, GRAPH.inputs)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    if local < jobs:
        target = first_target + local % edges
        edge_first_stages(
            one_of(states, local // edges) + sample * sample_stride, tables, weights, mean,
            variance, z, z_first, node_gradient(grad_out, grad_nodes, target, GRAPH), coefficients,
            first_coefficients, g_first, dt,
            grad_weights + tl.cast(tile, tl.int64) * GRAPH.all_weights,
            source + local // edges, target, local, sample, y, column, ok, count, H, W,
            GRAPH, PLAN, STORED, WEIGHTS, P,
        )  # fmt: skip
    elif PLAN.kinds_of_pools > 0:
        through_pools(
            one_of(states, local - jobs) + sample * sample_stride, tables, grad_out, grad_nodes,
            coefficients, pool_grads, winners, local - jobs, first_target, edges,
            sample, y, column, ok, count, H, W,
            GRAPH, PLAN,
        )  # fmt: skip
