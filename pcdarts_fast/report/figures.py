"""What a run reached and what it cost, in a few figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ..errors import UserError
from ..nn.footprint import kept_for_backward
from ..ops import why_not
from ..run.config import SearchConfig
from ..run.memory import MIB
from ..run.presets import images_of
from ..search.monitors import skips
from .read import Run


@dataclass(frozen=True)
class Figure:
    """A number with its name, and a remark in small print."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class KeptBytes:
    """Bytes of activations kept for backward, an image: estimates, see `kept_for_backward`."""

    naive: int
    fused: int | None
    """By the backend of the run; None where that is naive itself, or cannot be told here."""


def figures(run: Run) -> list[Figure]:
    """The outcome first, then time and memory; what a run has no numbers for is left out."""
    found = [
        *_accuracy(run),
        Figure("Epochs", f"{len(run.metrics)} of {run.config.epochs}", _unfinished(run)),
        *_time(run),
        *_memory(run),
    ]
    if run.kind == "search" and run.genotype is not None:
        kept = f"{skips(run.genotype)} of {len(run.genotype.normal)}"
        found.append(Figure("Skip connections", kept, "in the normal cell"))
    return found


def duration(seconds: float) -> str:
    """Two units at most."""
    for unit, name, below in ((86400, "d", "h"), (3600, "h", "min"), (60, "min", "s")):
        if seconds >= unit:
            rest = {"h": 3600, "min": 60, "s": 1}[below]
            return f"{int(seconds // unit)} {name} {int(seconds % unit // rest)} {below}"
    return f"{seconds:.1f} s"


def size(count: float) -> str:
    """Bytes with three digits that count."""
    unit, power = ("GiB", 30) if count >= 2**30 else ("MiB", 20) if count >= 2**20 else ("KiB", 10)
    value = count / 2**power
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def kept_bytes(run: Run) -> KeptBytes | None:
    """None for a training, and for a super-net that cannot be built here."""
    if not isinstance(run.config, SearchConfig):
        return None
    backend = run.environments[-1].get("backend") if run.environments else None
    naive = _kept(run.config, "reference")
    if naive is None:
        return None
    # All fused engines keep the same; the cpu engine stands for those that this machine lacks.
    fused = backend in ("cpu", "triton", "cuda") and why_not("cpu") is None
    return KeptBytes(naive, _kept(run.config, "cpu") if fused else None)


def _kept(config: SearchConfig, backend: str) -> int | None:
    return _count(replace(config, seed=0, data_dir=Path()), backend)


@lru_cache(maxsize=64)
def _count(config: SearchConfig, backend: str) -> int | None:
    classes, image = images_of(config.preset, config.image_size)
    try:
        return kept_for_backward(
            image,
            num_classes=classes,
            backend=backend,
            **config.network_arguments,
        )
    except UserError:  # such as a candidate operation of the user's own
        return None


def _accuracy(run: Run) -> list[Figure]:
    name, label = {
        "search": ("valid_accuracy", "Validation accuracy"),
        "train": ("test_accuracy", "Test accuracy"),
    }[run.kind]
    series = run.series(name)
    if not series:
        return []
    epoch, best = max(series, key=lambda point: point[1])
    note = f"best {best:.2%} in epoch {epoch}"
    return [Figure(label, f"{series[-1][1]:.2%}", note)]


def _unfinished(run: Run) -> str:
    return "" if run.finished else "not finished"


def _time(run: Run) -> list[Figure]:
    seconds, rates = run.series("seconds"), run.series("images_per_second")
    if not seconds:
        return []
    note = f"{rates[-1][1]:,.0f} images/s in the last epoch" if rates else ""
    total = sum(value for _, value in seconds)
    found = [Figure("Time", duration(total), note)]
    if run.naive:
        times, images = run.naive.times, " and ".join(map(str, run.naive.images))
        note = f"{times:.1f} times as long, by steps of {images} images"
        found.append(Figure("Naive time (estimate)", duration(total * times), note))
    return found


def _memory(run: Run) -> list[Figure]:
    found = []
    peaks = run.series("peak_memory_mib")
    if peaks:
        peak = max(value for _, value in peaks)
        gpu = run.environments and run.environments[-1].get("device") != "cpu"
        where = "allocated on the GPU" if gpu else "of the process"
        found.append(Figure("Peak memory", size(peak * MIB), f"measured, {where}"))
    kept = kept_bytes(run)
    if kept and kept.fused:
        times = kept.naive / kept.fused
        note = f"an image; naive {size(kept.naive)}, {times:.1f} times as much"
        found.append(Figure("Kept for backward (estimate)", size(kept.fused), note))
    elif kept:
        found.append(Figure("Kept for backward (estimate)", size(kept.naive), "an image; naive"))
    return found


def table(runs: Sequence[Run]) -> list[tuple[str, list[Figure | None]]]:
    """A row a figure with the runs' values; figures of equal place in their runs are neighbours."""
    of_runs = [{figure.label: figure for figure in figures(run)} for run in runs]
    place: dict[str, int] = {}
    for found in of_runs:
        for number, label in enumerate(found):
            place[label] = min(number, place.get(label, number))
    labels = sorted(place, key=lambda label: place[label])
    return [(label, [found.get(label) for found in of_runs]) for label in labels]
