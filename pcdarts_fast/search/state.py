"""The super-net and its two optimizers: what a search changes, and what a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import SGD, Adam

from ..data import Dataset
from ..errors import UserError
from ..nn.search_network import ARCHITECTURE, SearchNetwork
from ..nn.synchronized import synchronize_batch_norms
from ..ops import resolve
from ..ops.dense import DTYPES as FUSED_DTYPES
from ..run.checkpoint import load_optimizer, restoring
from ..run.config import SearchConfig
from ..run.position import Position
from ..run.precision import DTYPES, Precision
from ..run.processes import Processes
from ..space import reductions
from .steps import Forward


@dataclass
class SearchState(Position):
    """Everything that an epoch moves on.

    Random numbers are no part of it: those of a step are a function of seed, epoch and step.
    """

    network: SearchNetwork
    optimizer: SGD
    arch_optimizer: Adam
    precision: Precision
    arch_precision: Precision
    backend: str
    """The one that runs the cells."""
    for_weights: Forward
    """The network as a step of the weights calls it, gradients averaged over processes."""
    for_arch: Forward
    """The same for alpha and beta."""
    group: Processes

    def checkpoint(self) -> dict[str, Any]:
        """For `save_checkpoint`; all processes call it."""
        return {
            **self.saved_position(self.group),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "arch_optimizer": self.arch_optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "arch_scaler": self.arch_precision.scaler.state_dict(),
        }

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of `checkpoint`.

        Raises:
            UserError: the checkpoint is of another network, another search or other images.
        """
        self.check_images(checkpoint)
        with restoring():
            self.restore_position(checkpoint, self.group)
            self.network.load_state_dict(checkpoint["network"])
            load_optimizer(self.optimizer, checkpoint["optimizer"])
            load_optimizer(self.arch_optimizer, checkpoint["arch_optimizer"])
            self.precision.restore(checkpoint["scaler"])
            self.arch_precision.restore(checkpoint["arch_scaler"])

    def architecture(self) -> dict[str, Any]:
        """Alpha and beta before their softmax, as nested lists that give the same float32 back."""
        return {name: _plain(getattr(self.network, name).tolist()) for name in ARCHITECTURE}


def new_state(
    config: SearchConfig, data: Dataset, device: str, group: Processes | None = None
) -> SearchState:
    """A super-net as torch's generator draws it, on `device`, and its optimizers.

    Raises:
        UserError: the super-net does not fit the images, a setting is out of its range, or no
            backend has them all.
    """
    group = group or Processes()
    check_image_size(config, data.image_size)
    synchronized = config.sync_batch_norm and group.count > 1
    backend = _backend(config, device, synchronized)
    network = SearchNetwork(
        num_classes=data.num_classes,
        in_channels=data.in_channels,
        backend=backend,
        **config.network_arguments,
    ).to(device)
    if synchronized:
        synchronize_batch_norms(network)
    optimizer = SGD(
        network.weight_parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    arch_optimizer = Adam(
        network.arch_parameters(),
        lr=config.arch_learning_rate,
        betas=(config.arch_beta1, config.arch_beta2),
        weight_decay=config.arch_weight_decay,
    )
    with network.learning("weights"):
        for_weights = group.averaging(network)
    with network.learning("architecture"):
        for_arch = group.averaging(network)
    return SearchState(
        network,
        optimizer,
        arch_optimizer,
        Precision(config.precision, device),
        Precision(config.precision, device),
        backend,
        for_weights,
        for_arch,
        group,
        totals=torch.zeros(3, dtype=torch.float64, device=device),
        images=data.train.digest(),
    )


def _backend(config: SearchConfig, device: str, synchronized: bool) -> str:
    """The backend that runs cells with these settings.

    Raises:
        UserError: the one that was asked for cannot.
    """
    op = "synchronized_mixed_cell" if synchronized else "mixed_cell"
    chosen: str = resolve(config.backend, op, device)
    if DTYPES[config.precision] in FUSED_DTYPES[chosen]:
        return chosen
    if config.backend != "auto":
        raise UserError(
            f"--backend {config.backend} cannot run --precision {config.precision}; "
            "take --backend reference"
        )
    return "reference"


def check_image_size(config: SearchConfig, image_size: int) -> None:
    """Every reduction cell halves the images.

    Raises:
        UserError: they have an odd size before one of them.
    """
    size = image_size if config.stem == "cifar" else -(-image_size // 8)
    for _ in reductions(config.layers):
        if size % 2:
            raise UserError(
                f"images of {image_size} pixels are {size} pixels wide before a reduction cell, "
                "which halves an even width; choose an --image-size divisible by "
                f"{4 if config.stem == 'cifar' else 32}, or fewer --layers"
            )
        size //= 2


def _plain(values: Any) -> Any:
    # Nine significant digits are enough for every float32.
    return [_plain(v) for v in values] if isinstance(values, list) else float(f"{values:.9g}")
