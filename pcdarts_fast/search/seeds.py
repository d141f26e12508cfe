"""The same search with several seeds: which genotype is best, and how much is chance."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from ..files import write_json
from ..run.folder import RunFolder, read_lines
from ..run.seeds import deviation, seed_folder
from ..space import Genotype

SUMMARY = "seeds.json"
"""What a search with several seeds writes beside their run folders."""


@dataclass(frozen=True)
class Seeds:
    """Validation accuracies of the super-nets after their last epoch."""

    accuracies: dict[int, float]
    """By seed, in [0, 1]."""

    @property
    def best(self) -> int:
        """The seed of the highest accuracy; the lowest of those."""
        return max(sorted(self.accuracies), key=lambda seed: self.accuracies[seed])

    @property
    def mean(self) -> float:
        return statistics.mean(self.accuracies.values())

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation; None for a single seed."""
        return deviation(self.accuracies.values())


def compare_seeds(parent: Path, seeds: range) -> Seeds:
    """Reads the finished runs, and writes seeds.json and the best genotype.json into `parent`.

    Raises:
        UserError: a run's files are damaged, or `parent` cannot be written.
    """
    runs = {seed: RunFolder(seed_folder(parent, seed)) for seed in seeds}
    last = {seed: read_lines(run.metrics)[-1] for seed, run in runs.items()}
    result = Seeds({seed: line["valid_accuracy"] for seed, line in last.items()})
    summary = {
        "valid_accuracy": {str(seed): value for seed, value in result.accuracies.items()},
        "mean": result.mean,
        "deviation": result.deviation,
        "best": result.best,
    }
    best = Genotype.load(runs[result.best].genotype)
    write_json(parent / SUMMARY, summary)
    RunFolder(parent).write_genotype(best.to_json())
    return result
