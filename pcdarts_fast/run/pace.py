"""How fast an epoch goes, and how often it says so."""

from __future__ import annotations

import math
import time

from torch import Tensor

REPORTS_PER_EPOCH = 50
"""How often, at most, an epoch waits for the device to read the loss."""


class Pace:
    """The clock of one epoch.

    before: the seconds that it had taken when the run was stopped, see `RunState`. steps: of the
    whole epoch. processes: how many share its batches.
    """

    def __init__(self, before: float, steps: int, processes: int) -> None:
        self._every = max(1, math.ceil(steps / REPORTS_PER_EPOCH))
        self._processes = processes
        self._start = time.perf_counter() - before

    def is_due(self, steps_done: int) -> bool:
        """Whether progress is reported after so many steps of the epoch."""
        return steps_done % self._every == 0

    def images_per_second(self, totals: Tensor) -> float:
        """Of all processes together. totals: the sum of the epoch's tallies so far, see `tally`."""
        return self._processes * float(totals[2]) / self.seconds()

    def seconds(self) -> float:
        return time.perf_counter() - self._start
