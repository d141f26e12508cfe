"""What a terminal shows while a run goes on: progress, and the cells as they stand."""

from __future__ import annotations

from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from ..report.architecture import Edge, current_edges
from ..report.read import read_run
from ..run.config import SearchConfig
from ..run.events import Progress
from ..run.memory import peak_memory_mib

SIDE_BY_SIDE, BETWEEN = 66, 2
"""Columns that two cells side by side need, and those left free beside each."""
DOT, ASCII_DOT = "\u25cf", "*"
"""Before an edge that would be kept."""
OTHER_LINES = 3
"""Beside the cells: bar, status, explanation."""


class LiveView:
    """To be shown by `rich.live.Live`; grows no higher than the terminal."""

    def __init__(self, started: Any) -> None:
        """`started` is the first event of a run."""
        self._started = started
        self._bar = Bar(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(None),
            TimeRemainingColumn(),
            TextColumn("left"),
            expand=True,
            speed_estimate_period=float("inf"),  # a step may take minutes
        )
        self._task = self._bar.add_task("", total=started.epochs, completed=started.epochs_done)
        self._status = ""
        self._cells: dict[str, list[Edge]] = {}
        self._read_cells()

    def step(self, progress: Progress) -> None:
        """Some steps of an epoch are done."""
        done = progress.epoch + progress.step / self._started.steps
        self._bar.update(self._task, completed=done)
        memory = peak_memory_mib(self._started.device)
        self._status = (
            f"loss {progress.loss:.3f}  accuracy {progress.accuracy:.1%}  "
            f"{progress.images_per_second:,.0f} images/s  memory {memory:,.0f} MiB"
        )

    def epoch(self, done: int) -> None:
        """`done` epochs are done, and the run folder knows of them."""
        self._bar.update(self._task, completed=done)
        self._read_cells()

    def _read_cells(self) -> None:
        run = read_run(self._started.folder, "")
        if isinstance(run.config, SearchConfig) and run.alphas["normal"]:
            self._cells = {
                title: current_edges(run, run.config, kind)
                for title, kind in (("normal cell", "normal"), ("reduction cell", "reduce"))
            }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._bar.get_renderable()
        yield Text(self._status, no_wrap=True, overflow="ellipsis")
        shown = self._shown(options.max_width, console.height)
        if not any(shown.values()):
            return
        grid = Table.grid(expand=True, padding=(0, BETWEEN, 0, 0))
        beside = options.max_width >= SIDE_BY_SIDE
        room = options.max_width // (1 + beside) - BETWEEN
        blocks = [
            Group(Text(title, style="bold", no_wrap=True), _cell(edges, room, options.ascii_only))
            for title, edges in shown.items()
        ]
        if beside:
            for _ in blocks:
                grid.add_column(ratio=1)
            grid.add_row(*blocks)
        else:
            for block in blocks:
                grid.add_row(block)
        yield grid
        kept = ASCII_DOT if options.ascii_only else DOT
        text = f"{kept} kept if it ended now  < another leads  shares: softmax(alpha)"
        yield Text(text, style="dim", no_wrap=True, overflow="ellipsis")

    def _shown(self, width: int, height: int) -> dict[str, list[Edge]]:
        """All edges, or those that are kept, or none: as many as the terminal is high."""
        kept = {title: [e for e in edges if e.kept] for title, edges in self._cells.items()}
        for cells in (self._cells, kept):
            rows = [1 + len(edges) for edges in cells.values()]
            lines = max(rows, default=0) if width >= SIDE_BY_SIDE else sum(rows)
            if lines < height - OTHER_LINES:
                return cells
        return {}


def _cell(edges: list[Edge], room: int, ascii_only: bool) -> Table:
    """A row an edge: the operation that is kept, or else the one that leads; `room` columns."""
    table = Table.grid(padding=(0, 1, 0, 0))
    shown = [edge.kept or edge.leading for edge in edges]
    dot, arrow = (ASCII_DOT, "->") if ascii_only else (DOT, "\u2192")
    arrows = [f"{edge.source}{arrow}{edge.target}" for edge in edges]
    taken = len(f"{dot}  ") + max(map(len, arrows)) + len(" ") + max(map(len, shown))
    for edge, states, operation in zip(edges, arrows, shown, strict=True):
        style = "" if edge.kept else "dim"
        table.add_row(
            Text(dot if edge.kept else " ", style="green"),
            Text(states, no_wrap=True),
            Text(operation, style, no_wrap=True),
            Text(_share(edge, operation, room - taken), style, no_wrap=True),
        )
    return table


def _share(edge: Edge, operation: str, room: int) -> str:
    """The operation's share, and what leads before it, as far as there are columns for it."""
    share, leader = f"{edge.shares[operation]:.2%}", edge.leading
    if leader == operation:
        return share
    texts = (f"{share} < {leader} {edge.shares[leader]:.2%}", f"{share} < {leader}", f"< {leader}")
    return next((text for text in texts if len(text) <= room), f"{share} <")
