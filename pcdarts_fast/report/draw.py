"""Draws a genotype: both cells in one figure, by matplotlib alone (no Graphviz, no display)."""

from __future__ import annotations

import io
import os
from itertools import pairwise
from pathlib import Path

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.path import Path as Outline

from ..errors import UserError
from ..files import check_parent, write_atomically
from ..space import Genotype
from .layout import HEIGHT, Item, Layout, Line, layout_cell

FORMATS = (".svg", ".png", ".pdf")

FILL = {
    "sep": "#d6e6f4",
    "dil": "#e2d9ee",
    "max": "#fbe3cf",
    "avg": "#fdf0c8",
    "skip": "#ededed",
    "input": "#d9ead3",
    "node": "#ffffff",
    "output": "#f6d5d5",
}
OTHER_FILL = "#d3ece8"
INK = "#333333"
EDGE = "#6b6b6b"
CONCAT = "#b9a58f"
MARGIN = 0.18
TITLE = 0.36

# Text stays text in SVG, and the same genotype gives the same bytes.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "genotype", "pdf.fonttype": 42}
UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}


def draw_genotype(genotype: Genotype, path: str | os.PathLike[str]) -> None:
    """Writes a figure with the normal cell above the reduction cell; the ending says the format.

    Boxes between states are operations; dashed lines lead to the concatenation.

    Raises:
        UserError: a file ending other than .svg, .png and .pdf, or `path` cannot be written.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise UserError(
            f"drawing {path}: cannot write {path.suffix or 'a file without ending'}, "
            f"wanted one of {', '.join(FORMATS)}"
        )
    check_parent(path)
    write_atomically(path, render(genotype, path.suffix))


def render(genotype: Genotype, suffix: str) -> bytes:
    """The content of a drawing; `suffix` is one of `FORMATS`."""
    normal = layout_cell(genotype.normal, genotype.normal_concat)
    reduction = layout_cell(genotype.reduce, genotype.reduce_concat)
    width = max(normal.width, reduction.width) + 2 * MARGIN
    height = normal.height + reduction.height + 2 * TITLE + 3 * MARGIN
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        axes.axis("off")
        _draw_cell(axes, reduction, "Reduction cell", MARGIN)
        _draw_cell(axes, normal, "Normal cell", reduction.height + TITLE + 2 * MARGIN)
        drawing = io.BytesIO()
        figure.savefig(drawing, format=suffix[1:], dpi=200, metadata=UNDATED[suffix])
    return drawing.getvalue()


def _draw_cell(axes: Axes, layout: Layout, title: str, bottom: float) -> None:
    for item in layout.items:
        item.x += MARGIN
        item.y += bottom
    for line in layout.lines:
        _draw_line(axes, line)
    for item in layout.items:
        if item.kind != "passage":
            _draw_box(axes, item)
    top = bottom + layout.height + TITLE / 2
    axes.text(MARGIN, top, title, fontsize=11, weight="bold", color=INK, va="center")


def _draw_line(axes: Axes, line: Line) -> None:
    """Straight through each column, an S-curve between columns, an arrow head at the end."""
    first = line.items[0]
    points = [(first.x + first.width / 2, first.y)]
    codes = [Outline.MOVETO]
    for left, right in pairwise(line.items):
        start, end = left.x + left.width / 2, right.x - right.width / 2
        middle = (start + end) / 2
        points += [(middle, left.y), (middle, right.y), (end, right.y)]
        codes += [Outline.CURVE4] * 3
        if right is not line.items[-1]:
            points.append((right.x + right.width / 2, right.y))
            codes.append(Outline.LINETO)
    axes.add_patch(
        FancyArrowPatch(
            path=Outline(points, codes),
            arrowstyle="-|>",
            mutation_scale=9,
            linewidth=0.9,
            linestyle=(0, (4, 2)) if line.concat else "solid",
            color=CONCAT if line.concat else EDGE,
            zorder=1 if line.concat else 2,
        )
    )


def _draw_box(axes: Axes, item: Item) -> None:
    height = HEIGHT[item.kind]
    if item.kind == "node":
        box: Patch = Circle((item.x, item.y), height / 2)
    else:
        corner = (item.x - item.width / 2, item.y - height / 2)
        rounded = "round,pad=0,rounding_size=0.08"
        box = FancyBboxPatch(corner, item.width, height, boxstyle=rounded)
    family = item.label.split("_")[0] if item.kind == "operation" else item.kind
    box.set_facecolor(FILL.get(family, OTHER_FILL))
    box.set_edgecolor(EDGE if item.kind == "operation" else INK)
    box.set_linewidth(0.6 if item.kind == "operation" else 0.9)
    box.set_zorder(3)
    axes.add_patch(box)
    axes.text(
        item.x,
        item.y,
        item.label,
        fontsize=8.5 if item.kind == "operation" else 10,
        color=INK,
        ha="center",
        va="center_baseline" if item.kind == "operation" else "center",
        zorder=4,
    )
