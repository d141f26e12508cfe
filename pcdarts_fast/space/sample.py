"""Random genotypes of the search space: the baseline that a search has to beat."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..errors import UserError
from .genotype import Cell, Genotype
from .primitives import CELL_INPUTS, PRIMITIVES


def random_genotype(
    seed: int, *, nodes: int = 4, primitives: Sequence[str] = PRIMITIVES
) -> Genotype:
    """A genotype drawn uniformly from those that a search could end in.

    Every node reads two different earlier states through any primitive but `none`, and a cell
    concatenates all of its nodes. The same seed gives the same genotype everywhere.

    Raises:
        UserError: no node, or no primitive other than `none`.
    """
    candidates = [name for name in primitives if name != "none"]
    if nodes < 1 or not candidates:
        raise UserError(
            f"random genotype: got {nodes} nodes and primitives {list(primitives)}, "
            "wanted a node or more and a primitive other than none"
        )
    dice = random.Random(seed)

    def pick(count: int) -> int:
        # Only random() is promised to draw the same in every version of Python.
        return int(dice.random() * count)

    def cell() -> Cell:
        edges = []
        for state in range(CELL_INPUTS, CELL_INPUTS + nodes):
            sources = list(range(state))
            for _ in range(2):
                source = sources.pop(pick(len(sources)))
                edges.append((candidates[pick(len(candidates))], source))
        return tuple(edges)

    concat = tuple(range(CELL_INPUTS, CELL_INPUTS + nodes))
    return Genotype(cell(), concat, cell(), concat)
