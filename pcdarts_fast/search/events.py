"""What a search tells whoever runs it, besides the events of every run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..run.events import EpochDone, Notice, Progress, Stopped
from ..space import Genotype


@dataclass(frozen=True)
class Started:
    """Data and super-net are ready."""

    folder: Path
    device: str
    backend: str
    weight_count: int
    """Scalars that the weights have."""
    arch_count: int
    """Scalars that alpha and beta have."""
    train_images: int
    """Images the weights learn from."""
    valid_images: int
    """Images the architecture learns from."""
    epochs_done: int
    epochs: int
    steps: int
    """Steps of an epoch."""


@dataclass(frozen=True)
class Finished:
    """The last event."""

    genotype: Genotype
    folder: Path


Event = Started | Notice | Progress | EpochDone | Stopped | Finished
