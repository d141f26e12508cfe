"""mixed_cell: a whole graph of partial-channel mixed operations, forward and backward, fused.

With one input and one node it is a single edge; with two and four, the cell of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from .._registry import implements_in_triton
from ..channels import Table, check_tables
from ..checks import check_devices, check_dtype, check_even, check_stride
from ..dense import (
    accumulation_dtype,
    dense,
    dense_statistics,
    in_dtype_of,
    in_dtypes_of,
    kept_state,
)
from ..once import once_differentiable
from ..processes import shared_kernel
from .schema import KINDS as KINDS
from .schema import MOST as MOST
from .schema import edge_counts

implements_in_triton(
    __name__,
    mixed_cell_fwd="forward",
    mixed_cell_bwd="backward",
    synchronized_mixed_cell_fwd="synchronized_forward",
    synchronized_mixed_cell_bwd="synchronized_backward",
)


@dataclass(frozen=True)
class CellGraph:
    """What does not change from call to call.

    primitives: candidate operations, any of KINDS: alpha's columns.
    inputs: 1 for a single edge, 2 for a cell.
    nodes: every node has an edge from each input and each earlier node.
    k: C/k channels are mixed.
    stride: of the edges that leave an input, 1 or 2.
    eps: of the batch-norms.
    store: keep the convolutions' outputs for backward instead of computing them again.
    """

    primitives: tuple[str, ...]
    inputs: int
    nodes: int
    k: int
    stride: int
    eps: float
    store: bool
    codes: tuple[int, ...] = field(init=False)
    """The primitives' positions in KINDS."""
    edges: int = field(init=False)

    def __post_init__(self) -> None:
        check_stride(self.stride)
        codes = tuple(KINDS.index(primitive) for primitive in self.primitives)
        object.__setattr__(self, "codes", codes)  # frozen
        object.__setattr__(self, "edges", sum(edge_counts(self.inputs, self.nodes)))


class _MixedCell(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        graph: CellGraph,
        tables: tuple[Table, Table],
        backend: str,
        running: tuple[Tensor, Tensor] | None,
        processes: int,
        inputs_count: int,
        alpha: Tensor,
        beta: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        inputs, weights = tensors[:inputs_count], tensors[inputs_count:]
        wide = accumulation_dtype(inputs[0].dtype)
        out, mean, variance, z = shared_kernel("mixed_cell_fwd", backend, processes)(
            inputs,
            *dense([alpha, beta], wide),
            dense(weights, wide),
            *dense_statistics(running, wide),
            graph.codes,
            graph.nodes,
            graph.k,
            graph.stride,
            *tables,
            graph.eps,
            graph.store and any(ctx.needs_input_grad),
        )
        ctx.constants = graph, tables, backend, running is None, processes, inputs_count
        moments = running or (mean, variance)
        states = out if graph.nodes > 1 else None  # a single node is the source of no edge
        ctx.save_for_backward(alpha, beta, *moments, states, z, *inputs, *weights)
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)  # no zeros for them
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *_: Tensor) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * len(ctx.needs_input_grad)
        graph, tables, backend, training, processes, inputs_count = ctx.constants
        alpha, beta, mean, variance, out, z, *tensors = ctx.saved_tensors
        inputs, weights = tensors[:inputs_count], tensors[inputs_count:]
        need_alpha, need_beta, *needs = ctx.needs_input_grad[6:]
        need_inputs, need_weights = needs[:inputs_count], any(needs[inputs_count:])
        wide = accumulation_dtype(grad.dtype)
        run = shared_kernel("mixed_cell_bwd", backend, processes)
        (grad,) = dense([grad], grad.dtype)
        grad_inputs, grad_weights, grad_alpha, grad_beta = run(
            grad,
            dense(inputs, grad.dtype),
            *dense([alpha, beta], wide),
            dense(weights, wide),
            *dense([mean, variance], wide),
            *dense([grad if out is None else out], grad.dtype),
            *dense([z], wide),
            graph.codes,
            graph.nodes,
            graph.k,
            graph.stride,
            *tables,
            graph.eps,
            training,
            [int(need) for need in need_inputs],
            need_weights,
            need_alpha,
            need_beta,
        )
        return (
            *(None,) * 6,
            in_dtype_of(alpha, grad_alpha) if need_alpha else None,
            in_dtype_of(beta, grad_beta) if need_beta else None,
            *(g if need else None for g, need in zip(grad_inputs, need_inputs, strict=True)),
            *in_dtypes_of(weights, grad_weights),
        )


def mixed_cell(
    inputs: Sequence[Tensor],
    alpha: Tensor,
    beta: Tensor,
    weights: Sequence[Tensor],
    *,
    graph: CellGraph,
    tables: tuple[Table, Table],
    running: tuple[Tensor, Tensor] | None,
    backend: str,
    processes: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """All nodes of a cell: s_n = sum over edges e of beta_e * mixed_e(source) (paper eq. 2 and 4).

    Args:
        inputs: tensors [B, C, H, W] of one dtype, of the backend's `DTYPES` (sums of the 16-bit
            ones in float32).
        alpha: [edges, P], of one edge also [P], soft-maxed. beta: [edges], soft-maxed over every
            node's edges.
        weights: of every edge's convolutions, edge by edge, primitive by primitive: depthwise
            [C/k, 1, K, K] and pointwise [C/k, C/k, 1, 1] weights in turn (twice in a separable
            convolution); the two halves of a stride-2 skip.
        tables: (source, destination) of `channel_tables`.
        running: mean and variance [batch-norms, C/k] to normalise with; None: the batch's own.
        backend: a resolved name, see `_registry.resolve`.
        processes: without `running`, how many share their batch's statistics, see `processes.py`.

    Returns:
        The nodes [B, nodes * C, H/stride, W/stride]; the batch's mean and biased variance
        [batch-norms, C/k] (empty with `running`), in the order of the weights' batch-norms.

    Raises:
        UserError: the number of inputs, the shape or dtype of one, a table, the shape of alpha or
            beta, or a device does not fit.
        RuntimeError: the number of the weights, or of the elements of one, does not fit.
    """
    if len(inputs) != graph.inputs:
        raise UserError(f"inputs: got {len(inputs)}, wanted {graph.inputs}")
    x, shape = inputs[0], inputs[0].shape
    if len(shape) != 4 or shape[1] % graph.k or 0 in shape:
        raise UserError(
            f"inputs[0]: got {list(shape)}, wanted [B, C, H, W] without empty sizes, "
            f"C a multiple of k={graph.k}"
        )
    check_even("inputs[0]", x, graph.stride)
    check_tables(tables, shape[1])
    for i, other in enumerate(inputs[1:], 1):
        if other.shape != x.shape or other.dtype != x.dtype or other.device != x.device:
            raise UserError(
                f"inputs[{i}]: got {list(other.shape)}, {other.dtype} on {other.device}, "
                f"wanted {list(x.shape)}, {x.dtype} on {x.device} as inputs[0]"
            )
    check_dtype("inputs", x, backend)
    check_devices(x, alpha=alpha, beta=beta, weights=weights)
    edges, choices = graph.edges, len(graph.primitives)
    fits = alpha.shape == (edges, choices) or (edges == 1 and alpha.shape == (choices,))
    if beta.shape != (edges,) or not fits:
        raise UserError(
            f"alpha, beta: got {list(alpha.shape)} and {list(beta.shape)}, "
            f"wanted [{edges}, {choices}] and [{edges}]"
        )
    states = [kept_state(x) for x in inputs]
    out: tuple[Tensor, Tensor, Tensor] = _MixedCell.apply(
        graph, tables, backend, running, processes, len(states), alpha, beta, *states, *weights
    )
    return out
