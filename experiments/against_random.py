"""Are searched cells better than random ones of the same search space?

    python experiments/against_random.py

Cells found by PC-DARTS and by DARTS, each from three seeds, against eight random cells and the
published one, all trained from scratch on one budget with two seeds. A part of Fashion-MNIST, so
that it takes an hour; no test image takes part in a search.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from results import (
    Result,
    cells,
    compare,
    environment,
    main,
    noise,
    percent,
    rows,
    search_all,
    searched,
)

from pcdarts_fast.data import load
from pcdarts_fast.data.image_set import MemoryImages
from pcdarts_fast.run.presets import search_config
from pcdarts_fast.space import random_genotype

SEEDS, RANDOM = range(3), range(8)
TRAIN_IMAGES, TEST_IMAGES = 4000, 3000
METHODS: dict[str, dict[str, Any]] = {
    "PC-DARTS": {"k": 4, "edge_normalization": True},
    "DARTS": {"k": 1, "edge_normalization": False},
}
SEARCH = replace(
    search_config("fashion-mnist"),
    init_channels=8,
    layers=5,
    epochs=6,
    frozen_epochs=2,
    batch_size=32,
    arch_learning_rate=2e-2,
)
TRAINING = (
    *("--preset", "fashion-mnist", "--init-channels", 8, "--layers", 5, "--epochs", 4),
    *("--batch-size", 32, "--learning-rate", 0.05),
    *("--drop-path", 0, "--cutout", 0, "--auxiliary-weight", 0, "--seeds", "0..1"),
)


def experiment(work: Path) -> Result:
    data = work / "data"
    write_part(data)
    runs = search_all(replace(SEARCH, data_dir=data), METHODS, SEEDS, work)
    field = [
        *cells(runs),
        *(draw(work / f"random-{seed}.json", seed) for seed in RANDOM),
        "PC_DARTS_cifar",
    ]
    shares = (field[::2], field[1::2])
    compared = compare(work / "compare", shares, *TRAINING, "--data-dir", data)
    return {
        "environment": environment(runs["PC-DARTS"][0]),
        "images": {"train": TRAIN_IMAGES, "test": TEST_IMAGES},
        "seeds": list(SEEDS),
        "searches": {name: searched(folders) for name, folders in runs.items()},
        **compared,
    }


def draw(path: Path, seed: int) -> Path:
    random_genotype(seed, nodes=SEARCH.nodes).save(path)
    return path


def write_part(folder: Path) -> None:
    """The first images of both parts of Fashion-MNIST, as IDX files."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = load("fashion-mnist")
    for part, images, count in (
        ("train", whole.train, TRAIN_IMAGES),
        ("t10k", whole.test, TEST_IMAGES),
    ):
        assert isinstance(images, MemoryImages)
        for kind, values in (
            ("images-idx3", images.images[:count, 0]),
            ("labels-idx1", images.labels[:count].byte()),
        ):
            sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
            head = bytes([0, 0, 8, values.dim()])
            (folder / f"{part}-{kind}-ubyte").write_bytes(head + sizes + values.numpy().tobytes())


def table(result: Result) -> str:
    groups = {
        **{name: found["names"] for name, found in result["searches"].items()},
        "random": [g["name"] for g in result["genotypes"] if g["name"].startswith("random-")],
        "published": ["PC_DARTS_cifar"],
    }
    members = {
        name: [g for g in result["genotypes"] if g["name"] in names]
        for name, names in groups.items()
    }
    means = {name: [g["mean"] for g in found] for name, found in members.items()}
    lines = [
        [
            name,
            len(found),
            percent(means[name]),
            f"{100 * max(means[name]):.2f}",
            ", ".join(str(g["rank"]) for g in found),
            f"{statistics.mean(g['parameters'] for g in found):,.0f}",
        ]
        for name, found in members.items()
    ]
    head = ["cells", "n", "test accuracy, %", "best, %", "ranks", "parameters"]
    chances = " and ".join(
        f"{chance(means[name], means['random'])} ({name})" for name in result["searches"]
    )
    return (
        f"{rows(head, lines)}\n\nOf all ways to take three of the three searched and eight random "
        f"cells, so many have a mean as high as the searched three: {chances}. "
        f"{noise(result['genotypes'])}"
    )


def chance(searched: Sequence[float], drawn: Sequence[float]) -> str:
    """Exact permutation test of a higher mean, one-sided."""
    ways = list(combinations([*searched, *drawn], len(searched)))
    high = sum(sum(way) >= sum(searched) - 1e-9 for way in ways)
    return f"{high} of {len(ways)}"


if __name__ == "__main__":
    main("against_random", experiment, table)
