"""What a run tells, and what it leaves behind that must not depend on interruptions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from ..run.folder import read_lines

E = TypeVar("E")
TIMES = {"seconds", "images_per_second", "peak_memory_mib"}
"""What a clock decides, of a line of metrics.jsonl."""


def of(kind: type[E], events: Iterable[object]) -> list[E]:
    """The events of a run that are of this kind."""
    return [event for event in events if isinstance(event, kind)]


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without times."""
    lines = read_lines(folder / "metrics.jsonl")
    return [{name: line[name] for name in line if name not in TIMES} for line in lines]


def outcome(folder: Path) -> tuple[list[dict[str, Any]], bytes, bytes]:
    """Of a search: metrics without times, alpha and beta, genotype."""
    return (
        metrics_of(folder),
        (folder / "architecture.jsonl").read_bytes(),
        (folder / "genotype.json").read_bytes(),
    )
