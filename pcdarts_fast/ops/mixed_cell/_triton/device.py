"""Functions that the kernels of mixed_cell call: edges, states, and a branch's convolutions."""

from __future__ import annotations

import triton
import triton.language as tl

from ..._triton.device import kernel_weights, put_row, relu, rstd_of, window


@triton.jit
def edge_into(target, source, GRAPH: tl.constexpr):
    """Of the edge: its row, how many edges before it leave an input, and how many a node."""
    INPUTS: tl.constexpr = GRAPH.inputs
    row = (target * (target - 1) - INPUTS * (INPUTS - 1)) // 2 + source
    from_inputs = INPUTS * (target - INPUTS) + tl.minimum(source, INPUTS)
    return row, from_inputs, row - from_inputs


@triton.jit
def slots_before(from_inputs, from_nodes, GRAPH: tl.constexpr):
    return from_inputs * GRAPH.from_input.slots + from_nodes * GRAPH.from_node.slots


@triton.jit
def units_before(from_inputs, from_nodes, GRAPH: tl.constexpr):
    return from_inputs * GRAPH.from_input.units + from_nodes * GRAPH.from_node.units


@triton.jit
def weights_before(from_inputs, from_nodes, GRAPH: tl.constexpr):
    return from_inputs * GRAPH.from_input.weights + from_nodes * GRAPH.from_node.weights


@triton.jit
def one_of(states, number):
    """The pointer states[number]; `states` is a tuple of pointers."""
    chosen = states[0]
    for i in tl.static_range(1, len(states)):
        if number == i:
            chosen = states[i]
    return chosen


@triton.jit
def map_at(maps, number, sample, count, size, SAMPLED: tl.constexpr):
    """[P] pointers to the first channel of a sample in map `number` of [maps, B, SAMPLED, size]."""
    return maps + tl.cast(number, tl.int64) * count * SAMPLED + sample * (size * SAMPLED)


@triton.jit
def state_taps(x, channel, plane, offset, inside):
    """relu of a state's channel at [taps, P]; x: [P] pointers to the samples."""
    v = tl.load(x[None, :] + (channel * plane + offset), inside, other=0.0).to(tl.float32)
    return relu(v)


@triton.jit
def middle_taps(z, channel, plane, offset, inside, mean, rstd):
    """The same in the middle of a separable convolution: relu((z - mean) * rstd), padded by 0."""
    v = tl.load(z[None, :] + (channel * plane + offset), inside, other=0.0)
    return tl.where(inside, relu((v - mean) * rstd), 0.0)


@triton.jit
def pointwise_add(z, matrix, rows, c, t, SAMPLED: tl.constexpr):
    """z [R, P] plus the pointwise weights of input channel c times t [P]."""
    column = tl.load(matrix + rows * SAMPLED + c, rows < SAMPLED, other=0.0)
    return z + column[:, None] * t[None, :]


@triton.jit
def rolled(n: tl.constexpr, H):
    """n as a bound that the compiler cannot see through: unrolled, loops over channels spill."""
    return tl.minimum(n, n * H)


@triton.jit
def skip_taps(x, c, sources, y, column, ok, H, W):
    """The two pixels that the halves of a stride-2 skip read, [P] each."""
    at = x + tl.load(sources + c) * (4 * H * W) + (2 * y) * (2 * W) + 2 * column
    first = relu(tl.load(at, ok, other=0.0).to(tl.float32))
    return first, relu(tl.load(at + 2 * W + 1, ok, other=0.0).to(tl.float32))


@triton.jit
def first_stage(
    x, sources, weights, y, column, ok, H, W,
    CONV: tl.constexpr, STRIDE: tl.constexpr, SAMPLED: tl.constexpr, KEEP: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """z [R, P] of a branch's first stage, and with KEEP the depthwise output t [R, P].

    x: [P] pointers to the samples. weights: of the branch.
    """
    rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
    z = tl.zeros((triton.next_power_of_2(SAMPLED), P), tl.float32)
    t_all = tl.zeros((triton.next_power_of_2(SAMPLED), P), tl.float32)
    if CONV.kernel == 0:
        half = rows >= SAMPLED - SAMPLED // 2
        for c in tl.range(0, rolled(SAMPLED, H), disable_licm=True):
            even, odd = skip_taps(x, c, sources, y, column, ok, H, W)
            t = tl.where(half[:, None], odd[None, :], even[None, :])
            w = tl.load(weights + rows * SAMPLED + c, rows < SAMPLED, other=0.0)
            z += w[:, None] * t
    else:
        plane = H * W * STRIDE * STRIDE
        offset, inside = window(
            y, column, ok, H * STRIDE, W * STRIDE, CONV.kernel, CONV.dilation, STRIDE
        )
        taps: tl.constexpr = CONV.kernel * CONV.kernel
        for c in tl.range(0, rolled(SAMPLED, H), disable_licm=True):
            v = state_taps(x, tl.load(sources + c), plane, offset, inside)
            t = tl.sum(kernel_weights(weights + c * taps, CONV.kernel) * v, 0)
            if KEEP:
                t_all = put_row(t_all, rows, c, t)
            z = pointwise_add(z, weights + SAMPLED * taps, rows, c, t, SAMPLED)
    return z, t_all


@triton.jit
def second_stage(
    z_first, mean, variance, weights, y, column, ok, H, W,
    CONV: tl.constexpr, EPS: tl.constexpr, SAMPLED: tl.constexpr, KEEP: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """The same of a separable convolution's second stage, from z of its first, [P] pointers.

    mean, variance: of its first batch-norm, [SAMPLED]. weights: of the branch.
    """
    rows = tl.arange(0, triton.next_power_of_2(SAMPLED))
    z = tl.zeros((triton.next_power_of_2(SAMPLED), P), tl.float32)
    t_all = tl.zeros((triton.next_power_of_2(SAMPLED), P), tl.float32)
    offset, inside = window(y, column, ok, H, W, CONV.kernel, 1, 1)
    taps: tl.constexpr = CONV.kernel * CONV.kernel
    weights += SAMPLED * (taps + SAMPLED)
    for c in tl.range(0, rolled(SAMPLED, H), disable_licm=True):
        rstd = rstd_of(tl.load(variance + c), EPS)
        v = middle_taps(z_first, c, H * W, offset, inside, tl.load(mean + c), rstd)
        t = tl.sum(kernel_weights(weights + c * taps, CONV.kernel) * v, 0)
        if KEEP:
            t_all = put_row(t_all, rows, c, t)
        z = pointwise_add(z, weights + SAMPLED * taps, rows, c, t, SAMPLED)
    return z, t_all
