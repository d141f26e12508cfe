"""What a run tells whoever started it; printing is theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Notice:
    """Something the user should know; the run goes on."""

    text: str


@dataclass(frozen=True)
class Progress:
    """Means over the part of the epoch that is done."""

    epoch: int
    step: int
    loss: float
    accuracy: float
    """In [0, 1]."""
    images_per_second: float


@dataclass(frozen=True)
class EpochDone:
    """The line that was added to metrics.jsonl."""

    metrics: dict[str, Any]


@dataclass(frozen=True)
class Stopped:
    """The last event of a run that was asked to stop; its checkpoint is written."""

    epoch: int
    """From 0; the one that it stopped in."""
    step: int
    """Steps of this epoch that are done."""
