"""Whether decoding keeps up with the fused step of a search on ImageNet.

    python benchmarks/image_loader.py photos --write          1,000 classes of 4 JPEG files, once
    python benchmarks/image_loader.py photos                  measures, on all cores

The files are as large as ImageNet's (500 x 375 pixels or so) and as costly to decode. Measured are
the loader alone by number of workers, the two steps of a search alone, and a search: its step waits
for no images where the last two agree. All numbers are images a second, where one step of weights
and architecture takes the images of both.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from pcdarts_fast import SearchNetwork
from pcdarts_fast.data import Batch, load, split
from pcdarts_fast.run.presets import search_config
from pcdarts_fast.search.steps import architecture_step, weight_step
from pcdarts_fast.testing.photos import write_photos

CONFIG = search_config("imagenet")


def halves(folder: Path, workers: int, batch_size: int) -> list[Iterator[Batch]]:
    """Batches of the part of the weights and of the architecture, each with workers of its own."""
    data = load("imagenet", folder, image_size=CONFIG.image_size, workers=workers)
    parts = split(data.train, (0.5, 0.5), seed=0)
    return [part.shuffled(batch_size, seed=1) for part in parts]


def loading(folder: Path, workers: int, batch_size: int, batches: int) -> float:
    """Images a second of one part's loader, from its second batch on."""
    images, _ = halves(folder, workers, batch_size)
    next(images)
    start = time.perf_counter()
    count = sum(len(labels) for _, labels in islice(images, batches))
    return count / (time.perf_counter() - start)


class Search:
    """The super-net of the preset, and the two steps that a search alternates."""

    def __init__(self, classes: int) -> None:
        torch.manual_seed(0)
        self.network = SearchNetwork(num_classes=classes, **CONFIG.network_arguments)
        self.optimizer = torch.optim.SGD(self.network.weight_parameters(), 0.1)
        self.arch_optimizer = torch.optim.Adam(self.network.arch_parameters(), 6e-3)

    def step(self, train: Batch, valid: Batch) -> int:
        """Returns how many images it took."""
        architecture_step(self.network, self.arch_optimizer, valid, grad_clip=5.0)
        weight_step(self.network, self.optimizer, train, grad_clip=5.0)
        return len(train[1]) + len(valid[1])


def stepping(search: Search, batches: Iterator[tuple[Batch, Batch]], steps: int) -> float:
    """Images a second of `steps` steps, after one that is not counted."""
    search.step(*next(batches))
    start = time.perf_counter()
    count = sum(search.step(*pair) for pair in islice(batches, steps))
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="write the images and measure nothing")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--images", type=int, default=4, help="of every class to train on")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6)
    given = parser.parse_args()
    if given.write:
        write_photos(given.folder / "train", given.classes, given.images)
        write_photos(given.folder / "val", given.classes, 1, seed=1)
        return
    cores = os.cpu_count() or 1
    print(f"{torch.get_num_threads()} threads of {cores} cores, batch {given.batch_size}")
    for workers in dict.fromkeys((0, 1, cores, CONFIG.workers)):
        rate = loading(given.folder, workers, given.batch_size, given.steps)
        print(f"loader alone, {workers} workers: {rate:7.1f} images/s")
    search = Search(given.classes)
    kept = tuple(next(images) for images in halves(given.folder, cores, given.batch_size))
    rate = stepping(search, iter([kept] * (given.steps + 1)), given.steps)
    print(f"search, images at hand:  {rate:7.1f} images/s")
    both = zip(*halves(given.folder, cores, given.batch_size), strict=True)
    rate = stepping(search, both, given.steps)
    print(f"search, {cores} workers a loader: {rate:4.1f} images/s")


if __name__ == "__main__":
    main()
