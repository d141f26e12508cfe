"""Backward, B' and A': through batch-norm and pointwise convolution, then through depthwise."""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import (
    kernel_weights,
    norm_gradient,
    pixels_of,
    put_row,
    readers,
    relu,
    row_of,
    rstd_of,
    window,
    winner_of,
)
from .device import (
    edge_into,
    first_stage,
    map_at,
    one_of,
    skip_taps,
    slots_before,
    units_before,
    weights_before,
)
from .source_kernels import pools
from .sums_kernels import gradient_rows, last_output, node_gradient, store_gradient, total_of


@triton.jit
def through_norm(coefficients, number, upstream, z, ok, rows, SAMPLED: tl.constexpr):
    """dz [R, P] = a * upstream + b * z + c; zero in pixels that do not exist."""
    at = coefficients + number * 3 * SAMPLED + rows
    a = tl.load(at, rows < SAMPLED, other=0.0)
    b = tl.load(at + SAMPLED, rows < SAMPLED, other=0.0)
    c = tl.load(at + 2 * SAMPLED, rows < SAMPLED, other=0.0)
    dz = a[:, None] * upstream + b[:, None] * z + c[:, None]
    return tl.where(ok[None, :] & (rows[:, None] < SAMPLED), dz, 0.0)


@triton.jit
def through_pointwise(
    dt, grad_matrix, dz, t, matrix, rows, at, ok, size,
    SAMPLED: tl.constexpr, WEIGHTS: tl.constexpr,
):  # fmt: skip
    """Writes the gradient of a depthwise output to dt ([P] pointers), the tile's of the matrix."""
    for c in range(SAMPLED):
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
    for c in range(SAMPLED):
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


@triton.jit(do_not_specialize=["source", "edges", "count"])
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
    row, from_inputs, from_nodes = edge_into(target, source + local // edges, GRAPH)
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
            dz = through_norm(coefficients, local * (CONVS + 2) + i, g, v, ok, rows, SAMPLED)
            number = local * len(PLAN.separable) + PLAN.convolutions[i].first
            matrix = PLAN.convolutions[i].weight + SAMPLED * (
                2 * PLAN.convolutions[i].kernel * PLAN.convolutions[i].kernel + SAMPLED
            )
            through_pointwise(
                map_at(dt, number, sample, count, H * W, SAMPLED), grad_weights + matrix, dz, t,
                weights + matrix, rows, at, ok, H * W, SAMPLED, WEIGHTS,
            )  # fmt: skip


@triton.jit(do_not_specialize=["source", "edges", "count"])
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
    row, from_inputs, from_nodes = edge_into(
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
                dw = tl.sum(v * tl.where(ok, relu(middle), 0.0)[None, :], 1)
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
    row, from_inputs, from_nodes = edge_into(
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


@triton.jit(do_not_specialize=["source", "edges", "count"])
def first_pointwise_kernel(
    states, sample_stride, tables, weights, mean, variance, z, z_first, grad_out, grad_nodes,
    coefficients, first_coefficients, g_first, dt, grad_weights, pool_grads, winners,
    source, edges, count, H, W, jobs,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, STORED: tl.constexpr, WEIGHTS: tl.constexpr,
    POOLS: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """dt of all first stages, and their pointwise gradients: program (tile, source, edge).

    dt: maps [sources * edges * grads]. With POOLS a further program (tile, source) writes the
    gradient of its pools: maps pool_grads [sources * 2], and winners [sources], the tap of each maximum.
    """
    SAMPLED: tl.constexpr = GRAPH.sampled
    CONVS: tl.constexpr = len(PLAN.convolutions)
    tile, local = tl.program_id(0), tl.program_id(1)
    first_target = tl.maximum(source + 1, GRAPH.inputs)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    at = y * W + column
    rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
    within = rows[:, None] * (H * W) + at[None, :]
    keep = (rows[:, None] < SAMPLED) & ok[None, :]
    if local < jobs:
        target = first_target + local % edges
        row, from_inputs, from_nodes = edge_into(target, source + local // edges, GRAPH)
        before = weights_before(from_inputs, from_nodes, GRAPH)
        weights += before
        grad_weights += tl.cast(tile, tl.int64) * GRAPH.all_weights + before
        slot = slots_before(from_inputs, from_nodes, GRAPH)
        unit = units_before(from_inputs, from_nodes, GRAPH)
        x = one_of(states, local // edges) + sample * sample_stride
        G = node_gradient(grad_out, grad_nodes, target, GRAPH)
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
                    v = tl.load(
                        map_at(z_first, job, sample, count, H * W, SAMPLED)[None, :] + within,
                        keep,
                        other=0.0,
                    )
                    t = v
                u = tl.load(
                    map_at(g_first, job, sample, count, H * W, SAMPLED)[None, :] + within,
                    keep,
                    other=0.0,
                )
                dz = through_norm(first_coefficients, job, u, v, ok, rows, SAMPLED)
            else:
                v, t = last_output(
                    x, z, z_first, mean, variance, tables, weights, unit, slot, local, sample,
                    y, column, ok, count, H, W,
                    PLAN.convolutions[i], PLAN, GRAPH, STORED,
                    WEIGHTS and PLAN.convolutions[i].kernel > 0, P,
                )  # fmt: skip
                dz = through_norm(coefficients, local * (CONVS + 2) + i, g, v, ok, rows, SAMPLED)
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
    elif POOLS:
        number = local - jobs
        x = one_of(states, number) + sample * sample_stride
        S: tl.constexpr = PLAN.stride
        offset, inside = window(y, column, ok, H * S, W * S, 3, 1, S)
        pixels = tl.maximum(tl.sum(inside.to(tl.float32), 0), 1.0)
        for c in range(SAMPLED):
            channel = tl.load(tables + c)
            plane = channel * (H * W * S * S)
            largest, average = pools(x, channel, H * W * S * S, offset, inside)
            v = tl.load(x[None, :] + (plane + offset), inside, other=0.0).to(tl.float32)
            d_max, d_avg = average * 0.0, average * 0.0
            for e in range(edges):
                target = first_target + e
                G = node_gradient(grad_out, grad_nodes, target, GRAPH)
                C: tl.constexpr = GRAPH.channels
                node_channel = tl.load(tables + C + c) + (target - GRAPH.inputs) * C
                here = sample * (GRAPH.nodes * C * H * W) + node_channel * (H * W) + at
                g = tl.load(G + here, ok, other=0.0).to(tl.float32)
                edge = ((number * edges + e) * (CONVS + 2) + CONVS) * 3 * SAMPLED + c
                if len(PLAN.max_pools) > 0:
                    a = coefficients + edge
                    d_max += tl.load(a) * g + tl.load(a + SAMPLED) * largest
                    d_max += tl.load(a + 2 * SAMPLED)
                if len(PLAN.avg_pools) > 0:
                    a = coefficients + edge + 3 * SAMPLED
                    d_avg += tl.load(a) * g + tl.load(a + SAMPLED) * average
                    d_avg += tl.load(a + 2 * SAMPLED)
            to = map_at(pool_grads, number * 2, sample, count, H * W, SAMPLED) + c * (H * W) + at
            if len(PLAN.max_pools) > 0:
                tl.store(to, d_max, ok)
                best = winner_of(v, inside, largest, 16).to(tl.int8)
                tl.store(
                    map_at(winners, number, sample, count, H * W, SAMPLED) + c * (H * W) + at,
                    best,
                    ok,
                )
            if len(PLAN.avg_pools) > 0:
                to = map_at(pool_grads, number * 2 + 1, sample, count, H * W, SAMPLED)
                tl.store(to + (c * (H * W) + at), d_avg / pixels, ok)
