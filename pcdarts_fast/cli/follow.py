"""Prints what a run tells: a bar in a terminal, a line an epoch everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ..run.events import EpochDone, Notice, Progress


def follow(
    events: Iterator[Any],
    console: Console,
    *,
    introduce: Callable[[Any], str],
    summarize: Callable[[dict[str, Any]], str],
) -> Any:
    """Runs `events` to their end and returns the last one.

    The first event must have `epochs`, `epochs_done` and `steps`; `introduce` puts it into words.
    `summarize` puts the metrics of an epoch into one line.
    """
    started = event = next(events)
    console.print(introduce(started), highlight=False, soft_wrap=True)
    width = len(str(started.epochs))
    bar = Bar(
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=started.epochs, completed=started.epochs_done, status="")
        for event in events:
            match event:
                case Progress():
                    status = (
                        f"loss {event.loss:.3f}  accuracy {event.accuracy:.1%}  "
                        f"{event.images_per_second:,.0f} images/s"
                    )
                    done = event.epoch + event.step / started.steps
                    bar.update(task, completed=done, status=status)
                case EpochDone(metrics):
                    bar.update(task, completed=metrics["epoch"] + 1)
                    line = f"epoch {metrics['epoch'] + 1:{width}}/{started.epochs}  "
                    console.print(line + summarize(metrics), highlight=False, soft_wrap=True)
                case Notice(text):
                    console.print(f"note: {text}", highlight=False, soft_wrap=True, style="yellow")
    return event
