"""The derived network and its optimizer: what a training changes, and what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from ..data import Dataset
from ..nn.derived import DerivedNetwork
from ..nn.synchronized import synchronize_batch_norms
from ..run.precision import Precision
from ..run.processes import Processes
from ..run.state import RunState
from ..space import Genotype
from .config import TrainConfig


@dataclass(kw_only=True)
class TrainState(RunState):
    """Everything that an epoch of a training moves on."""

    network: DerivedNetwork
    optimizer: SGD
    precision: Precision
    averaging: nn.Module
    """The network, with gradients averaged over processes."""

    def kept(self) -> Mapping[str, nn.Module | Optimizer | Precision]:
        return {
            "network": self.network,
            "optimizer": self.optimizer,
            "scaler": self.precision,
        }


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
        network=network,
        optimizer=optimizer,
        precision=Precision(config.precision, device),
        averaging=group.averaging(network),
        group=group,
        totals=torch.zeros(3, dtype=torch.float64, device=device),
        images=data.train.digest() + data.test.digest(),
    )
