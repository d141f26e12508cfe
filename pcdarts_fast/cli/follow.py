"""Prints what a run tells, a live view in a terminal and a line an epoch everywhere; stops it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.live import Live

from ..run.events import EpochDone, Notice, Progress, Stopped
from ..run.stop import StopRequest
from .console import say
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
    `summarize` puts the metrics of an epoch into one line. From the first event on, Ctrl-C, SIGTERM
    and SIGHUP are left to `stop`, which the run asks.

    Raises:
        Interrupted: the run was asked to stop; says that `go_on` is the command to go on with.
    """
    # Imports torch, as the run has by now, and --help does without.
    from .live import LiveView

    started = event = next(events)
    say(console, introduce(started))
    width = len(str(started.epochs))
    # Processes other than the first are quiet, and may not see the run folder.
    view = LiveView(started) if console.is_terminal and not console.quiet else None
    showing = (
        Live(view, console=console, transient=True, refresh_per_second=2) if view else nullcontext()
    )
    with stop, showing, interrupting(go_on, stop):
        for event in events:
            match event:
                case Progress():
                    if view:
                        view.step(event)
                case EpochDone(metrics):
                    if view:
                        view.epoch(metrics["epoch"] + 1)
                    line = f"epoch {metrics['epoch'] + 1:{width}}/{started.epochs}  "
                    say(console, line + summarize(metrics))
                case Notice(text):
                    say(console, f"note: {text}", style="yellow")
                case Stopped(epoch, step):
                    where = f"in epoch {epoch + 1} after step {step} of {started.steps}"
                    # Another process of the run may have had the signal.
                    number = stop.signal or signal.SIGTERM
                    raise Interrupted(number, f"stopped {where}, checkpoint written", go_on)
    return event


@contextmanager
def interrupting(go_on: str, stop: StopRequest | None = None) -> Iterator[None]:
    """Turns a Ctrl-C into a sentence: one that no `stop` waits with, or its second one. So it does
    with a reader of the output that is gone, such as `| head -1`.
    """
    try:
        yield
    except KeyboardInterrupt:
        number = (stop.signal if stop else None) or signal.SIGINT
        raise Interrupted(number, "stopped at once", go_on) from None
    except BrokenPipeError:
        what = "stopped, since nothing reads what it prints any more"
        raise Interrupted(signal.SIGPIPE, what, go_on) from None
