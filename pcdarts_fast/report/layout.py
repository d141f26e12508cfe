"""Where everything in a drawing of a cell goes: a layered layout from left to right, in inches.

Columns alternate between states and operations: an operation is an item of its own on the way from
its source to its node, and an edge that passes a column holds a place in it. So no label can lie on
an edge or on another label, however deep the cell is (Sugiyama et al., 1981).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Literal

from ..space import CELL_INPUTS

Kind = Literal["input", "node", "output", "operation", "passage"]

HEIGHT: dict[Kind, float] = {
    "input": 0.42,
    "node": 0.42,
    "output": 0.42,
    "operation": 0.26,
    "passage": 0.04,
}
CLEARANCE = 0.13
CHARACTER_WIDTH = 0.082
# Long edges should run straight, the bends belong beside the states (Gansner et al., 1993).
STRAIGHTNESS = {0: 1.0, 1: 2.0, 2: 40.0}


@dataclass
class Item:
    """A state, an operation, or the passage of an edge through a column, centred at (x, y)."""

    kind: Kind
    label: str
    rank: int
    width: float
    state: int | None = None
    x: float = 0.0
    y: float = 0.0
    neighbours: list[Item] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Line:
    """An edge: the items it visits from left to right; one that concatenates has no operation."""

    items: list[Item]
    concat: bool


@dataclass(frozen=True)
class Layout:
    """All items and lines of one cell; (0, 0) is the lower left corner."""

    items: list[Item]
    lines: list[Line]
    width: float
    height: float


def layout_cell(edges: Sequence[tuple[str, int]], concat: Sequence[int]) -> Layout:
    """The layout of the cell with these (primitive, source) pairs, two per node."""
    columns, lines = _columns(edges, concat)
    for line in lines:
        for left, right in pairwise(line.items):
            left.neighbours.append(right)
            right.neighbours.append(left)
    columns = _order(columns)
    _place_vertically(columns)
    _place_horizontally(columns)
    items = [item for column in columns for item in column]
    width = max(item.x + item.width / 2 for item in items)
    height = max(item.y + HEIGHT[item.kind] / 2 for item in items)
    return Layout(items, lines, width, height)


def _columns(
    edges: Sequence[tuple[str, int]], concat: Sequence[int]
) -> tuple[list[list[Item]], list[Line]]:
    """The items by column, and the lines through them; no coordinates yet."""
    nodes = len(edges) // 2
    depth = [0] * CELL_INPUTS
    for node in range(nodes):
        depth.append(1 + max(depth[source] for _, source in edges[2 * node : 2 * node + 2]))
    columns: list[list[Item]] = [[] for _ in range(2 * max(depth) + 2)]

    def add(kind: Kind, label: str, rank: int, width: float, state: int | None = None) -> Item:
        item = Item(kind, label, rank, width, state)
        columns[rank].append(item)
        return item

    def passages(source: Item, rank: int) -> list[Item]:
        return [add("passage", "", between, 0.0) for between in range(source.rank + 1, rank)]

    states = [add("input", "$c_{k-2}$", 0, 0.62, 0), add("input", "$c_{k-1}$", 0, 0.62, 1)]
    states += [
        add("node", str(state - CELL_INPUTS), 2 * depth[state], HEIGHT["node"], state)
        for state in range(CELL_INPUTS, len(depth))
    ]
    output = add("output", "$c_k$", len(columns) - 1, 0.62)
    lines = []
    for number, (primitive, source) in enumerate(edges):
        target = states[CELL_INPUTS + number // 2]
        width = CHARACTER_WIDTH * len(primitive) + 0.16
        operation = add("operation", primitive, target.rank - 1, width)
        way = passages(states[source], operation.rank)
        lines.append(Line([states[source], *way, operation, target], concat=False))
    for state in concat:
        way = passages(states[state], output.rank)
        lines.append(Line([states[state], *way, output], concat=True))
    return columns, lines


def _order(columns: list[list[Item]]) -> list[list[Item]]:
    """The order within each column, bottom to top, with few crossings: barycentre sweeps."""
    dice = random.Random(0)
    starts = [[column[::-1] for column in columns]]
    starts += [[dice.sample(column, len(column)) for column in columns] for _ in range(40)]
    best, least = starts[0], _cost(starts[0])
    for trial in starts:
        for sweep in range(8):
            ranks = range(1, len(trial)) if sweep % 2 == 0 else range(len(trial) - 2, -1, -1)
            for rank in ranks:
                beside = trial[rank - 1 if sweep % 2 == 0 else rank + 1]
                trial[rank] = _by_barycentre(trial[rank], beside)
            for candidate in (trial, [column[::-1] for column in trial]):
                cost = _cost(candidate)
                if cost < least:
                    best, least = [list(column) for column in candidate], cost
    return best


def _by_barycentre(column: list[Item], beside: list[Item]) -> list[Item]:
    """`column` sorted by the mean relative position of each item's neighbours in `beside`."""
    position = {id(item): (i + 0.5) / len(beside) for i, item in enumerate(beside)}

    def barycentre(place: int) -> float:
        near = [position[id(n)] for n in column[place].neighbours if id(n) in position]
        return sum(near) / len(near) if near else (place + 0.5) / len(column)

    return [column[place] for place in sorted(range(len(column)), key=barycentre)]


def _cost(columns: list[list[Item]]) -> tuple[int, int, float]:
    """Number of crossings, then of states out of order (first on top), then how far edges climb."""
    crossings, climb = 0, 0.0
    states = [[item.state for item in column if item.state is not None] for column in columns]
    disorder = sum(a < b for column in states for a, b in combinations(column, 2))
    for left, right in pairwise(columns):
        position = {id(item): i for i, item in enumerate(right)}
        ends = [
            (i, position[id(n)])
            for i, item in enumerate(left)
            for n in item.neighbours
            if id(n) in position
        ]
        crossings += sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in combinations(ends, 2))
        climb += sum(abs((i + 0.5) / len(left) - (j + 0.5) / len(right)) for i, j in ends)
    return crossings, disorder, climb


def _place_vertically(columns: list[list[Item]]) -> None:
    """Minimises the squared climb of all edges, column by column, while items keep clear."""
    for column in columns:
        for number, item in enumerate(column):
            item.y = number - len(column) / 2
    for sweep in range(600):
        for column in columns if sweep % 2 == 0 else columns[::-1]:
            wanted, weights = [], []
            for item in column:
                pulls = [
                    (STRAIGHTNESS[(item.kind == "passage") + (n.kind == "passage")], n.y)
                    for n in item.neighbours
                ] or [(1e-3, item.y)]
                weights.append(sum(pull for pull, _ in pulls))
                wanted.append(sum(pull * y for pull, y in pulls) / weights[-1])
            gaps = [(HEIGHT[a.kind] + HEIGHT[b.kind]) / 2 + CLEARANCE for a, b in pairwise(column)]
            for item, y in zip(column, _spread(wanted, weights, gaps), strict=True):
                item.y = y
    bottom = min(item.y - HEIGHT[item.kind] / 2 for column in columns for item in column)
    for column in columns:
        for item in column:
            item.y -= bottom


def _spread(wanted: list[float], weights: list[float], gaps: list[float]) -> list[float]:
    """The positions nearest to `wanted` (weighted squares) with y[i+1] - y[i] >= gaps[i].

    Without the gaps this is isotonic regression: pool adjacent violators.
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[tuple[float, float, int]] = []  # mean, weight, number of items
    for target, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, count = target - offset, 1
        while pools and pools[-1][0] >= mean:
            below, below_weight, below_count = pools.pop()
            mean = (below * below_weight + mean * weight) / (below_weight + weight)
            weight, count = weight + below_weight, count + below_count
        pools.append((mean, weight, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _place_horizontally(columns: list[list[Item]]) -> None:
    """Sets columns side by side, further apart where edges between them climb more."""
    left_edge = 0.0
    for rank, column in enumerate(columns):
        width = max((item.width for item in column), default=0.0)
        for item in column:
            item.x = left_edge + width / 2
            if item.kind == "passage":
                item.width = width
        climbs = [abs(n.y - i.y) for i in column for n in i.neighbours if n.rank > rank]
        left_edge += width + 0.3 + 0.22 * max(climbs, default=0.0)
