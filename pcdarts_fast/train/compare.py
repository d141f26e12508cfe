"""Several genotypes on one training budget: which is better, and how much is chance.

Every training is a run folder of its own, `NAME/seed-S` inside the comparison's folder, so that a
comparison goes on after an interruption and a training can also be run by itself.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..files import write_json
from ..nn.count import count
from ..nn.derived import DerivedNetwork
from ..nn.exported import read_metadata
from ..run.folder import RunFolder, read_lines
from ..run.seeds import deviation, seed_folder
from ..run.settings import check_unchanged, load_settings
from ..space import PUBLISHED, Genotype, genotype_file, random_genotype
from .config import TrainConfig
from .loop import MAY_CHANGE


@dataclass(frozen=True)
class Contestant:
    """A genotype and the name of its folder and its row."""

    name: str
    genotype: Genotype
    drawn: bool = False
    """Whether it is a random one."""


@dataclass(frozen=True)
class Result:
    """What the finished trainings of one genotype reached."""

    contestant: Contestant
    accuracies: dict[int, float]
    """On the test images after the last epoch, in [0, 1], by seed."""
    parameters: int
    """Scalars of the network without its auxiliary head."""
    multiply_adds: int
    """Of convolutions and linear layers, for one image."""
    rank: int = 0
    """1 for the highest mean; equal means share a rank."""

    @property
    def mean(self) -> float:
        return statistics.mean(self.accuracies.values())

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation; None for a single seed."""
        return deviation(self.accuracies.values())


def contestants(texts: Sequence[str], *, seed: int, nodes: int) -> list[Contestant]:
    """The genotypes of a command line: files, published names, and `random:N` for N random ones.

    Random genotypes are drawn with `seed`, `seed + 1`, ... and have as many nodes as the first
    genotype that is not random, or else `nodes`.

    Raises:
        UserError: no such genotype, one named twice, or nothing to compare.
    """
    drawn = sum(_random_count(text) or 0 for text in texts)
    given = [text for text in texts if _random_count(text) is None]
    again = next((text for text in given if given.count(text) > 1), None)
    if again is not None:
        raise UserError(f"genotype {again!r} is named twice; to train it more often, give --seeds")
    found = [Contestant(_name(text), Genotype.load(text)) for text in given]
    if found:
        nodes = len(found[0].genotype.normal) // 2
    for number in range(seed, seed + drawn):
        found.append(Contestant(f"random-{number}", random_genotype(number, nodes=nodes), True))
    if not found:
        raise UserError(
            "nothing to compare; name genotype files, published genotypes or random:N "
            f"(published: {', '.join(PUBLISHED)})"
        )
    return _with_unique_names(found)


def _random_count(text: str) -> int | None:
    """N of `random:N`; None for other texts."""
    if not text.startswith("random:"):
        return None
    match = re.fullmatch(r"random:([1-9]\d{0,3})", text, re.ASCII)
    if not match:
        raise UserError(f"genotype {text!r}: wanted random:N with N from 1 to 9999")
    return int(match[1])


def _name(text: str) -> str:
    """A published name; a folder's; of a file its stem, or its folder's where that says nothing."""
    if text in PUBLISHED:
        return text
    path = genotype_file(Path(text).absolute())
    name = path.parent.name if path.name == "genotype.json" else path.stem
    return name.replace(".", "-").strip("-") or "genotype"  # ".." and compare.json are no folders


def _with_unique_names(found: list[Contestant]) -> list[Contestant]:
    taken: set[str] = set()
    unique = []
    for one in found:
        name, number = one.name, 1
        while name in taken:
            number += 1
            name = f"{one.name}-{number}"
        taken.add(name)
        unique.append(replace(one, name=name))
    return unique


def training_folder(parent: Path, contestant: Contestant, seed: int) -> Path:
    """The run folder of one training."""
    return seed_folder(parent / contestant.name, seed)


def is_finished(folder: Path, config: TrainConfig, genotype: Genotype) -> bool:
    """Whether `folder` holds a whole training of `genotype` with these settings.

    Raises:
        UserError: it holds a run of other settings or of another genotype.
    """
    run = RunFolder(folder)
    if not run.begun:
        return False
    check_unchanged(load_settings(TrainConfig, run.config), config, MAY_CHANGE)
    if run.genotype.exists() and Genotype.load(run.genotype) != genotype:
        raise UserError(
            f"{folder} holds a training of another genotype of the same name; "
            "choose another --output-dir"
        )
    return run.weights.exists() and len(read_lines(run.metrics)) == config.epochs


def results(
    parent: Path, field: Sequence[Contestant], seeds: range, image_size: int
) -> list[Result]:
    """Results of the finished trainings in `parent`, best mean first.

    Multiply-adds are those of an image of `image_size` pixels a side. A genotype without a
    finished training has no result.

    Raises:
        UserError: a run's files are damaged.
    """
    reached = []
    for one in field:
        folders = {seed: training_folder(parent, one, seed) for seed in seeds}
        done = {seed: f for seed, f in folders.items() if RunFolder(f).weights.exists()}
        if not done:
            continue
        accuracies = {
            seed: float(read_lines(RunFolder(folder).metrics)[-1]["test_accuracy"])
            for seed, folder in done.items()
        }
        genotype, arguments, _ = read_metadata(RunFolder(next(iter(done.values()))).weights)
        with torch.device("meta"):
            network = DerivedNetwork(genotype=genotype, **arguments).eval()
        cost = count(network, (arguments["in_channels"], image_size, image_size))
        reached.append(Result(one, accuracies, cost.parameters, cost.multiply_adds))
    reached.sort(key=lambda result: -result.mean)
    means = [result.mean for result in reached]
    return [replace(result, rank=1 + means.index(result.mean)) for result in reached]


def random_means(reached: Sequence[Result]) -> list[float]:
    """Mean accuracy of every random genotype."""
    return [result.mean for result in reached if result.contestant.drawn]


def save_comparison(
    path: Path, config: TrainConfig, seeds: range, reached: Sequence[Result], trainings: int
) -> None:
    """Writes compare.json: the budget, and what every genotype reached.

    `trainings` is how many there are to be, finished or not.

    Raises:
        UserError: `path` cannot be written.
    """
    budget = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(config).items()
        if name not in {"seed", *MAY_CHANGE}
    }
    summary: dict[str, Any] = {
        "budget": budget,
        "seeds": list(seeds),
        "trainings": trainings,
        "trainings_done": sum(len(result.accuracies) for result in reached),
        "genotypes": [_plain(result) for result in reached],
    }
    means = random_means(reached)
    if means:
        summary["random"] = {
            "genotypes": len(means),
            "mean": statistics.mean(means),
            "deviation": deviation(means),
            "best": max(means),
        }
    write_json(path, summary)


def _plain(result: Result) -> Mapping[str, Any]:
    return {
        "name": result.contestant.name,
        "rank": result.rank,
        "mean": result.mean,
        "deviation": result.deviation,
        "test_accuracy": {str(seed): value for seed, value in result.accuracies.items()},
        "parameters": result.parameters,
        "multiply_adds": result.multiply_adds,
        "genotype": json.loads(result.contestant.genotype.to_json()),
    }
