"""The search space: primitives, edges of a cell, genotypes. Imports no torch."""

from .derive import Ceilings, derive, derive_cell
from .genotype import Cell, Genotype, genotype_file
from .primitives import CELL_INPUTS, CELLS, PRIMITIVES, Edge, cell_edges, edges_into, reductions
from .published import PUBLISHED
from .sample import random_genotype

__all__ = [
    "CELLS",
    "CELL_INPUTS",
    "PRIMITIVES",
    "PUBLISHED",
    "Ceilings",
    "Cell",
    "Edge",
    "Genotype",
    "cell_edges",
    "derive",
    "derive_cell",
    "edges_into",
    "genotype_file",
    "random_genotype",
    "reductions",
]
