"""The same run with several seeds: where each lies, and how far they are apart."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

SEED = "seed-"
"""Before the number, the name of the folder of one of several seeds."""


def seed_folder(parent: Path, seed: int) -> Path:
    """The run folder of one of several seeds."""
    return parent / f"{SEED}{seed}"


def deviation(values: Iterable[float]) -> float | None:
    """Sample standard deviation; None for a single value."""
    values = list(values)
    return statistics.stdev(values) if len(values) > 1 else None
