"""How alpha and beta of every edge moved over the epochs of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..run.config import SearchConfig
from ..space import CELL_INPUTS, CELLS, PRIMITIVES, cell_edges, edges_into
from .cells import TITLES, plain_state, state_name
from .charts import COLOURS, Curve, leaders, small_chart
from .read import Run


@dataclass(frozen=True)
class SmallPlot:
    """Shares over the epochs, on a scale of their own from `low` to `high`."""

    title: str
    kept: str
    """The operation that the genotype keeps on the edge; empty for an edge that it drops."""
    first: str
    second: str
    low: str
    high: str
    picture: Markup


@dataclass(frozen=True)
class Movement:
    """One cell: which operation leads on every edge, the shares of all, and of a node's edges."""

    title: str
    leading: Markup
    alphas: list[SmallPlot]
    betas: list[SmallPlot]
    """Empty without edge normalization."""


def colour_of(primitive: str, primitives: Sequence[str]) -> int:
    """Always the same for the usual ones; operations of one's own take those that are left."""
    if primitive in PRIMITIVES:
        return PRIMITIVES.index(primitive)
    own = [name for name in primitives if name not in PRIMITIVES]
    return len(PRIMITIVES) + own.index(primitive) % (COLOURS - len(PRIMITIVES))


def legend(run: Run) -> list[tuple[str, int]]:
    """Primitives and the numbers of their colours."""
    assert isinstance(run.config, SearchConfig)
    names = run.config.primitives
    return [(name, colour_of(name, names)) for name in names]


def source_legend(run: Run) -> list[tuple[str, int]]:
    """States that an edge can come from and the numbers of their colours."""
    assert isinstance(run.config, SearchConfig)
    states = range(CELL_INPUTS + run.config.nodes - 1)
    return [(state_name(state), _source_colour(state)) for state in states]


@dataclass(frozen=True)
class Edge:
    """An edge of the super-net's cell as it stands."""

    source: str
    target: str
    shares: dict[str, float]
    """softmax(alpha) by primitive."""
    kept: str
    """The operation that the genotype keeps on it, or nothing."""

    @property
    def leading(self) -> str:
        """The primitive with the largest share."""
        return max(self.shares, key=lambda name: self.shares[name])


def current_edges(run: Run, config: SearchConfig, kind: str) -> list[Edge]:
    """The edges of a cell, `normal` or `reduce`, after the last epoch, in the order of alpha."""
    kept = _kept(run, kind)
    return [
        Edge(
            plain_state(edge.source),
            plain_state(edge.target),
            dict(zip(config.primitives, softmax(row), strict=True)),
            kept.get((edge.target, edge.source), ""),
        )
        for edge, row in zip(cell_edges(config.nodes), run.alphas[kind][-1], strict=True)
    ]


def movements(run: Run) -> list[Movement]:
    """Both cells of a search; none before its first epoch."""
    config = run.config
    if not isinstance(config, SearchConfig) or not run.alphas["normal"]:
        return []
    return [_movement(run, config, kind) for kind in CELLS]


def softmax(logits: Sequence[float]) -> list[float]:
    """Shares that add up to 1."""
    largest = max(logits)
    powers = [math.exp(value - largest) for value in logits]
    total = sum(powers)
    return [power / total for power in powers]


def _movement(run: Run, config: SearchConfig, kind: str) -> Movement:
    names = config.primitives
    colours = [colour_of(name, names) for name in names]
    edges = cell_edges(config.nodes)
    shares = [[softmax(row) for row in table] for table in run.alphas[kind]]
    leading = [
        [max(range(len(names)), key=lambda i, r=t[e]: r[i]) for t in shares]  # type: ignore[misc]
        for e in range(len(edges))
    ]
    labels = [f"{state_name(e.source)} \u2192 {state_name(e.target)}" for e in edges]
    kept = _kept(run, kind)
    by_colour = {colour: name for name, colour in zip(names, colours, strict=True)}
    strips = [[colours[number] for number in row] for row in leading]
    alphas = []
    for number, edge in enumerate(edges):
        of_edge = [table[number] for table in shares]
        choice = kept.get((edge.target, edge.source), "")
        alphas.append(_small(labels[number], choice, of_edge, names, colours, config.frozen_epochs))
    return Movement(
        title=TITLES[kind],
        leading=leaders(f"{TITLES[kind]}: leading operations", strips, labels, by_colour),
        alphas=alphas,
        betas=_betas(run, config, kind) if config.edge_normalization else [],
    )


def _betas(run: Run, config: SearchConfig, kind: str) -> list[SmallPlot]:
    plots = []
    for state in range(CELL_INPUTS, CELL_INPUTS + config.nodes):
        shares = [softmax(row[edges_into(state)]) for row in run.betas[kind]]
        names = [f"from {state_name(source)}" for source in range(state)]
        colours = [_source_colour(source) for source in range(state)]
        title = f"into node {state_name(state)}"
        plots.append(_small(title, "", shares, names, colours, config.frozen_epochs))
    return plots


def _small(
    title: str,
    kept: str,
    shares: Sequence[Sequence[float]],
    names: Sequence[str],
    colours: Sequence[int],
    frozen: int,
) -> SmallPlot:
    last = shares[-1]
    order = sorted(range(len(names)), key=lambda i: -last[i])
    curves = [
        Curve(
            name,
            [(epoch, row[i]) for epoch, row in enumerate(shares, 1)],
            colours[i],
            bold=i == order[0],
        )
        for i, name in enumerate(names)
    ]
    picture, low, high = small_chart(title, curves, epochs=len(shares), frozen=frozen)
    first, *others = [(names[i], last[i]) for i in order[:2]]
    decimals = len(low.rstrip("%").partition(".")[2])
    apart = f"{first[1]:.{decimals + 2}f}"
    while others and decimals < 6 and f"{others[0][1]:.{decimals + 2}f}" == apart:
        decimals += 1
        apart = f"{first[1]:.{decimals + 2}f}"
    ends = [f"{name}: {share:.{decimals}%}" for name, share in (first, *others)]
    return SmallPlot(title, kept, ends[0], ends[1] if others else "", low, high, picture)


def _kept(run: Run, kind: str) -> dict[tuple[int, int], str]:
    """Primitives that the genotype keeps, by (target, source)."""
    if run.genotype is None:
        return {}
    cell = getattr(run.genotype, kind)
    return {
        (CELL_INPUTS + number // 2, source): primitive
        for number, (primitive, source) in enumerate(cell)
    }


def _source_colour(state: int) -> int:
    return len(PRIMITIVES) + state % (COLOURS - len(PRIMITIVES))
