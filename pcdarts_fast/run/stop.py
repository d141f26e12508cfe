"""Graceful stop: the first Ctrl-C, SIGTERM or hang-up lets the current step finish."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Inside `with`, the first signal is remembered and the second one raises KeyboardInterrupt.

    The loops call it after every step; when it is true they write a checkpoint and end. A signal
    that is ignored stays so, as shells want it of jobs that scripts start with `&`, and nohup. A
    hang-up (SIGHUP, of a terminal that is closed) comes together with others: it is no second one,
    and none is a second one after it. To be used in the main thread, where Python delivers signals.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> StopRequest:
        heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._remember) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_closed_terminal()
            self.signal = self.signal or signal.SIGHUP
        elif self.signal in (None, signal.SIGHUP):
            self.signal = signal.Signals(number)
        else:
            raise KeyboardInterrupt


def _leave_closed_terminal() -> None:
    """What is printed there would raise OSError, before the checkpoint is written."""
    for output in (1, 2):
        try:
            os.write(output, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)


def never() -> bool:
    """For a run that only its end stops."""
    return False


Stop = Callable[[], bool]
