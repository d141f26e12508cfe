"""How long a search would have taken on the naive super-net: a few steps of each, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.optim import SGD, Adam

from ..files import write_json
from ..nn.footprint import kept_for_backward
from ..nn.search_network import SearchNetwork
from ..run.config import SearchConfig
from ..run.device import pick_device
from ..run.folder import RunFolder
from ..run.precision import Precision
from ..run.presets import images_of
from ..run.settings import load_settings
from ..run.stop import Stop, never
from .steps import architecture_step, weight_step

MOST_BYTES = 2**30
"""What the naive step may keep for backward on a CPU; on a GPU half of what is free."""
LEAST_IMAGES = 4
ROUNDS = 3


def time_against_naive(
    run: Path, stop: Stop = never, begin: Callable[[], None] = lambda: None
) -> None:
    """Writes the `naive.json` of a finished search: seconds of a step of its own and of naive's.

    A step is one of alpha and beta and one of the weights (of first order), of one process, on its
    share of a batch of random images. Both sides compute on the device and in the number format of
    the run, in turns; the fastest of `ROUNDS` counts. Where the naive super-net would keep more
    than there is room for, steps of as many images as fit and of half as many tell it: time is a
    constant and a share for every image.

    `begin` is called before the first step. Nothing is written where `stop` says true in between,
    where a few images do not fit, where the machine was too busy to tell, nor for a run whose
    environment.json was taken away, or that was naive itself: it also loses what it had before.

    Raises:
        UserError: a file of the run cannot be read or written.
    """
    folder = RunFolder(run)
    config = load_settings(SearchConfig, folder.config)
    records = folder.environments()
    if not records:
        return
    record = records[-1]
    if record["backend"] == "reference":
        folder.naive.unlink(missing_ok=True)
        return
    device = pick_device(config.device)
    share = config.batch_size // record["processes"]
    count = min(share, _room(device) // _kept_by_naive(config))
    if folder.naive.exists() or count < min(share, LEAST_IMAGES):
        return
    begin()
    images = [count] if count == share else [count // 2, count]
    steps = [_Step(config, backend, device) for backend in (record["backend"], "reference")]
    fastest: list[list[float]] = []  # by number of images, of both sides
    for n in images:
        batch = steps[0].batch(n)
        times: list[list[float]] = []
        for _ in range(1 + ROUNDS):
            times.append([step(batch) for step in steps])
            if stop():
                return
        fastest.append([min(side[1:]) for side in zip(*times, strict=True)])
    seconds, naive_seconds = (
        of_a_batch(images, list(side), share) for side in zip(*fastest, strict=True)
    )
    if seconds and naive_seconds:
        result = {"images": images, "seconds": seconds, "naive_seconds": naive_seconds}
        write_json(folder.naive, result)


def of_a_batch(images: list[int], seconds: list[float], batch_size: int) -> float | None:
    """Seconds of a step of a batch, on the line through those of one or two numbers of images.

    None where more images took no longer: something else kept the machine busy.
    """
    if len(images) == 1:
        return seconds[0]
    an_image = (seconds[1] - seconds[0]) / (images[1] - images[0])
    return seconds[1] + an_image * (batch_size - images[1]) if an_image > 0 else None


def _room(device: str) -> int:
    """Bytes that the naive step may keep for backward."""
    return MOST_BYTES if device == "cpu" else int(torch.cuda.mem_get_info()[0]) // 2


def _kept_by_naive(config: SearchConfig) -> int:
    """Bytes an image."""
    classes, image = images_of(config.preset, config.image_size)
    return kept_for_backward(
        image, num_classes=classes, backend="reference", **config.network_arguments
    )


class _Step:
    """A super-net and its optimizers; a call is one step of the search, and returns its seconds."""

    def __init__(self, config: SearchConfig, backend: str, device: str) -> None:
        self.classes, self.image = images_of(config.preset, config.image_size)
        self.network = SearchNetwork(
            num_classes=self.classes,
            in_channels=self.image[0],
            backend=backend,
            **config.network_arguments,
        ).to(device)
        self.optimizer = SGD(self.network.weight_parameters(), lr=0.0, momentum=config.momentum)
        self.arch_optimizer = Adam(self.network.arch_parameters(), lr=0.0)
        self.precision = Precision(config.precision, device)

    def batch(self, images: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Random images [N, C, H, W] and labels [N]."""
        device = self.precision.device
        labels = torch.arange(images, device=device) % self.classes
        return torch.randn(images, *self.image, device=device), labels

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
