"""What a training tells whoever runs it, besides the events of every run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..run.events import EpochDone, Notice, Progress, Stopped


@dataclass(frozen=True)
class Started:
    """Data and network are ready."""

    folder: Path
    device: str
    parameters: int
    """Scalars of the network, auxiliary head included."""
    train_images: int
    test_images: int
    epochs_done: int
    epochs: int
    steps: int
    """Steps of an epoch."""


@dataclass(frozen=True)
class Finished:
    """The last event: metrics of the last epoch."""

    metrics: dict[str, Any]
    folder: Path


Event = Started | Notice | Progress | EpochDone | Stopped | Finished
