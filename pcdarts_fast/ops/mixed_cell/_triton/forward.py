"""The forward pass of mixed_cell on Triton: which kernels run, in which order."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..._triton.launch import channel_table, launch, power_of_2, tile_of
from ...processes import merge_moments
from .node_kernel import node_kernel
from .plan import EdgePlan, Graph, make_graph
from .source_kernels import first_stage_kernel, moments_kernel, second_stage_kernel


@dataclass(frozen=True)
class Group:
    """States that are treated as sources together: all inputs, or one node."""

    states: tuple[Tensor, ...]  # padded to as many as there are inputs, for one compiled kernel
    first: int
    sources: int
    edges: int  # of each source
    plan: EdgePlan
    sample: int  # elements between two samples

    @property
    def jobs(self) -> int:
        """Edges that leave the group."""
        return self.sources * self.edges


@dataclass(frozen=True)
class Cell:
    """A call of the operator, as both directions see it."""

    graph: Graph
    inputs: tuple[Tensor, ...]
    out: Tensor
    weights: Tensor  # all of them, flat
    alpha: Tensor
    beta: Tensor
    tables: Tensor
    count: int  # pixels of a node's channel in the whole batch
    H: int
    W: int
    tile: int  # pixels of a program
    warps: int
    processes: int  # that share the batch's statistics

    @property
    def tiles(self) -> int:
        return -(-self.count // self.tile)

    def empty_maps(self, maps: int) -> Tensor:
        return self.alpha.new_empty(maps * self.count * self.graph.sampled)

    def group(self, first: int, sources: int = 1) -> Group:
        """The sources `first`, first + 1, ...: inputs, or one node."""
        graph, C = self.graph, self.graph.channels
        edges = graph.states - max(first + 1, graph.inputs)
        if first < graph.inputs:
            states = self.inputs[first : first + sources]
            plan, sample = graph.from_input, self.inputs[0][0].numel()
        else:
            node = first - graph.inputs
            states = (self.out[:, node * C : (node + 1) * C],)
            plan, sample = graph.from_node, graph.nodes * C * self.H * self.W
        return Group(padded(states, graph.inputs), first, sources, edges, plan, sample)


def padded(states: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    """Up to `count` of them: a kernel takes as many, used or not."""
    return states + states[:1] * (count - len(states))


def make_cell(
    processes: int,
    inputs: Sequence[Tensor],
    out: Tensor,
    alpha: Tensor,
    beta: Tensor,
    weights: Sequence[Tensor],
    graph: Graph,
    source: Sequence[int],
    destination: Sequence[int],
) -> Cell:
    B, _, H, W = out.shape
    flat = torch.cat([w.flatten() for w in weights]) if weights else alpha.new_empty(0)
    return Cell(
        graph,
        tuple(inputs),
        out,
        flat,
        alpha,
        beta,
        channel_table(source, destination, out.device),
        B * H * W,
        H,
        W,
        *tile_of(graph.sampled),
        processes,
    )


def forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return synchronized_forward(1, *arguments)


def synchronized_forward(
    processes: int,
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
    x = inputs[0]
    B, C, H, W = x.shape
    H, W = H // stride, W // stride
    graph = make_graph(len(inputs), nodes, primitives, C, k, stride, eps)
    out = x.new_empty(B, nodes * C, H, W)
    cell = make_cell(processes, inputs, out, alpha, beta, weights, graph, source, destination)
    units = graph.total("units")
    z = alpha.new_empty(units * B * graph.sampled * H * (-(-W // 8) * 8 if store else W))
    if running_mean is None or running_variance is None:
        mean, variance = alpha.new_empty(2, graph.total("slots"), graph.sampled).unbind()
        batch = mean, variance
    else:
        mean, variance = running_mean, running_variance
        batch = alpha.new_empty(0, graph.sampled), alpha.new_empty(0, graph.sampled)
    run_source(cell, cell.group(0, graph.inputs), mean, variance, z, stats=running_mean is None)
    for target in range(graph.inputs, graph.states):
        launch(
            node_kernel,
            (cell.tiles, C),
            *(cell.inputs, out, cell.tables, alpha, beta, mean, variance, z),
            *(target, cell.count, H, W),
            GRAPH=graph,
            P=cell.tile,
            warps=cell.warps,
        )
        if target + 1 < graph.states:
            run_source(cell, cell.group(target), mean, variance, z, stats=running_mean is None)
    return out, *batch, z if store else z.new_empty(0)


def run_source(
    cell: Cell, group: Group, mean: Tensor, variance: Tensor, z: Tensor, *, stats: bool
) -> None:
    """Passes A and B of a group's sources, and the statistics."""
    graph, plan = cell.graph, group.plan
    jobs = group.jobs
    own, separable = len(plan.convolutions), len(plan.separable)
    z_first = cell.empty_maps(jobs * separable)
    maps = jobs * own + 2 * group.sources
    partial = cell.alpha.new_empty(maps * 2 * graph.sampled * cell.tiles if stats else 0)
    where = group.first, group.edges, cell.count
    launch(
        first_stage_kernel,
        (cell.tiles, jobs),
        *(group.states, group.sample, cell.tables, cell.weights, z, z_first, partial),
        *(*where, cell.H, cell.W, cell.tiles),
        GRAPH=graph,
        PLAN=plan,
        ONLY_SEPARABLE=False,
        STATS=stats,
        P=cell.tile,
        warps=cell.warps,
    )
    first = tuple(c.slot - (c.first >= 0) for c in plan.convolutions)
    shared = [(pool.slot, 0) for pool in plan.max_pools]
    shared += [(pool.slot, 1) for pool in plan.avg_pools]
    second = tuple(c.slot for c in plan.separable)
    if stats:
        run_moments(cell, group, partial, mean, variance, first, tuple(shared))
    if not separable:
        return
    launch(
        second_stage_kernel,
        (cell.tiles, jobs),
        *(z_first, cell.weights, mean, variance, z, partial),
        *(*where, cell.H, cell.W, cell.tiles),
        GRAPH=graph,
        PLAN=plan,
        STATS=stats,
        P=cell.tile,
        warps=cell.warps,
    )
    if stats:
        run_moments(cell, group, partial, mean, variance, second, ())


def run_moments(
    cell: Cell,
    group: Group,
    partial: Tensor,
    mean: Tensor,
    variance: Tensor,
    own: tuple[int, ...],
    shared: tuple[tuple[int, int], ...],
) -> None:
    norms = group.sources * group.edges * (len(own) + len(shared))
    launch(
        moments_kernel,
        (norms, cell.graph.sampled),
        *(partial, mean, variance, group.first, group.edges, cell.count, cell.tiles),
        GRAPH=cell.graph,
        OWN=own,
        SHARED=shared,
        P=cell.tile,
        warps=cell.warps,
        BLOCK=min(1024, power_of_2(cell.tiles)),
    )
    if cell.processes > 1 and norms:
        within = *own, *(slot for slot, _ in shared)
        rows = _rows(cell.graph, group.first, group.sources, within, mean.device)
        merge_moments(mean, variance, cell.processes, rows)


@functools.cache
def _rows(
    graph: Graph, first: int, sources: int, within: tuple[int, ...], device: torch.device
) -> Tensor:
    """Where the statistics of a group's norms lie; copied to the device once."""
    slots = graph.slots_of(range(first, first + sources), within)
    return torch.tensor(slots, device=device)
