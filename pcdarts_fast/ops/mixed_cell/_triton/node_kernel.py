"""Forward by node (C): every incoming edge normalised, weighed, pooled; each channel once."""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import maximum_2x2, pixels_of, rstd_of, window
from .device import edge_into, map_at, slots_before, units_before
from .source_kernels import pools


@triton.jit
def edge_sum(
    total, x, z, alpha, beta, mean, variance, source, target, q, channel,
    count, sample, y, column, ok, H, W,
    GRAPH: tl.constexpr, PLAN: tl.constexpr,
):  # fmt: skip
    """total [P] plus beta * sum_i alpha_i o_i of an edge, in mixed channel q."""
    SAMPLED: tl.constexpr = GRAPH.sampled
    row, from_inputs, from_nodes = edge_into(target, source, GRAPH)
    alpha += row * GRAPH.columns
    b = tl.load(beta + row)
    norms = slots_before(from_inputs, from_nodes, GRAPH) * SAMPLED + q
    mean += norms
    variance += norms
    unit = units_before(from_inputs, from_nodes, GRAPH)
    for i in tl.static_range(len(PLAN.convolutions)):
        at = map_at(z, unit + PLAN.convolutions[i].unit, sample, count, H * W, SAMPLED)
        v = tl.load(at + (q * (H * W) + y * W + column), ok, other=0.0)
        scale = rstd_of(tl.load(variance + PLAN.convolutions[i].slot * SAMPLED), GRAPH.eps)
        scale *= b * tl.load(alpha + PLAN.convolutions[i].column)
        total += scale * (v - tl.load(mean + PLAN.convolutions[i].slot * SAMPLED))
    S: tl.constexpr = PLAN.stride
    if PLAN.kinds_of_pools > 0:
        offset, inside = window(y, column, ok, H * S, W * S, 3, 1, S)
        largest, average = pools(x, channel, H * W * S * S, offset, inside)
        for i in tl.static_range(len(PLAN.max_pools)):
            scale = rstd_of(tl.load(variance + PLAN.max_pools[i].slot * SAMPLED), GRAPH.eps)
            scale *= b * tl.load(alpha + PLAN.max_pools[i].column)
            total += scale * (largest - tl.load(mean + PLAN.max_pools[i].slot * SAMPLED))
        for i in tl.static_range(len(PLAN.avg_pools)):
            scale = rstd_of(tl.load(variance + PLAN.avg_pools[i].slot * SAMPLED), GRAPH.eps)
            scale *= b * tl.load(alpha + PLAN.avg_pools[i].column)
            total += scale * (average - tl.load(mean + PLAN.avg_pools[i].slot * SAMPLED))
    for i in tl.static_range(len(PLAN.skips)):
        v = tl.load(x + channel * (H * W) + y * W + column, ok, other=0.0).to(tl.float32)
        total += b * tl.load(alpha + PLAN.skips[i]) * v
    return total


@triton.jit
def bypass_sum(
    total, x, beta, source, target, channel, y, column, ok, H, W,
    GRAPH: tl.constexpr, STRIDE: tl.constexpr,
):  # fmt: skip
    """total [P] plus beta * pool(x) of an edge, in a bypass channel."""
    row, _, _ = edge_into(target, source, GRAPH)
    x += channel * (H * W * STRIDE * STRIDE)
    if STRIDE == 2:
        v = maximum_2x2(x, 2 * W, y, column, ok)
    else:
        v = tl.load(x + y * W + column, ok, other=0.0).to(tl.float32)
    return total + tl.load(beta + row) * v


@triton.jit(do_not_specialize=["target", "count", "H", "W"])
def node_kernel(
    inputs, out, tables, alpha, beta, mean, variance, z, target, count, H, W,
    GRAPH: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """s_target, one channel of one tile: program (tile, q)."""
    INPUTS: tl.constexpr = GRAPH.inputs
    C: tl.constexpr = GRAPH.channels
    tile, q = tl.program_id(0), tl.program_id(1)
    ok, sample, y, column = pixels_of(tile, count, H, W, P)
    channel = tl.load(tables + q)
    node_sample = sample * (GRAPH.nodes * C * H * W)
    input_sample = sample * (C * H * W * GRAPH.from_input.stride * GRAPH.from_input.stride)
    total = tl.zeros((P,), tl.float32)
    if q < GRAPH.sampled:
        for s in tl.static_range(INPUTS):
            total = edge_sum(
                total, inputs[s] + input_sample, z, alpha, beta, mean, variance, s, target, q,
                channel, count, sample, y, column, ok, H, W, GRAPH, GRAPH.from_input,
            )  # fmt: skip
        for s in range(INPUTS, target):
            total = edge_sum(
                total, out + node_sample + (s - INPUTS) * C * (H * W), z, alpha, beta, mean,
                variance, s, target, q, channel, count, sample, y, column, ok, H, W,
                GRAPH, GRAPH.from_node,
            )  # fmt: skip
    else:
        for s in tl.static_range(INPUTS):
            total = bypass_sum(
                total, inputs[s] + input_sample, beta, s, target, channel, y, column, ok, H, W,
                GRAPH, GRAPH.from_input.stride,
            )  # fmt: skip
        for s in range(INPUTS, target):
            total = bypass_sum(
                total, out + node_sample + (s - INPUTS) * C * (H * W), beta, s, target, channel,
                y, column, ok, H, W, GRAPH, 1,
            )  # fmt: skip
    destination = (target - INPUTS) * C + tl.load(tables + C + q)
    to = out + node_sample + destination * (H * W) + y * W + column
    tl.store(to, total.to(out.dtype.element_ty), ok)
