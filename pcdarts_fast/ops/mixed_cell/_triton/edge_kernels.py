"""Backward, the end of C': from an edge's sums to d alpha, d beta and its batch-norms' a, b, c."""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import norm_gradient, rstd_of
from .device import edge_into, slots_before


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
    upstream, own, constant = tl.zeros_like(s0), tl.zeros_like(s0), tl.zeros_like(s0)
    shares = 0.0
    for i in tl.static_range(len(POOLS)):
        if i > 0:  # s1 has the mean of the pool before; running means of equal ones may differ
            valid = rows < GRAPH.sampled
            before, own_mean = slot + POOLS[i - 1].slot, slot + POOLS[i].slot
            moved = tl.load(mean + before * GRAPH.sampled + rows, valid, other=0.0)
            moved -= tl.load(mean + own_mean * GRAPH.sampled + rows, valid, other=0.0)
            s1 += s0 * moved
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
    d_beta = 0.0
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
            number = first + tl.arange(0, BLOCK)
            total += tl.load(bypass + local * values + number, number < values, other=0.0)
        tl.store(grad_beta + row, d_beta + tl.sum(total, 0))
