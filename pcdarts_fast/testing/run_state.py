"""The state of a run that moves one module."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ..run.processes import Processes
from ..run.state import RunState


class OfOneModule(RunState):
    """Keeps the module alone."""

    def kept(self) -> Mapping[str, nn.Module]:
        return {"network": self.network}


def state_of(module: nn.Module, group: Processes | None = None, images: str = "") -> OfOneModule:
    """At the beginning of a run, of one process unless there is a `group`."""
    totals = torch.zeros(3, dtype=torch.float64)
    return OfOneModule(network=module, group=group or Processes(), totals=totals, images=images)
