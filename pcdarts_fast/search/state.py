"""The super-net and its two optimizers: what a search changes, and what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from ..data import Dataset
from ..errors import UserError
from ..nn.search_network import ARCHITECTURE, SearchNetwork
from ..nn.synchronized import synchronize_batch_norms
from ..ops import resolve
from ..ops.dense import DTYPES as FUSED_DTYPES
from ..run.config import SearchConfig
from ..run.precision import DTYPES, Precision
from ..run.processes import Processes
from ..run.state import RunState
from ..space import reductions
from .steps import Forward


@dataclass(kw_only=True)
class SearchState(RunState):
    """Everything that an epoch of a search moves on."""

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

    def kept(self) -> Mapping[str, nn.Module | Optimizer | Precision]:
        return {
            "network": self.network,
            "optimizer": self.optimizer,
            "arch_optimizer": self.arch_optimizer,
            "scaler": self.precision,
            "arch_scaler": self.arch_precision,
        }

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
        network=network,
        optimizer=optimizer,
        arch_optimizer=arch_optimizer,
        precision=Precision(config.precision, device),
        arch_precision=Precision(config.precision, device),
        backend=backend,
        for_weights=for_weights,
        for_arch=for_arch,
        group=group,
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
