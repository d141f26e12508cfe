"""How far a run has come: what every epoch moves on, and every checkpoint tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .processes import Processes


@dataclass(kw_only=True)
class Position:
    """In whole epochs, and in steps of the one that follows."""

    totals: Tensor
    """Sum of this process's tallies of these steps, [3] float64."""
    images: str
    """Digest of the run's images."""
    epochs_done: int = 0
    steps_done: int = 0
    """Above 0 in a run that was asked to stop."""
    seconds: float = 0.0
    """That these steps have taken."""

    def next_epoch(self) -> None:
        """To the beginning of the epoch after."""
        self.epochs_done, self.steps_done, self.seconds = self.epochs_done + 1, 0, 0.0
        self.totals = torch.zeros_like(self.totals)

    def saved_position(self, group: Processes) -> dict[str, Any]:
        """For a checkpoint; all processes call it."""
        return {
            "epoch": self.epochs_done,
            "step": self.steps_done,
            "seconds": self.seconds,
            "totals": group.gather(self.totals),
            "images": self.images,
        }

    def check_images(self, checkpoint: dict[str, Any]) -> None:
        """Others would go into other parts than those that the run has learnt from.

        Raises:
            UserError: the run began with other images.
        """
        if checkpoint.get("images", self.images) != self.images:  # earlier versions have none
            raise UserError(
                "the data set is not the one that this run began with: images were added, removed "
                "or renamed; put it back, or start anew in another --output-dir"
            )

    def restore_position(self, checkpoint: dict[str, Any], group: Processes) -> None:
        """The inverse of `saved_position`; anything else in it raises some exception."""
        epoch, step = checkpoint["epoch"], checkpoint["step"]
        seconds = checkpoint.get("seconds", 0.0)  # those of earlier versions have none
        if type(step) is not int or step < 0:
            raise ValueError(f"step is {step!r:.40}")
        if type(seconds) is not float or not 0 <= seconds < 1e9:
            raise ValueError(f"seconds are {seconds!r:.40}")
        rows = checkpoint["totals"].double().view(-1, 3)
        self.epochs_done, self.steps_done, self.seconds = epoch, step, seconds
        self.totals = group.own_row(rows).to(self.totals.device)
