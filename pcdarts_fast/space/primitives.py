"""The candidate operations of an edge and the numbering of a cell's edges."""

from __future__ import annotations

from typing import Literal, NamedTuple

PRIMITIVES: tuple[str, ...] = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""Candidate operations in the order of alpha's columns (paper section 4.1)."""

CELLS: tuple[Literal["normal", "reduce"], ...] = ("normal", "reduce")
"""The two kinds of cells; a reduction cell halves the images."""
CELL_INPUTS = 2
"""A cell reads the outputs of the two cells before it: states 0 and 1; nodes are states 2, 3..."""


class Edge(NamedTuple):
    """A directed edge of a cell, between state numbers."""

    source: int
    target: int


def cell_edges(nodes: int = 4) -> tuple[Edge, ...]:
    """Every edge of a cell in the order of alpha's rows: by target, then by source."""
    targets = range(CELL_INPUTS, CELL_INPUTS + nodes)
    return tuple(Edge(source, target) for target in targets for source in range(target))


def edges_into(target: int) -> slice:
    """The rows of alpha (and beta) that belong to the edges ending in state `target`."""
    first = sum(range(CELL_INPUTS, target))
    return slice(first, first + target)


def reductions(layers: int) -> set[int]:
    """The reduction cells among so many: one and two thirds of the way (paper section 4.1)."""
    return {layers // 3, 2 * layers // 3}
