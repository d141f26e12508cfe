"""The derived network and its optimizer: what a training changes, and what a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import SGD

from ..data import Dataset
from ..nn.derived import DerivedNetwork
from ..nn.synchronized import synchronize_batch_norms
from ..run.checkpoint import load_optimizer, restoring
from ..run.position import Position
from ..run.precision import Precision
from ..run.processes import Processes
from ..space import Genotype
from .config import TrainConfig


@dataclass
class TrainState(Position):
    """Everything that an epoch moves on.

    Random numbers are no part of it: those of a step are a function of seed, epoch, step and
    process.
    """

    network: DerivedNetwork
    optimizer: SGD
    precision: Precision
    averaging: nn.Module
    """The network, with gradients averaged over processes."""
    group: Processes

    def checkpoint(self) -> dict[str, Any]:
        """For `save_checkpoint`; all processes call it."""
        return {
            **self.saved_position(self.group),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
        }

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of `checkpoint`.

        Raises:
            UserError: the checkpoint is of another network or other images.
        """
        self.check_images(checkpoint)
        with restoring():
            self.restore_position(checkpoint, self.group)
            self.network.load_state_dict(checkpoint["network"])
            load_optimizer(self.optimizer, checkpoint["optimizer"])
            self.precision.restore(checkpoint["scaler"])


def new_state(
    config: TrainConfig, genotype: Genotype, data: Dataset, device: str, group: Processes
) -> TrainState:
    """The network of `genotype` as torch's generator draws it, on `device`, and its optimizer.

    Raises:
        UserError: the genotype has an unknown primitive, or a setting is out of its range.
    """
    network = DerivedNetwork(
        config.init_channels,
        data.num_classes,
        config.layers,
        genotype,
        auxiliary=config.auxiliary_weight > 0,
        stem=config.stem,
        in_channels=data.in_channels,
    ).to(device)
    # Steps are 1.3 to 1.8 times as fast so (2-core EPYC, AVX-512); of fewer channels, torch 2.14.1
    # writes beyond its memory in the gradient of a strided convolution (AVX2).
    if device == "cpu" and config.init_channels >= 8:
        network.to(memory_format=torch.channels_last)  # what it computes follows
    if config.sync_batch_norm and group.count > 1:
        synchronize_batch_norms(network)
    optimizer = SGD(
        network.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    return TrainState(
        network,
        optimizer,
        Precision(config.precision, device),
        group.averaging(network),
        group,
        totals=torch.zeros(3, dtype=torch.float64, device=device),
        images=data.train.digest() + data.test.digest(),
    )
