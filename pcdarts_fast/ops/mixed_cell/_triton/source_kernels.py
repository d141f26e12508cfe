"""Forward by source: first stages and pools (A), second stages (B), and their statistics."""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import (
    maximum_of,
    merged_moments,
    pixels_of,
    put_row,
    store_moments,
    window,
)
from .device import (
    edge_into,
    first_stage,
    map_at,
    one_of,
    rolled,
    second_stage,
    slots_before,
    units_before,
    weights_before,
)


@triton.jit
def pools(x, channel, plane, offset, inside):
    """The 3x3 maximum and average [P] of a state's channel."""
    v = tl.load(x[None, :] + (channel * plane + offset), inside, other=0.0).to(tl.float32)
    average = tl.sum(v, 0) / tl.maximum(tl.sum(inside.to(tl.float32), 0), 1.0)
    return maximum_of(v, inside), average


@triton.jit
def pool_rows(
    x, tables, y, column, ok, H, W,
    SAMPLED: tl.constexpr, STRIDE: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """The same of all sampled channels, [R, P] each."""
    rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
    largest = tl.zeros((triton.next_power_of_2(SAMPLED), P), tl.float32)
    average = tl.zeros((triton.next_power_of_2(SAMPLED), P), tl.float32)
    offset, inside = window(y, column, ok, H * STRIDE, W * STRIDE, 3, 1, STRIDE)
    for c in tl.range(0, rolled(SAMPLED, H), disable_licm=True):
        m, a = pools(x, tl.load(tables + c), H * W * STRIDE * STRIDE, offset, inside)
        largest = put_row(largest, rows, c, m)
        average = put_row(average, rows, c, a)
    return largest, average


@triton.jit(do_not_specialize=["source", "edges", "count", "H", "W", "tiles", "sample_stride"])
def first_stage_kernel(
    states, sample_stride, tables, weights, z, z_first, partial,
    source, edges, count, H, W, tiles,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, ONLY_SEPARABLE: tl.constexpr, STATS: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """z of the first stage of all branches of an edge: program (tile, source, edge).

    With STATS their moments, and by the source's first edge those of its pools:
    partial [sources * edges * convolutions + sources * 2, 2, SAMPLED, tiles].
    """
    SAMPLED: tl.constexpr = GRAPH.sampled
    CONVS: tl.constexpr = len(PLAN.convolutions)
    tile, local = tl.program_id(0), tl.program_id(1)
    number = local // edges
    first_target = tl.maximum(source + 1, GRAPH.inputs)
    _, from_inputs, from_nodes = edge_into(first_target + local % edges, source + number, GRAPH)
    weights += weights_before(from_inputs, from_nodes, GRAPH)
    unit = units_before(from_inputs, from_nodes, GRAPH)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    x = one_of(states, number) + sample * sample_stride
    rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
    within = rows[:, None] * (H * W) + y[None, :] * W + column[None, :]
    keep = ok[None, :] & (rows[:, None] < SAMPLED)
    for i in tl.static_range(CONVS):
        if PLAN.convolutions[i].first >= 0 or not ONLY_SEPARABLE:
            v, _ = first_stage(
                x, tables, weights + PLAN.convolutions[i].weight, y, column, ok, H, W,
                PLAN.convolutions[i], PLAN.stride, SAMPLED, False, P,
            )  # fmt: skip
            if PLAN.convolutions[i].first >= 0:
                number_of_map = local * len(PLAN.separable) + PLAN.convolutions[i].first
                to = map_at(z_first, number_of_map, sample, count, H * W, SAMPLED)
            else:
                to = map_at(z, unit + PLAN.convolutions[i].unit, sample, count, H * W, SAMPLED)
            tl.store(to[None, :] + within, v, keep)
            if STATS:
                own = partial + (local * CONVS + i) * (2 * SAMPLED * tiles)
                store_moments(own, tile, tiles, v, rows, ok, SAMPLED)
    if STATS and PLAN.kinds_of_pools > 0 and local % edges == 0:
        largest, average = pool_rows(x, tables, y, column, ok, H, W, SAMPLED, PLAN.stride, P)
        own = partial + (tl.num_programs(1) * CONVS + number * 2) * (2 * SAMPLED * tiles)
        store_moments(own, tile, tiles, largest, rows, ok, SAMPLED)
        store_moments(own + 2 * SAMPLED * tiles, tile, tiles, average, rows, ok, SAMPLED)


@triton.jit(do_not_specialize=["source", "edges", "count", "H", "W", "tiles"])
def second_stage_kernel(
    z_first, weights, mean, variance, z, partial, source, edges, count, H, W, tiles,
    GRAPH: tl.constexpr, PLAN: tl.constexpr, STATS: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """z of the second stages of an edge's separable convolutions: program (tile, source, edge)."""
    SAMPLED: tl.constexpr = GRAPH.sampled
    SEPARABLE: tl.constexpr = len(PLAN.separable)
    tile, local = tl.program_id(0), tl.program_id(1)
    first_target = tl.maximum(source + 1, GRAPH.inputs)
    _, from_inputs, from_nodes = edge_into(
        first_target + local % edges, source + local // edges, GRAPH
    )
    weights += weights_before(from_inputs, from_nodes, GRAPH)
    slot = slots_before(from_inputs, from_nodes, GRAPH)
    unit = units_before(from_inputs, from_nodes, GRAPH)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
    within = rows[:, None] * (H * W) + y[None, :] * W + column[None, :]
    for i in tl.static_range(SEPARABLE):
        norm = (slot + PLAN.separable[i].slot - 1) * SAMPLED
        v, _ = second_stage(
            map_at(z_first, local * SEPARABLE + i, sample, count, H * W, SAMPLED),
            mean + norm, variance + norm, weights + PLAN.separable[i].weight, y, column, ok, H, W,
            PLAN.separable[i], GRAPH.eps, SAMPLED, False, P,
        )  # fmt: skip
        to = map_at(z, unit + PLAN.separable[i].unit, sample, count, H * W, SAMPLED)
        tl.store(to[None, :] + within, v, ok[None, :] & (rows[:, None] < SAMPLED))
        if STATS:
            own = partial + (local * SEPARABLE + i) * (2 * SAMPLED * tiles)
            store_moments(own, tile, tiles, v, rows, ok, SAMPLED)


@triton.jit(do_not_specialize=["source", "edges", "count", "tiles"])
def moments_kernel(
    partial, mean, variance, source, edges, count, tiles,
    GRAPH: tl.constexpr, OWN: tl.constexpr, SHARED: tl.constexpr, P: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Merges the tiles' moments: program (source, edge, norm; channel).

    OWN: slots of an edge's own norms, in the order of `partial`. SHARED: (slot, kind of pool) of
    those that it shares with the other edges of its source.
    """
    SAMPLED: tl.constexpr = GRAPH.sampled
    NORMS: tl.constexpr = len(OWN) + len(SHARED)
    local, i, c = tl.program_id(0) // NORMS, tl.program_id(0) % NORMS, tl.program_id(1)
    at = local * len(OWN) + i
    slot = 0
    for j in tl.static_range(len(OWN)):
        if i == j:
            slot = OWN[j]
    for j in tl.static_range(len(SHARED)):
        if i == len(OWN) + j:
            slot = SHARED[j][0]
            at = tl.num_programs(0) // NORMS * len(OWN) + local // edges * 2 + SHARED[j][1]
    own = partial + (at * 2 * SAMPLED + c) * tiles
    value, square = merged_moments(own, own + SAMPLED * tiles, tiles, count, P, BLOCK)
    first_target = tl.maximum(source + 1, GRAPH.inputs)
    _, from_inputs, from_nodes = edge_into(
        first_target + local % edges, source + local // edges, GRAPH
    )
    norm = (slots_before(from_inputs, from_nodes, GRAPH) + slot) * SAMPLED + c
    tl.store(mean + norm, value)
    tl.store(variance + norm, square)
