"""The backward pass of mixed_cell on Triton: which kernels run, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..._triton.launch import launch, power_of_2
from ..._triton.sums import weight_gradients
from ...processes import total
from .edge_kernels import edge_gradient_kernel
from .first_kernels import first_pointwise_kernel
from .forward import Cell, Group, make_cell, padded
from .input_kernels import input_gradient_kernel
from .plan import make_graph
from .second_kernels import first_norm_kernel, second_depthwise_kernel, second_pointwise_kernel
from .source_kernels import first_stage_kernel
from .sums_kernels import sums_kernel


@dataclass(frozen=True)
class Gradients:
    """What backward reads beside the cell, and what it writes."""

    mean: Tensor
    variance: Tensor
    z: Tensor  # empty: computed again
    out: Tensor  # from outside
    nodes: Tensor  # complete gradients of all nodes but the last
    inputs: tuple[Tensor, ...]
    weights: Tensor  # [tiles, all weights], empty where they are not wanted
    alpha: Tensor  # likewise
    beta: Tensor
    training: bool

    @property
    def stored(self) -> bool:
        """Whether forward has kept z."""
        return self.z.numel() > 0

    @property
    def need_weights(self) -> bool:
        return self.weights.numel() > 0


def backward(*arguments: Any) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    return synchronized_backward(1, *arguments)


def synchronized_backward(
    processes: int,
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
    x = inputs[0]
    graph = make_graph(len(inputs), nodes, primitives, x.shape[1], k, stride, eps)
    cell = make_cell(processes, inputs, out, alpha, beta, weights, graph, source, destination)
    elements = graph.all_weights if need_weights else 0
    rows = cell.tiles if stride == 1 else -(-4 * cell.count // cell.tile)
    # at stride 2 only the inputs' gradients have so many tiles
    make_partial = alpha.new_empty if stride == 1 else alpha.new_zeros
    grads = Gradients(
        mean,
        variance,
        z,
        grad_out,
        torch.empty_like(out) if nodes > 1 else grad_out,
        tuple(torch.empty_like(x) if need else x.new_empty(0) for need in need_inputs),
        make_partial(rows, elements),
        alpha.new_empty(alpha.shape if need_alpha else (0,)),
        alpha.new_empty(beta.shape if need_beta else (0,)),
        training,
    )
    for state in range(graph.states - 2, graph.inputs - 1, -1):
        run_group(cell, cell.group(state), grads, need_state=True)
    needs = [bool(need) for need in need_inputs]
    if all(needs) or not any(needs):
        run_group(cell, cell.group(0, graph.inputs), grads, need_state=needs[0])
    else:
        for number, need in enumerate(needs):
            run_group(cell, cell.group(number), grads, need_state=need)
    grad_weights = weight_gradients(grads.weights, weights) if need_weights else []
    return list(grads.inputs), grad_weights, grads.alpha, grads.beta


def run_group(cell: Cell, group: Group, grads: Gradients, *, need_state: bool) -> None:
    """All passes of a group's sources, whose later states are done."""
    z_first, coefficients = sums_pass(cell, group, grads)
    if need_state or grads.need_weights:
        g_first, first_coefficients = second_pass(cell, group, grads, z_first, coefficients)
        first = (z_first, coefficients, g_first, first_coefficients)
        first_pass(cell, group, grads, *first, need_state=need_state)


def sums_pass(cell: Cell, group: Group, grads: Gradients) -> tuple[Tensor, Tensor]:
    """C': z of the separable convolutions' first stages, and what the last batch-norms need."""
    graph, plan, H, W = cell.graph, group.plan, cell.H, cell.W
    z_first = cell.empty_maps(_firsts(group))
    empty = z_first.new_empty(0)
    if plan.separable:
        launch(
            first_stage_kernel,
            (cell.tiles, group.jobs),
            *(group.states, group.sample, cell.tables, cell.weights, grads.z, z_first, empty),
            *(*_where(cell, group), H, W, cell.tiles),
            GRAPH=graph,
            PLAN=plan,
            ONLY_SEPARABLE=True,
            STATS=False,
            P=cell.tile,
            warps=cell.warps,
        )
    jobs, bypasses = group.jobs, graph.channels - graph.sampled
    partial = empty.new_empty(jobs * plan.sums * graph.sampled * cell.tiles)
    bypass = empty.new_empty(jobs * bypasses * cell.tiles)
    coefficients = empty.new_empty(jobs * (len(plan.convolutions) + 2) * 3 * graph.sampled)
    need_beta = grads.beta.numel() > 0
    launch(
        sums_kernel,
        (cell.tiles, jobs + (group.sources * bypasses if need_beta else 0)),
        *(*_read(cell, group, grads, z_first), partial, bypass),
        *(*_where(cell, group), H, W, cell.tiles, jobs),
        GRAPH=graph,
        PLAN=plan,
        STORED=grads.stored,
        P=cell.tile,
        warps=cell.warps,
    )
    own = partial, cell.count, cell.tiles, grads.alpha.numel() > 0, need_beta
    passes = [own]
    if cell.processes > 1:  # alpha's and beta's gradients are of the own batch, the norms' of all
        passes.append((*_of_all(cell, partial), False, False))
    for sums, count, tiles, for_alpha, for_beta in passes:
        launch(
            edge_gradient_kernel,
            (jobs,),
            *(sums, bypass, cell.alpha, cell.beta, grads.mean, grads.variance, coefficients),
            *(grads.alpha, grads.beta, group.first, group.edges, count, tiles),
            GRAPH=graph,
            PLAN=plan,
            TRAINING=grads.training,
            NEED_ALPHA=for_alpha,
            NEED_BETA=for_beta,
            BLOCK=_block(tiles),
            P=128,
        )
    return z_first, coefficients


def second_pass(
    cell: Cell, group: Group, grads: Gradients, z_first: Tensor, coefficients: Tensor
) -> tuple[Tensor, Tensor]:
    """B': gradients of the first batch-norms' outputs, and what these batch-norms need."""
    graph, plan, H, W = cell.graph, group.plan, cell.H, cell.W
    firsts, norms = _firsts(group), (grads.mean, grads.variance)
    g_first = cell.empty_maps(firsts)
    first_coefficients = z_first.new_empty(firsts * 3 * graph.sampled)
    if not firsts:
        return g_first, first_coefficients
    dt = cell.empty_maps(firsts)
    launch(
        second_pointwise_kernel,
        (cell.tiles, group.jobs),
        *(*_read(cell, group, grads, z_first), coefficients, dt, grads.weights),
        *(*_where(cell, group), H, W),
        GRAPH=graph,
        PLAN=plan,
        STORED=grads.stored,
        WEIGHTS=grads.need_weights,
        P=cell.tile,
        warps=cell.warps,
    )
    partial = z_first.new_empty(firsts * 2 * graph.sampled * cell.tiles)
    launch(
        second_depthwise_kernel,
        (cell.tiles, firsts, graph.sampled),
        *(cell.weights, *norms, z_first, dt, g_first, partial, grads.weights),
        *(*_where(cell, group), H, W, cell.tiles),
        GRAPH=graph,
        PLAN=plan,
        WEIGHTS=grads.need_weights,
        P=cell.tile,
        warps=cell.warps,
    )
    sums, count, tiles = _of_all(cell, partial)
    launch(
        first_norm_kernel,
        (firsts,),
        *(sums, *norms, first_coefficients, group.first, group.edges, count, tiles),
        GRAPH=graph,
        PLAN=plan,
        TRAINING=grads.training,
        BLOCK=_block(tiles),
        P=128,
    )
    return g_first, first_coefficients


def first_pass(
    cell: Cell,
    group: Group,
    grads: Gradients,
    z_first: Tensor,
    coefficients: Tensor,
    g_first: Tensor,
    first_coefficients: Tensor,
    *,
    need_state: bool,
) -> None:
    """A': the first stages, and everything else that reaches the states."""
    graph, plan, H, W = cell.graph, group.plan, cell.H, cell.W
    pools = plan.kinds_of_pools > 0
    dt = cell.empty_maps(group.jobs * plan.grads)
    pool_grads = cell.empty_maps(group.sources * 2 if pools else 0)
    winners = dt.new_empty(
        group.sources * cell.count * graph.sampled if plan.max_pools else 0, dtype=torch.int8
    )
    launch(
        first_pointwise_kernel,
        (cell.tiles, group.jobs + (group.sources if pools else 0)),
        *(*_read(cell, group, grads, z_first), coefficients, first_coefficients, g_first, dt),
        *(grads.weights, pool_grads, winners, *_where(cell, group), H, W, group.jobs),
        GRAPH=graph,
        PLAN=plan,
        STORED=grads.stored,
        WEIGHTS=grads.need_weights,
        P=cell.tile,
        warps=cell.warps,
    )
    if group.first >= graph.inputs:
        node, C = group.first - graph.inputs, graph.channels
        written: tuple[Tensor, ...] = (grads.nodes[:, node * C : (node + 1) * C],)
    else:
        written = grads.inputs[group.first : group.first + group.sources]
    channels = graph.channels if need_state else graph.sampled
    launch(
        input_gradient_kernel,
        (-(-cell.count * plan.stride**2 // cell.tile), group.sources * channels),
        *(group.states, padded(written, graph.inputs), group.sample),
        *(cell.tables, cell.alpha, cell.beta, cell.weights, dt, grads.weights),
        *(pool_grads, winners, grads.out, grads.nodes, *_where(cell, group), H, W),
        GRAPH=graph,
        PLAN=plan,
        WEIGHTS=grads.need_weights,
        NEED=need_state,
        P=cell.tile,
        warps=cell.warps,
    )


def _read(cell: Cell, group: Group, grads: Gradients, z_first: Tensor) -> tuple[Any, ...]:
    """What every pass reads first."""
    state = group.states, group.sample, cell.tables, cell.weights
    return *state, grads.mean, grads.variance, grads.z, z_first, grads.out, grads.nodes


def _where(cell: Cell, group: Group) -> tuple[int, int, int]:
    return group.first, group.edges, cell.count


def _firsts(group: Group) -> int:
    """First stages of separable convolutions, of all edges that leave the group."""
    return group.jobs * len(group.plan.separable)


def _block(tiles: int) -> int:
    """Tiles whose sums a program adds up at once."""
    return min(128, power_of_2(tiles))


def _of_all(cell: Cell, partial: Tensor) -> tuple[Tensor, int, int]:
    """Sums [..., tiles] over all batches, in one tile where there are others; pixels; tiles."""
    if cell.processes == 1:
        return partial, cell.count, cell.tiles
    sums = total(partial.view(-1, cell.tiles).sum(1), cell.processes)
    return sums, cell.processes * cell.count, 1
