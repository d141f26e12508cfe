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
from .forward import Cell, Group, make_cell
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
    graph, plan, H, W = cell.graph, group.plan, cell.H, cell.W
    jobs, separable = group.sources * group.edges, len(group.plan.separable)
    need_weights, stored = grads.weights.numel() > 0, grads.z.numel() > 0
    where = group.first, group.edges, cell.count
    state = group.states, group.sample, cell.tables
    norms = grads.mean, grads.variance
    node_grads = grads.out, grads.nodes
    grid = cell.tiles, jobs
    block = min(128, power_of_2(cell.tiles))

    z_first = cell.empty_maps(jobs * separable)
    empty = z_first.new_empty(0)
    if separable:
        launch(
            first_stage_kernel,
            grid,
            *(*state, cell.weights, grads.z, z_first, empty, *where, H, W, cell.tiles),
            GRAPH=graph,
            PLAN=plan,
            ONLY_SEPARABLE=True,
            STATS=False,
            P=cell.tile,
            warps=cell.warps,
        )
    bypasses = graph.channels - graph.sampled
    partial = empty.new_empty(jobs * plan.sums * graph.sampled * cell.tiles)
    bypass = empty.new_empty(jobs * bypasses * cell.tiles)
    coefficients = empty.new_empty(jobs * (len(plan.convolutions) + 2) * 3 * graph.sampled)
    need_beta = grads.beta.numel() > 0
    launch(
        sums_kernel,
        (cell.tiles, jobs + (group.sources * bypasses if need_beta else 0)),
        *(*state, cell.weights, *norms, grads.z, z_first, *node_grads),
        *(partial, bypass, *where, H, W, cell.tiles, jobs),
        GRAPH=graph,
        PLAN=plan,
        STORED=stored,
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
            *(sums, bypass, cell.alpha, cell.beta, *norms, coefficients, grads.alpha, grads.beta),
            *(group.first, group.edges, count, tiles),
            GRAPH=graph,
            PLAN=plan,
            TRAINING=grads.training,
            NEED_ALPHA=for_alpha,
            NEED_BETA=for_beta,
            BLOCK=min(block, power_of_2(tiles)),
            P=128,
        )
    if not need_state and not need_weights:
        return

    g_first = cell.empty_maps(jobs * separable)
    first_coefficients = empty.new_empty(jobs * separable * 3 * graph.sampled)
    if separable:
        dt = cell.empty_maps(jobs * separable)
        launch(
            second_pointwise_kernel,
            grid,
            *(*state, cell.weights, *norms, grads.z, z_first, *node_grads),
            *(coefficients, dt, grads.weights, *where, H, W),
            GRAPH=graph,
            PLAN=plan,
            STORED=stored,
            WEIGHTS=need_weights,
            P=cell.tile,
            warps=cell.warps,
        )
        partial = empty.new_empty(jobs * separable * 2 * graph.sampled * cell.tiles)
        launch(
            second_depthwise_kernel,
            (cell.tiles, jobs * separable, graph.sampled),
            *(cell.weights, *norms, z_first, dt, g_first, partial, grads.weights),
            *(*where, H, W, cell.tiles),
            GRAPH=graph,
            PLAN=plan,
            WEIGHTS=need_weights,
            P=cell.tile,
            warps=cell.warps,
        )
        sums, count, tiles = _of_all(cell, partial)
        launch(
            first_norm_kernel,
            (jobs * separable,),
            *(sums, *norms, first_coefficients, group.first, group.edges, count, tiles),
            GRAPH=graph,
            PLAN=plan,
            TRAINING=grads.training,
            BLOCK=min(block, power_of_2(tiles)),
            P=128,
        )
    dt = cell.empty_maps(jobs * plan.grads)
    pools = plan.kinds_of_pools > 0
    pool_grads = cell.empty_maps(group.sources * 2 if pools else 0)
    winners = empty.new_empty(
        group.sources * cell.count * graph.sampled if plan.max_pools else 0, dtype=torch.int8
    )
    launch(
        first_pointwise_kernel,
        (cell.tiles, jobs + (group.sources if pools else 0)),
        *(*state, cell.weights, *norms, grads.z, z_first, *node_grads),
        *(coefficients, first_coefficients, g_first, dt, grads.weights, pool_grads, winners),
        *(*where, H, W, jobs),
        GRAPH=graph,
        PLAN=plan,
        STORED=stored,
        WEIGHTS=need_weights,
        P=cell.tile,
        warps=cell.warps,
    )
    if group.first >= graph.inputs:
        node, C = group.first - graph.inputs, graph.channels
        written: tuple[Tensor, ...] = (grads.nodes[:, node * C : (node + 1) * C],)
    else:
        written = grads.inputs[group.first : group.first + group.sources]
    channels = graph.channels
    launch(
        input_gradient_kernel,
        (-(-cell.count * plan.stride**2 // cell.tile), group.sources * channels),
        *(group.states, written + written[:1] * (graph.inputs - len(written)), group.sample),
        *(cell.tables, cell.alpha, cell.beta, cell.weights, dt, grads.weights),
        *(pool_grads, winners, *node_grads, *where, H, W),
        GRAPH=graph,
        PLAN=plan,
        WEIGHTS=need_weights,
        P=cell.tile,
        warps=cell.warps,
    )


def _of_all(cell: Cell, partial: Tensor) -> tuple[Tensor, int, int]:
    """Sums [..., tiles] over all batches, in one tile where there are others; pixels; tiles."""
    if cell.processes == 1:
        return partial, cell.count, cell.tiles
    sums = total(partial.view(-1, cell.tiles).sum(1), cell.processes)
    return sums, cell.processes * cell.count, 1
