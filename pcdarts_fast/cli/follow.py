"""Prints what a run tells, a bar in a terminal and a line an epoch everywhere, and stops it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ..run.events import EpochDone, Notice, Progress, Stopped
from ..run.stop import StopRequest
from .interrupted import Interrupted


def follow(
    events: Iterator[Any],
    console: Console,
    stop: StopRequest,
    *,
    go_on: str,
    introduce: Callable[[Any], str],
    summarize: Callable[[dict[str, Any]], str],
) -> Any:
    """Runs `events` to their end and returns the last one.

    The first event must have `epochs`, `epochs_done` and `steps`; `introduce` puts it into words.
    `summarize` puts the metrics of an epoch into one line. From the first event on, Ctrl-C and
    SIGTERM are left to `stop`, which the run asks.

    Raises:
        Interrupted: the run was asked to stop; says that `go_on` is the command to go on with.
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
    with stop, bar, interrupting(stop, go_on):
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
                case Stopped(epoch, step):
                    where = f"in epoch {epoch + 1} after step {step} of {started.steps}"
                    # Another process of the run may have had the signal.
                    number = stop.signal or signal.SIGTERM
                    raise _interrupted(number, f"stopped {where}, checkpoint written", go_on)
    return event


@contextmanager
def interrupting(stop: StopRequest, go_on: str) -> Iterator[None]:
    """Turns a Ctrl-C that `stop` does not wait with, such as the second one, into a sentence."""
    try:
        yield
    except KeyboardInterrupt:
        raise _interrupted(stop.signal or signal.SIGINT, "stopped at once", go_on) from None


def _interrupted(number: int, what: str, go_on: str) -> Interrupted:
    return Interrupted(f"{what}; go on with: {go_on}", 128 + number)
