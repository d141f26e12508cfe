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

MOST_BYTES = 256 * 2**20
"""What the naive step may keep for backward: on every machine there is room for it."""
ROUNDS = 3


def time_against_naive(run: Path) -> None:
    """Writes the `naive.json` of a finished search: seconds of a step of its own and of naive's.

    A step is one of alpha and beta and one of the weights, on random images, as many as the naive
    super-net keeps in `MOST_BYTES`, but two at least and a batch at most. Both sides compute on
    the device and in the number format of the run, in turns; the fastest of `ROUNDS` counts. A run
    that was naive itself has nothing to compare with and gets no file.
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
    count = min(config.batch_size, max(2, MOST_BYTES // an_image))
    device = record["device"]
    batch = torch.randn(count, *shape, device=device), torch.arange(count, device=device) % classes
    steps = {
        name: _Step(config, backend, device)
        for name, backend in (("seconds", record["backend"]), ("naive_seconds", "reference"))
    }
    for step in steps.values():
        step(batch)
    times = [{name: step(batch) for name, step in steps.items()} for _ in range(ROUNDS)]
    fastest = {name: min(one[name] for one in times) for name in steps}
    write_atomically(folder.naive, (json.dumps({"images": count, **fastest}) + "\n").encode())


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
