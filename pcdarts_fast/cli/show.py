"""`pcdarts show`: a genotype as a drawing, or as two tables in the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from ..space import CELL_INPUTS, Genotype
from .console import plain_console
from .parse import parse

EXAMPLES = """\
pcdarts show PC_DARTS_cifar
pcdarts show runs/search-digits -o cell.svg"""


@dataclass(frozen=True)
class Show:
    """Draws both cells of a genotype, or prints them."""

    genotype: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GENOTYPE")]
    """Genotype: a JSON file, the folder of a run, or the name of a published one."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """File to draw to (.svg, .png or .pdf); without it the cells are printed."""


def main(args: list[str]) -> int:
    """Runs the command; 0 when it has drawn or printed.

    Raises:
        UserError: no such genotype, or the drawing cannot be written.
    """
    command = parse(Show, args, examples=EXAMPLES)
    genotype = Genotype.load(command.genotype)
    if command.output is None:
        print_cells(plain_console(), genotype)
        return 0
    # Takes half a second to import.
    from ..report.draw import draw_genotype

    draw_genotype(genotype, command.output)
    print(f"Drawn: {command.output}")
    return 0


def print_cells(console: Console, genotype: Genotype) -> None:
    """Both as tables."""
    console.print("Normal cell", cell_table(genotype.normal, genotype.normal_concat), sep="\n")
    console.print("\nReduction cell", cell_table(genotype.reduce, genotype.reduce_concat), sep="\n")


def cell_table(edges: tuple[tuple[str, int], ...], concat: tuple[int, ...]) -> Table:
    """One row a node: the two operations that it sums and the states they read."""
    output = ", ".join(state_name(state) for state in concat)
    table = Table(caption=f"c_{{k}}: concatenation of {output}", caption_justify="left")
    for heading in ("node", "operation", "of", "operation", "of"):
        # Folded, since a narrow terminal would cut off which operation it is.
        table.add_column(heading, justify="right" if heading == "node" else "left", overflow="fold")
    for node in range(len(edges) // 2):
        (first, a), (second, b) = edges[2 * node : 2 * node + 2]
        table.add_row(str(node), first, state_name(a), second, state_name(b))
    return table


def state_name(state: int) -> str:
    """The inputs of a cell are the outputs of the two cells before it; then come the nodes."""
    return f"c_{{k-{CELL_INPUTS - state}}}" if state < CELL_INPUTS else str(state - CELL_INPUTS)
