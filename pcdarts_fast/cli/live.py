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

SIDE_BY_SIDE, WIDE = 64, 104
"""Columns that two cells side by side need, and with the operations that lead."""
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
        grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
        blocks = [
            Group(Text(title, style="bold", no_wrap=True), _cell(edges, options.max_width >= WIDE))
            for title, edges in shown.items()
        ]
        if options.max_width >= SIDE_BY_SIDE:
            for _ in blocks:
                grid.add_column(ratio=1)
            grid.add_row(*blocks)
        else:
            for block in blocks:
                grid.add_row(block)
        yield grid
        text = "\u25cf kept if the search ended now; shares of softmax(alpha)"
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


def _cell(edges: list[Edge], with_ahead: bool) -> Table:
    """A row an edge: the operation that is kept, and one ahead of it; or else the one ahead."""
    table = Table.grid(padding=(0, 1, 0, 0))
    for edge in edges:
        shown = edge.kept or edge.leading
        style = "" if edge.kept else "dim"
        row = [
            Text("\u25cf" if edge.kept else " ", style="green"),
            Text(f"{edge.source}\u2192{edge.target}", no_wrap=True),
            Text(shown, style, no_wrap=True),
            Text(f"{edge.shares[shown]:.2%}", style, no_wrap=True),
        ]
        if with_ahead and edge.leading != shown:
            ahead = f"{edge.leading} {edge.shares[edge.leading]:.2%}"
            row.append(Text(ahead, "dim", no_wrap=True, overflow="ellipsis"))
        table.add_row(*row)
    return table
