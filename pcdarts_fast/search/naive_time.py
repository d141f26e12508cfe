"""How long a search would have taken on the naive super-net: a few steps of each, in turns."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from torch.optim import SGD, Adam

from ..nn.footprint import kept_for_backward
from ..nn.search_network import SearchNetwork
from ..run.config import SearchConfig
from ..run.files import write_atomically
from ..run.folder import RunFolder
from ..run.precision import Precision
from ..run.presets import IMAGES
from ..run.settings import load_settings
from .steps import architecture_step, weight_step

MOST_BYTES = 2**30
"""What the naive step may keep for backward: there is room for it where a search has run."""
ROUNDS = 3


def time_against_naive(run: Path) -> None:
    """Writes the `naive.json` of a finished search: seconds of a step of its own and of naive's.

    A step is one of alpha and beta and one of the weights, on a batch of random images. Both sides
    compute on the device and in the number format of the run, in turns; the fastest of `ROUNDS`
    counts. Where the naive super-net keeps more than `MOST_BYTES` for a batch, steps of as many
    images as fit and of half as many tell it: time is a constant and a share for every image. A
    run that was naive itself has nothing to compare with and gets no file.
    """
    folder = RunFolder(run)
    config = load_settings(SearchConfig, folder.config)
    record = json.loads(folder.environment.read_text())[-1]
    if record["backend"] == "reference":
        return
    classes, channels, side = IMAGES[config.preset]
    shape = (channels, config.image_size or side, config.image_size or side)
    an_image = kept_for_backward(
        shape, num_classes=classes, backend="reference", **config.network_arguments
    )
    count = min(config.batch_size, max(4, MOST_BYTES // an_image))
    images = [count] if count == config.batch_size else [count // 2, count]
    device = record["device"]
    steps = [_Step(config, backend, device) for backend in (record["backend"], "reference")]
    fastest: list[list[float]] = []  # by number of images, of both sides
    for n in images:
        batch = torch.randn(n, *shape, device=device), torch.arange(n, device=device) % classes
        times = [[step(batch) for step in steps] for _ in range(1 + ROUNDS)]
        fastest.append([min(side[1:]) for side in zip(*times, strict=True)])
    seconds, naive_seconds = (
        _of_a_batch(images, list(side), config.batch_size) for side in zip(*fastest, strict=True)
    )
    result = {"images": images, "seconds": seconds, "naive_seconds": naive_seconds}
    write_atomically(folder.naive, (json.dumps(result) + "\n").encode())


def _of_a_batch(images: list[int], seconds: list[float], batch_size: int) -> float:
    """Seconds for a batch, on the line through what was measured with one or two numbers of images.

    Never less than the largest of them took.
    """
    if len(images) == 1:
        return seconds[0]
    an_image = (seconds[1] - seconds[0]) / (images[1] - images[0])
    return seconds[1] + max(0.0, an_image) * (batch_size - images[1])


class _Step:
    """A super-net and its optimizers; a call is one step of the search, and returns its seconds."""

    def __init__(self, config: SearchConfig, backend: str, device: str) -> None:
        classes, channels, _ = IMAGES[config.preset]
        self.network = SearchNetwork(
            num_classes=classes, in_channels=channels, backend=backend, **config.network_arguments
        ).to(device)
        self.optimizer = SGD(self.network.weight_parameters(), lr=0.0, momentum=config.momentum)
        self.arch_optimizer = Adam(self.network.arch_parameters(), lr=0.0)
        self.precision = Precision(config.precision, device)

    def __call__(self, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
        start = time.perf_counter()
        architecture_step(
            self.network, self.arch_optimizer, batch, grad_clip=None, precision=self.precision
        )
        tally = weight_step(
            self.network, self.optimizer, batch, grad_clip=1.0, precision=self.precision
        )
        float(tally[0])  # waits for the device
        return time.perf_counter() - start
