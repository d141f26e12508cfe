"""The cells of a genotype drawn for a page: colours follow its light or dark scheme."""

from __future__ import annotations

from itertools import pairwise

from markupsafe import Markup

from ..space import CELL_INPUTS, Genotype
from .layout import HEIGHT, Item, Layout, Line, layout_cell
from .svg import Element, add, drawing, inline

TITLES = {"normal": "Normal cell", "reduce": "Reduction cell"}
SCALE = 84.0
"""Pixels an inch of the layout."""
MARGIN = 3.0
INPUT_NAMES = ("c\u2096\u208b\u2082", "c\u2096\u208b\u2081")
"""c with the subscripts k-2 and k-1."""
FAMILIES = ("sep", "dil", "max", "avg", "skip")
"""Beginnings of the primitives that have a colour of their own."""


def draw_cells(genotype: Genotype) -> dict[str, Markup]:
    """Both cells, by `normal` and `reduce`."""
    drawings = {}
    for kind, title in TITLES.items():
        cell, concat = getattr(genotype, kind), getattr(genotype, f"{kind}_concat")
        drawings[kind] = _draw(layout_cell(cell, concat), title)
    return drawings


def sentences(genotype: Genotype) -> dict[str, list[str]]:
    """Both cells in words, a line a node."""
    return {"normal": _words(genotype.normal), "reduce": _words(genotype.reduce)}


def state_name(state: int) -> str:
    """As in the drawing: the cell's inputs are the outputs of the two cells before it."""
    return INPUT_NAMES[state] if state < CELL_INPUTS else str(state - CELL_INPUTS)


def plain_state(state: int) -> str:
    """The same in ASCII."""
    return f"c_k-{CELL_INPUTS - state}" if state < CELL_INPUTS else str(state - CELL_INPUTS)


def _words(cell: tuple[tuple[str, int], ...]) -> list[str]:
    edges = [f"{primitive} of {state_name(source)}" for primitive, source in cell]
    nodes = range(len(cell) // 2)
    return [f"{node} = {edges[2 * node]} + {edges[2 * node + 1]}" for node in nodes]


def _draw(layout: Layout, title: str) -> Markup:
    width, height = SCALE * layout.width + 2 * MARGIN, SCALE * layout.height + 2 * MARGIN
    limits = f"min-width:{0.85 * width:.0f}px;max-width:{1.3 * width:.0f}px"
    root = drawing(width, height, title, class_="cell", style=limits)
    for line in sorted(layout.lines, key=lambda line: not line.concat):
        _draw_line(root, line, height)
    for item in layout.items:
        if item.kind != "passage":
            _draw_box(root, item, height)
    return inline(root)


def _at(x: float, y: float, height: float) -> tuple[float, float]:
    """The layout counts upwards, SVG downwards."""
    return MARGIN + SCALE * x, height - MARGIN - SCALE * y


def _draw_line(root: Element, line: Line, height: float) -> None:
    """Straight through each column, an S-curve between columns, an arrow head at the end."""
    first, last = line.items[0], line.items[-1]
    x, y = _at(first.x + first.width / 2, first.y, height)
    path = [f"M{x:.1f} {y:.1f}"]
    for left, right in pairwise(line.items):
        start, from_y = _at(left.x + left.width / 2, left.y, height)
        end, to_y = _at(right.x - right.width / 2, right.y, height)
        if right is last:
            end -= 6  # the arrow head's
        middle = (start + end) / 2
        path.append(f"C{middle:.1f} {from_y:.1f} {middle:.1f} {to_y:.1f} {end:.1f} {to_y:.1f}")
        if right is not last:
            path.append(f"H{_at(right.x + right.width / 2, 0, height)[0]:.1f}")
    kind = "concat" if line.concat else "edge"
    add(root, "path", class_=kind, d="".join(path))
    tip_x, tip_y = _at(last.x - last.width / 2, last.y, height)
    head = f"M{tip_x:.1f} {tip_y:.1f}l-8-4v8z"
    add(root, "path", class_=f"{kind}-head", d=head)


def _draw_box(root: Element, item: Item, height: float) -> None:
    x, y = _at(item.x, item.y, height)
    w, h = SCALE * item.width, SCALE * HEIGHT[item.kind]
    family = item.label.split("_")[0]
    kind = item.kind
    if kind == "operation":
        kind_class = f"op op-{family if family in FAMILIES else 'other'}"
    else:
        kind_class = f"state state-{kind}"
    group = add(root, "g", class_=kind_class)
    rounding = h / 2 if kind == "node" else 6
    add(group, "rect", x=x - w / 2, y=y - h / 2, width=w, height=h, rx=rounding)
    text = add(group, "text", item.label, x=x, y=y)
    if kind in ("input", "output"):
        text.text = "c"
        add(text, "tspan", item.label.strip("$").split("_")[1].strip("{}"), class_="sub", dy=4)
