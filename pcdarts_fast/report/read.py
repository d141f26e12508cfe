"""A run folder read for a report: everything in it is checked here, and nothing is trusted."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from ..run.config import SearchConfig
from ..run.folder import RunFolder, read_lines
from ..run.seeds import SEED
from ..run.settings import load_settings
from ..space import CELLS, Genotype, cell_edges
from ..train.config import TrainConfig

COMPARISON = "compare.json"
"""What marks the folder of a comparison."""

LARGEST = 1e30
"""A number beyond it is left out, as one that is not finite is."""

Table = list[list[float]]


@dataclass(frozen=True)
class NaiveTime:
    """Seconds of a step of a search and of the naive super-net, for a batch."""

    images: list[int]
    """Numbers of images that were timed; a larger batch is on the line through them."""
    seconds: float
    naive_seconds: float

    @property
    def times(self) -> float:
        """How many times as long naive takes."""
        return self.naive_seconds / self.seconds


@dataclass(frozen=True)
class Run:
    """What a search or a training has left so far."""

    path: Path
    name: str
    config: SearchConfig | TrainConfig
    metrics: list[dict[str, Any]]
    environments: list[dict[str, Any]]
    """One for every start."""
    genotype: Genotype | None
    alphas: dict[str, list[Table]] = field(default_factory=dict)
    """By cell, `normal` or `reduce`: after every epoch [edges, primitives], before softmax."""
    betas: dict[str, list[list[float]]] = field(default_factory=dict)
    """By cell: after every epoch [edges], before softmax."""
    naive: NaiveTime | None = None

    @property
    def kind(self) -> Literal["search", "train"]:
        return "search" if isinstance(self.config, SearchConfig) else "train"

    @property
    def finished(self) -> bool:
        if isinstance(self.config, SearchConfig) and self.metrics:
            last = self.metrics[-1]
            if isinstance(last.get("skips"), int) and self.config.ends_after(last):
                return True
        return len(self.metrics) >= self.config.epochs

    def series(self, name: str) -> list[tuple[int, float]]:
        """(epoch from 1, value) wherever metrics.jsonl has a finite number of that name."""
        values = [(line["epoch"] + 1, line.get(name)) for line in self.metrics]
        return [(epoch, float(v)) for epoch, v in values if v is not None and abs(v) <= LARGEST]


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs in `paths`; a folder of `search --seeds` or `compare` counts as the runs in it.

    Raises:
        UserError: a folder holds no run, or a file in it is damaged.
    """
    folders = [folder for path in paths for folder in _expanded(path)]
    return [read_run(f, name) for f, name in zip(folders, _names(folders), strict=True)]


def _expanded(path: Path) -> list[Path]:
    if RunFolder(path).begun:
        return [path]
    seeds = f"*/{SEED}*" if (path / COMPARISON).is_file() else f"{SEED}*"
    found = [folder for folder in path.glob(seeds) if RunFolder(folder).begun]
    if not found:
        raise UserError(f"no run in {path}: it holds no config.yaml; name the folder of a run")
    return sorted(found, key=lambda folder: (folder.parent.name, len(folder.name), folder.name))


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            break
    return names


def read_run(path: Path, name: str) -> Run:
    """The run in `path`.

    Raises:
        UserError: a file in it is damaged.
    """
    folder = RunFolder(path)
    config: SearchConfig | TrainConfig
    if folder.is_search:
        config = load_settings(SearchConfig, folder.config)
    else:
        config = load_settings(TrainConfig, folder.config)
    metrics = read_lines(folder.metrics)
    for line in metrics:
        for key, value in line.items():
            _check_number(value, f"{folder.metrics}: {key} of epoch {line['epoch']}")
    alphas: dict[str, list[Table]] = {}
    betas: dict[str, list[list[float]]] = {}
    if isinstance(config, SearchConfig):
        lines = read_lines(folder.architecture)
        edges, choices = len(cell_edges(config.nodes)), len(config.primitives)
        where = f"{folder.architecture}: "
        for kind in CELLS:
            alphas[kind] = [_table(n.get(f"alphas_{kind}"), edges, choices, where) for n in lines]
            betas[kind] = [_table([n.get(f"betas_{kind}")], 1, edges, where)[0] for n in lines]
    return Run(
        path=path,
        name=name,
        config=config,
        metrics=metrics,
        environments=folder.environments(),
        genotype=Genotype.load(folder.genotype) if folder.genotype.exists() else None,
        alphas=alphas,
        betas=betas,
        naive=_naive_time(folder.naive),
    )


def _check_number(value: Any, where: str) -> None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return
    if type(value) not in (int, float) or abs(value) > 1e308:
        raise UserError(f"{where} is {value!r:.60}, wanted a number")


def _table(values: Any, rows: int, columns: int, where: str) -> Table:
    shaped = (
        isinstance(values, list)
        and [len(row) if isinstance(row, list) else -1 for row in values] == [columns] * rows
    )
    if not shaped or any(
        type(v) not in (int, float) or not abs(v) <= LARGEST for row in values for v in row
    ):
        raise UserError(f"{where}got {values!r:.60}, wanted {rows} x {columns} numbers")
    return [[float(value) for value in row] for row in values]


def _naive_time(path: Path) -> NaiveTime | None:
    if not path.exists():
        return None
    try:
        found = NaiveTime(**json.loads(path.read_bytes()))
        numbers = [found.seconds, found.naive_seconds, *found.images]
        sound = bool(found.images) and all(
            type(v) in (int, float) and 1e-9 < v < 1e9 for v in numbers
        )
    except (ValueError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise UserError(f"{path} is damaged; take it away, the report can do without")
    return found
