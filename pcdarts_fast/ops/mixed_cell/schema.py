"""The kernels of mixed_cell: their schemas, and their results' shapes for tracing.

Their oracle is the eager cell one floor up (pcdarts_fast/nn/naive.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .._registry import define
from ..processes import define_synchronized

KINDS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The candidate operations that the engines have; the kernels know them by position (bind.h)."""

MOST = 16
"""States of a graph and primitives of an edge that the engines have room for (math.h)."""

FORWARD = (
    "mixed_cell_fwd(Tensor[] inputs, Tensor alpha, Tensor beta, Tensor[] weights,"
    " Tensor? running_mean, Tensor? running_variance, int[] primitives, int nodes, int k,"
    " int stride, int[] source, int[] destination, float eps, bool store)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)
BACKWARD = (
    "mixed_cell_bwd(Tensor grad_out, Tensor[] inputs, Tensor alpha, Tensor beta, Tensor[] weights,"
    " Tensor mean, Tensor variance, Tensor out, Tensor z, int[] primitives, int nodes, int k,"
    " int stride, int[] source, int[] destination, float eps, bool training, int[] need_inputs,"
    " bool need_weights, bool need_alpha, bool need_beta) -> (Tensor[], Tensor[], Tensor, Tensor)"
)


@dataclass(frozen=True)
class PrimitiveShape:
    """What a fused primitive holds: batch-norms, and convolution outputs to mix."""

    slots: int
    units: int


def primitive_shape(primitive: str, stride: int) -> PrimitiveShape:
    if primitive == "none" or (primitive == "skip_connect" and stride == 1):
        return PrimitiveShape(0, 0)
    if "pool" in primitive:
        return PrimitiveShape(1, 0)
    return PrimitiveShape(2 if primitive.startswith("sep") else 1, 1)


def edge_counts(inputs: int, nodes: int) -> tuple[int, int]:
    """How many edges of a graph leave its inputs, and how many its nodes."""
    return inputs * nodes, nodes * (nodes - 1) // 2


def _total(inputs: int, nodes: int, stride: int, primitives: Sequence[int], what: str) -> int:
    """Slots or units of all edges of a graph."""
    return sum(
        edges * getattr(primitive_shape(KINDS[code], s), what)
        for edges, s in zip(edge_counts(inputs, nodes), (stride, 1), strict=True)
        for code in primitives
    )


def _forward_fake(
    inputs: list[Tensor],
    alpha: Tensor,
    beta: Tensor,
    weights: list[Tensor],
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    primitives: Sequence[int],
    nodes: int,
    k: int,
    stride: int,
    source: Sequence[int],
    destination: Sequence[int],
    eps: float,
    store: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, C, H, W = inputs[0].shape
    H, W = H // stride, W // stride
    slots = _total(len(inputs), nodes, stride, primitives, "slots") if running_mean is None else 0
    units = _total(len(inputs), nodes, stride, primitives, "units") if store else 0
    return (
        inputs[0].new_empty(B, nodes * C, H, W),
        alpha.new_empty(slots, C // k),
        alpha.new_empty(slots, C // k),
        alpha.new_empty(B * units * (C // k) * H * ((W + 7) // 8 * 8)),
    )


def _backward_fake(
    grad_out: Tensor,
    inputs: list[Tensor],
    alpha: Tensor,
    beta: Tensor,
    weights: list[Tensor],
    mean: Tensor,
    variance: Tensor,
    out: Tensor,
    z: Tensor,
    primitives: Sequence[int],
    nodes: int,
    k: int,
    stride: int,
    source: Sequence[int],
    destination: Sequence[int],
    eps: float,
    training: bool,
    need_inputs: Sequence[int],
    need_weights: bool,
    need_alpha: bool,
    need_beta: bool,
) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    return (
        [
            x.new_empty(x.shape if need else (0,))
            for x, need in zip(inputs, need_inputs, strict=True)
        ],
        [alpha.new_empty(weight.shape) for weight in weights] if need_weights else [],
        alpha.new_empty(alpha.shape if need_alpha else (0,)),
        beta.new_empty(beta.shape if need_beta else (0,)),
    )


for _define in (define, define_synchronized):
    _define(FORWARD, fake=_forward_fake)
    _define(BACKWARD, fake=_backward_fake)
