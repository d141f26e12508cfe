"""Backward, B': the second stages of separable convolutions."""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import kernel_weights, norm_gradient, pixels_of, readers, relu, rstd_of
from .device import edge_into, map_at, one_of, slots_before, units_before, weights_before
from .edge_kernels import store_gradient, total_of
from .pointwise import through_norms, through_pointwise
from .sums_kernels import gradient_rows, last_output, node_gradient


@triton.jit(do_not_specialize=["source", "edges", "count", "H", "W", "sample_stride"])
def second_pointwise_kernel(
    states, sample_stride, tables, weights, mean, variance, z, z_first, grad_out, grad_nodes,
    coefficients, dt, grad_weights, source, edges, count, H, W,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, STORED: tl.constexpr, WEIGHTS: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """dt of the second stages, and their pointwise gradients: program (tile, source, edge).

    dt: maps [sources * edges * separable]. grad_weights: the tiles' own, [tiles, all weights].
    """
    SAMPLED: tl.constexpr = GRAPH.sampled
    CONVS: tl.constexpr = len(PLAN.convolutions)
    tile, local = tl.program_id(0), tl.program_id(1)
    target = tl.maximum(source + 1, GRAPH.inputs) + local % edges
    _, from_inputs, from_nodes = edge_into(target, source + local // edges, GRAPH)
    before = weights_before(from_inputs, from_nodes, GRAPH)
    weights += before
    grad_weights += tl.cast(tile, tl.int64) * GRAPH.all_weights + before
    slot = slots_before(from_inputs, from_nodes, GRAPH)
    unit = units_before(from_inputs, from_nodes, GRAPH)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    at = y * W + column
    x = one_of(states, local // edges) + sample * sample_stride
    rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
    G = node_gradient(grad_out, grad_nodes, target, GRAPH)
    g = gradient_rows(G, tables, target, sample, at, ok, H * W, GRAPH)
    for i in tl.static_range(CONVS):
        if PLAN.convolutions[i].first >= 0:
            v, t = last_output(
                x, z, z_first, mean, variance, tables, weights, unit, slot, local, sample,
                y, column, ok, count, H, W,
                PLAN.convolutions[i], PLAN, GRAPH, STORED, WEIGHTS, P,
            )  # fmt: skip
            dz = through_norms(coefficients, local * (CONVS + 2) + i, g, v, ok, rows, SAMPLED)
            number = local * len(PLAN.separable) + PLAN.convolutions[i].first
            matrix = PLAN.convolutions[i].weight + SAMPLED * (
                2 * PLAN.convolutions[i].kernel * PLAN.convolutions[i].kernel + SAMPLED
            )
            through_pointwise(
                map_at(dt, number, sample, count, H * W, SAMPLED), grad_weights + matrix, dz, t,
                weights + matrix, rows, at, ok, H * W, SAMPLED, WEIGHTS,
            )  # fmt: skip


@triton.jit(do_not_specialize=["source", "edges", "count", "H", "W", "tiles"])
def second_depthwise_kernel(
    weights, mean, variance, z_first, dt, g, partial, grad_weights, source, edges, count, H, W,
    tiles,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, WEIGHTS: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """g: gradient of the first batch-norms' outputs, and its sums: program (tile, edge, channel).

    partial [sources * edges * separable, 2, SAMPLED, tiles]: S0, and S1 but for rstd.
    """
    SAMPLED: tl.constexpr = GRAPH.sampled
    SEPARABLE: tl.constexpr = len(PLAN.separable)
    tile, job, c = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    local = job // SEPARABLE
    _, from_inputs, from_nodes = edge_into(
        tl.maximum(source + 1, GRAPH.inputs) + local % edges, source + local // edges, GRAPH
    )
    before = weights_before(from_inputs, from_nodes, GRAPH)
    weights += before
    grad_weights += tl.cast(tile, tl.int64) * GRAPH.all_weights + before
    slot = slots_before(from_inputs, from_nodes, GRAPH)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    within = c * (H * W) + y * W + column
    z = tl.load(map_at(z_first, job, sample, count, H * W, SAMPLED) + within, ok, other=0.0)
    upstream = map_at(dt, job, sample, count, H * W, SAMPLED)
    for i in tl.static_range(SEPARABLE):
        if job % SEPARABLE == i:
            taps: tl.constexpr = PLAN.separable[i].kernel * PLAN.separable[i].kernel
            norm = (slot + PLAN.separable[i].slot - 1) * SAMPLED + c
            deviation = z - tl.load(mean + norm)
            middle = deviation * rstd_of(tl.load(variance + norm), GRAPH.eps)
            first = PLAN.separable[i].weight + SAMPLED * (taps + SAMPLED) + c * taps
            offset, exists = readers(y, column, ok, H, W, PLAN.separable[i].kernel, 1, 1)
            v = tl.load(upstream[None, :] + (c * (H * W) + offset), exists, other=0.0)
            w = kernel_weights(weights + first, PLAN.separable[i].kernel)
            d = tl.where(ok & ~(middle <= 0), tl.sum(w * v, 0), 0.0)
            tl.store(map_at(g, job, sample, count, H * W, SAMPLED) + within, d, ok)
            at = partial + (job * 2 * SAMPLED + c) * tiles + tile
            tl.store(at, tl.sum(d, 0))
            tl.store(at + SAMPLED * tiles, tl.sum(tl.where(ok, d * deviation, 0.0), 0))
            if WEIGHTS:
                tap = tl.arange(0, triton.next_power_of_2(taps))
                dw = tl.sum(tl.where(exists, v * relu(middle)[None, :], 0.0), 1)
                tl.store(grad_weights + first + tap, dw, tap < taps)


@triton.jit(do_not_specialize=["source", "edges", "count", "tiles"])
def first_norm_kernel(
    partial, mean, variance, coefficients, source, edges, count, tiles,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, TRAINING: tl.constexpr, BLOCK: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """a, b, c of the first batch-norms, [sources * edges * separable, 3, SAMPLED]."""
    SAMPLED: tl.constexpr = GRAPH.sampled
    job = tl.program_id(0)
    local = job // len(PLAN.separable)
    _, from_inputs, from_nodes = edge_into(
        tl.maximum(source + 1, GRAPH.inputs) + local % edges, source + local // edges, GRAPH
    )
    slot = 0
    for i in tl.static_range(len(PLAN.separable)):
        if job % len(PLAN.separable) == i:
            slot = PLAN.separable[i].slot - 1
    rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
    norm = (slots_before(from_inputs, from_nodes, GRAPH) + slot) * SAMPLED + rows
    m = tl.load(mean + norm, rows < SAMPLED, other=0.0)
    rstd = rstd_of(tl.load(variance + norm, rows < SAMPLED, other=1.0), GRAPH.eps)
    s0 = total_of(partial, job * 2, rows, tiles, SAMPLED, BLOCK)
    s1 = total_of(partial, job * 2 + 1, rows, tiles, SAMPLED, BLOCK) * rstd
    a, b, c = norm_gradient(1.0, m, rstd, s0, s1, count, TRAINING)
    store_gradient(coefficients, job, rows, a, b, c, SAMPLED)
