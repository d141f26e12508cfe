"""From the strengths of all operations to the ones that are kept: freely, or under ceilings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from ..errors import UserError
from .genotype import Cell
from .primitives import CELL_INPUTS, cell_edges, edges_into

Strength = Sequence[Sequence[float]]
"""Of a cell's operations [edges, primitives]: softmax(alpha) times the edge's softmax(beta)."""
Amounts = tuple[int, ...]
"""One number for every quantity that is limited."""


@dataclass(frozen=True)
class Ceilings:
    """What the kept operations of both cells may cost together.

    Attributes:
        limits: the most of every quantity.
        costs: what one operation takes of it, by cell ("normal", "reduce"), primitive, and whether
            its edge leaves an input of the cell.
    """

    limits: Amounts
    costs: Mapping[tuple[str, str, bool], Amounts]

    def of(self, cell: str, primitive: str, source: int) -> Amounts:
        """What `primitive` behind state `source` costs."""
        return self.costs[cell, primitive, source < CELL_INPUTS]

    def total(self, cells: Mapping[str, Cell]) -> Amounts:
        """What the cells cost, by name."""
        kept = [self.of(name, *operation) for name, cell in cells.items() for operation in cell]
        return tuple(map(sum, zip(*kept, strict=True)))


def derive(
    strengths: Mapping[str, Strength],
    primitives: Sequence[str],
    nodes: int,
    ceilings: Ceilings | None = None,
) -> dict[str, Cell]:
    """The cells whose kept operations have the largest sum of strengths.

    Every node keeps two edges with one primitive each, but never `none`. Without ceilings, and
    wherever they hold anyway, that is `derive_cell` of each cell. Else the best of all cells
    that keep to them is found exactly: a knapsack problem with one choice a node, solved node by
    node with all choices that no other beats in strength and every cost.

    Raises:
        UserError: no cells keep to the ceilings.
    """
    free = {name: derive_cell(rows, primitives, nodes) for name, rows in strengths.items()}
    if ceilings is None or _fits(ceilings.total(free), ceilings.limits):
        return free
    of_nodes = [
        _pareto_front(_choices_of_node(name, rows, primitives, target, ceilings))
        for name, rows in strengths.items()
        for target in range(CELL_INPUTS, CELL_INPUTS + nodes)
    ]
    # What every node still to come takes at least, so that states without a future are dropped.
    limits, later = ceilings.limits, [tuple(0 for _ in ceilings.limits)]
    for choices in reversed(of_nodes[1:]):
        least = tuple(map(min, zip(*(choice.cost for choice in choices), strict=True)))
        later.append(_add(later[-1], least))
    best = [_Choice(0.0, later[0], ())]
    for choices, reserved in zip(of_nodes, reversed(later), strict=True):
        longer = (
            _Choice(a.strength + b.strength, _add(a.cost, b.cost), a.kept + b.kept)
            for a in best
            for b in choices
        )
        best = _pareto_front(c for c in longer if _fits(_add(c.cost, reserved), limits))
    if not best:
        raise UserError("no genotype of these candidate operations keeps to all ceilings")
    length = 2 * nodes
    return {name: best[0].kept[number * length :][:length] for number, name in enumerate(strengths)}


def derive_cell(strength: Strength, primitives: Sequence[str], nodes: int) -> Cell:
    """The two strongest edges into every node, each with its strongest primitive but `none`.

    Paper section 3.3. Edges of a node are listed strongest first; ties keep the lower number.
    """
    candidates = [i for i, name in enumerate(primitives) if name != "none"]
    best = [max(candidates, key=lambda i, row=row: row[i]) for row in strength]  # type: ignore[misc]
    sources = [edge.source for edge in cell_edges(nodes)]
    kept: list[tuple[str, int]] = []
    for target in range(CELL_INPUTS, CELL_INPUTS + nodes):
        edges = range(len(strength))[edges_into(target)]
        order = sorted(edges, key=lambda edge: -strength[edge][best[edge]])
        kept += [(primitives[best[edge]], sources[edge]) for edge in order[:2]]
    return tuple(kept)


class _Choice(NamedTuple):
    strength: float
    cost: Amounts
    kept: Cell


def _choices_of_node(
    cell: str, strength: Strength, primitives: Sequence[str], target: int, ceilings: Ceilings
) -> Iterable[_Choice]:
    """Every two operations on different edges, the stronger one first."""
    of_edges = [
        _pareto_front(
            _Choice(value, ceilings.of(cell, primitive, source), ((primitive, source),))
            for primitive, value in zip(primitives, row, strict=True)
            if primitive != "none"
        )
        for source, row in enumerate(strength[edges_into(target)])
    ]
    for pair in combinations(of_edges, 2):
        for a in pair[0]:
            for b in pair[1]:
                first, second = (a, b) if a.strength >= b.strength else (b, a)
                cost = _add(a.cost, b.cost)
                yield _Choice(a.strength + b.strength, cost, first.kept + second.kept)


def _pareto_front(choices: Iterable[_Choice]) -> list[_Choice]:
    """Strongest first, those that no choice at least as strong undercuts in every cost."""
    by_cost: dict[Amounts, _Choice] = {}
    for choice in choices:
        if choice.cost not in by_cost or choice.strength > by_cost[choice.cost].strength:
            by_cost[choice.cost] = choice
    kept: list[_Choice] = []
    for choice in sorted(by_cost.values(), key=lambda c: (-c.strength, c.cost)):
        if not any(_fits(other.cost, choice.cost) for other in kept):
            kept.append(choice)
    return kept


def _fits(cost: Amounts, limits: Amounts) -> bool:
    return all(a <= b for a, b in zip(cost, limits, strict=True))


def _add(a: Amounts, b: Amounts) -> Amounts:
    return tuple(x + y for x, y in zip(a, b, strict=True))
