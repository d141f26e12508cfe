"""Do fused and naive searches of the same seeds find the same cells, and at what cost?

    python experiments/same_cells.py

Digits from five seeds, and a little of Fashion-MNIST from two in the super-net of the paper: four
short epochs, since only at the end of the schedule have running statistics settled.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from results import Result, environment, main, percent, rows, search_once, summary

from pcdarts_fast.run.presets import search_config
from pcdarts_fast.space import Genotype

BACKENDS = {"fused": "cpu", "naive": "reference"}
SEARCHES = {
    "digits": (search_config("digits"), range(5)),
    "fashion-mnist": (
        replace(
            search_config("fashion-mnist"),
            epochs=4,
            frozen_epochs=0,
            batch_size=64,
            train_fraction=0.015,
            valid_fraction=0.015,
        ),
        range(2),
    ),
}
"""Settings, and seeds."""
THREADS = 2


def experiment(work: Path) -> Result:
    runs = {
        (data, name): [work / f"{data}-{name}" / f"seed-{seed}" for seed in seeds]
        for data, (_, seeds) in SEARCHES.items()
        for name in BACKENDS
    }
    for (data, name), folders in runs.items():
        config, seeds = SEARCHES[data]
        for seed, folder in zip(seeds, folders, strict=True):
            search_once(replace(config, seed=seed, backend=BACKENDS[name]), folder, THREADS)
    pairs = zip(runs["digits", "fused"], runs["digits", "naive"], strict=True)
    return {
        "environment": environment(runs["digits", "fused"][0]),
        **{d: {name: summary(runs[d, name]) for name in BACKENDS} for d in SEARCHES},
        "choices_that_differ": [differing(fused, naive) for fused, naive in pairs],
        "choices": 2 * len(Genotype.load(runs["digits", "fused"][0]).normal),
    }


def differing(one: Path, other: Path) -> int:
    """Of the operations and inputs that two genotypes chose, those that are not in both."""
    a, b = Genotype.load(one), Genotype.load(other)
    pairs = ((a.normal, b.normal), (a.reduce, b.reduce))
    return sum(left != right for cells in pairs for left, right in zip(*cells, strict=True))


def table(result: Result) -> str:
    head = ["", "validation accuracy, %", "seconds an epoch", "peak memory, MiB"]
    lines = [
        [
            f"{data}, {name}",
            percent(found["valid_accuracy"]),
            f"{found['seconds_an_epoch']:.1f}",
            f"{found['peak_memory_mib']:,.0f}",
        ]
        for data in SEARCHES
        for name, found in result[data].items()
    ]
    differ = ", ".join(map(str, result["choices_that_differ"]))
    return (
        f"{rows(head, lines)}\n\nOf {result['choices']} choices in both cells of digits, so many "
        f"differ between fused and naive, seed by seed: {differ}."
    )


if __name__ == "__main__":
    main("same_cells", experiment, table)
