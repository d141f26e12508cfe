"""Do fused and naive searches of the same seeds find the same cells, and at what cost?

    python experiments/same_cells.py

Digits from five seeds, and a little of Fashion-MNIST from three in the super-net of the paper: four
short epochs, since only at the end of the schedule have running statistics settled.
"""

from __future__ import annotations

from pathlib import Path

from results import Result, environment, genotype, main, percent, rows, search_seeds, summary

SEEDS, LARGE_SEEDS = range(5), range(3)
BACKENDS = {"fused": "cpu", "naive": "reference"}
LARGE = (
    *("--preset", "fashion-mnist", "--epochs", 4, "--frozen-epochs", 0, "--batch-size", 64),
    *("--train-fraction", 0.015, "--valid-fraction", 0.015),
)


def experiment(work: Path) -> Result:
    small, large = {}, {}
    for name, backend in BACKENDS.items():
        options = ("--backend", backend)
        small[name] = search_seeds(work / f"digits-{name}", SEEDS, "--preset", "digits", *options)
        large[name] = search_seeds(work / f"fashion-{name}", LARGE_SEEDS, *LARGE, *options)
    pairs = zip(small["fused"], small["naive"], strict=True)
    return {
        "environment": environment(small["fused"][0]),
        "digits": {name: summary(folders) for name, folders in small.items()},
        "fashion-mnist": {name: summary(folders) for name, folders in large.items()},
        "choices_that_differ": [differing(fused, naive) for fused, naive in pairs],
        "choices": 2 * len(genotype(small["fused"][0]).normal),
    }


def differing(one: Path, other: Path) -> int:
    """Of the operations and inputs that two genotypes chose, those that are not in both."""
    a, b = genotype(one), genotype(other)
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
        for data in ("digits", "fashion-mnist")
        for name, found in result[data].items()
    ]
    differ = ", ".join(map(str, result["choices_that_differ"]))
    return (
        f"{rows(head, lines)}\n\nOf {result['choices']} choices in both cells of digits, so many "
        f"differ between fused and naive, seed by seed: {differ}."
    )


if __name__ == "__main__":
    main("same_cells", experiment, table)
