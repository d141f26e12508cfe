"""What a graph's edges hold and where, numbered as in csrc/mixed_cell/math.h.

All numbers within an edge count in the order of its primitives. A `slot` is one batch-norm, a
`unit` one convolution output that enters the sum. Frozen, since kernels are compiled for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..schema import KINDS, edge_counts, primitive_shape


@dataclass(frozen=True)
class Convolution:
    """A candidate that convolves: separable (two stages), dilated, or the skip of stride 2.

    column: of alpha. kernel: 3 or 5, 0 for the skip. slot: of the last batch-norm; a separable
    one's first is the slot before. weight: first element of its weights within the edge's.
    first: its number among the edge's separable convolutions, else -1.
    grad: its first map among the edge's first-stage gradients (a skip has two, one a half).
    """

    column: int
    kernel: int
    dilation: int
    slot: int
    unit: int
    weight: int
    first: int
    grad: int


@dataclass(frozen=True)
class Pool:
    column: int
    slot: int


@dataclass(frozen=True)
class EdgePlan:
    stride: int
    convolutions: tuple[Convolution, ...]
    separable: tuple[Convolution, ...]
    max_pools: tuple[Pool, ...]
    avg_pools: tuple[Pool, ...]
    skips: tuple[int, ...]  # columns of stride-1 skips
    nones: tuple[int, ...]  # columns
    slots: int
    units: int
    weights: int  # elements
    grads: int

    @property
    def kinds_of_pools(self) -> int:
        return bool(self.max_pools) + bool(self.avg_pools)

    @property
    def sums(self) -> int:
        """S0, and S1 of each convolution, kind of pool and skip."""
        return 1 + len(self.convolutions) + self.kinds_of_pools + bool(self.skips)


@dataclass(frozen=True)
class Graph:
    inputs: int
    nodes: int
    columns: int  # of alpha
    channels: int
    sampled: int
    eps: float
    from_input: EdgePlan
    from_node: EdgePlan

    @property
    def states(self) -> int:
        return self.inputs + self.nodes

    @property
    def all_weights(self) -> int:
        return self.total("weights")

    def slots_of(self, sources: range, within: Sequence[int]) -> list[int]:
        """The slots `within` each edge that leaves one of the sources, numbered in the graph."""
        found = []
        for source in sources:
            for target in range(max(source + 1, self.inputs), self.states):
                row = (target * (target - 1) - self.inputs * (self.inputs - 1)) // 2 + source
                from_inputs = self.inputs * (target - self.inputs) + min(source, self.inputs)
                before = from_inputs * self.from_input.slots
                before += (row - from_inputs) * self.from_node.slots
                found += [before + slot for slot in within]
        return found

    def total(self, what: str) -> int:
        """Slots, units or weights of all edges."""
        from_inputs, from_nodes = edge_counts(self.inputs, self.nodes)
        of_inputs, of_nodes = (getattr(p, what) for p in (self.from_input, self.from_node))
        return int(from_inputs * of_inputs + from_nodes * of_nodes)


def edge_plan(primitives: Sequence[int], stride: int, sampled: int) -> EdgePlan:
    convolutions: list[Convolution] = []
    max_pools: list[Pool] = []
    avg_pools: list[Pool] = []
    skips: list[int] = []
    nones: list[int] = []
    slot = unit = weight = separable = grads = 0
    for column, code in enumerate(primitives):
        name = KINDS[code]
        if name == "none":
            nones.append(column)
        elif "pool" in name:
            (max_pools if name.startswith("max") else avg_pools).append(Pool(column, slot))
        elif name == "skip_connect" and stride == 1:
            skips.append(column)
        else:
            skip, twice = name == "skip_connect", name.startswith("sep")
            kernel = 0 if skip else int(name[-1])
            convolutions.append(
                Convolution(
                    column,
                    kernel,
                    2 if name.startswith("dil") else 1,
                    slot + twice,
                    unit,
                    weight,
                    separable if twice else -1,
                    grads,
                )
            )
            separable += twice
            grads += 2 if skip else 1
            weight += (1 + twice) * (kernel * kernel * sampled + sampled * sampled)
        shape = primitive_shape(name, stride)
        slot, unit = slot + shape.slots, unit + shape.units
    return EdgePlan(
        stride,
        tuple(convolutions),
        tuple(c for c in convolutions if c.first >= 0),
        tuple(max_pools),
        tuple(avg_pools),
        tuple(skips),
        tuple(nones),
        slot,
        unit,
        weight,
        grads,
    )


def make_graph(
    inputs: int,
    nodes: int,
    primitives: Sequence[int],
    channels: int,
    k: int,
    stride: int,
    eps: float,
) -> Graph:
    sampled = channels // k
    return Graph(
        inputs,
        nodes,
        len(primitives),
        channels,
        sampled,
        eps,
        edge_plan(primitives, stride, sampled),
        edge_plan(primitives, 1, sampled),
    )
