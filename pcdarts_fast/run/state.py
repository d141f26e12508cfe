"""What a run changes: how far it has come, and what every checkpoint holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import UserError
from .checkpoint import load_optimizer, restoring
from .precision import Precision
from .processes import Processes


@dataclass(kw_only=True)
class RunState(ABC):
    """Everything that an epoch moves on.

    Random numbers are no part of it: those of a step are a function of seed, epoch, step and
    process.
    """

    network: nn.Module
    group: Processes
    totals: Tensor
    """Sum of this process's tallies of the steps of an epoch that is not done, [3] float64."""
    images: str
    """Digest of the run's images."""
    epochs_done: int = 0
    steps_done: int = 0
    """Of the epoch that follows; above 0 in a run that was asked to stop."""
    seconds: float = 0.0
    """That these steps have taken."""

    @abstractmethod
    def kept(self) -> Mapping[str, nn.Module | Optimizer | Precision]:
        """What a checkpoint keeps besides, by name."""

    def next_epoch(self) -> None:
        """To the beginning of the epoch after."""
        self.epochs_done, self.steps_done, self.seconds = self.epochs_done + 1, 0, 0.0
        self.totals = torch.zeros_like(self.totals)

    def checkpoint(self) -> dict[str, Any]:
        """For `save_checkpoint`; all processes call it."""
        return {
            "epoch": self.epochs_done,
            "step": self.steps_done,
            "seconds": self.seconds,
            "totals": self.group.gather(self.totals),
            "images": self.images,
            **{name: part.state_dict() for name, part in self.kept().items()},
        }

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of `checkpoint`.

        Raises:
            UserError: the checkpoint is of another network, another run or other images.
        """
        # Other images would go into other parts than those that the run has learnt from.
        with restoring():
            images = checkpoint["images"]
        if images != self.images:
            raise UserError(
                "the data set is not the one that this run began with: images were added, removed "
                "or renamed; put it back, or start anew in another --output-dir"
            )
        with restoring():
            self._restore_position(checkpoint)
            for name, part in self.kept().items():
                if isinstance(part, Optimizer):
                    load_optimizer(part, checkpoint[name])
                else:
                    part.load_state_dict(checkpoint[name])

    def _restore_position(self, checkpoint: dict[str, Any]) -> None:
        epoch, step, seconds = checkpoint["epoch"], checkpoint["step"], checkpoint["seconds"]
        if type(step) is not int or step < 0:
            raise ValueError(f"step is {step!r:.40}")
        if type(seconds) is not float or not 0 <= seconds < 1e9:
            raise ValueError(f"seconds are {seconds!r:.40}")
        rows = checkpoint["totals"].double().view(-1, 3)
        self.epochs_done, self.steps_done, self.seconds = epoch, step, seconds
        self.totals = self.group.own_row(rows).to(self.totals.device)
