"""The super-net and its two optimizers: what a search changes, and what a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.optim import SGD, Adam

from ..data import Dataset
from ..errors import UserError
from ..nn.search_network import ARCHITECTURE, SearchNetwork
from ..run.checkpoint import random_state, restore_random_state
from ..run.config import SearchConfig


@dataclass
class SearchState:
    """Everything that an epoch moves on, the process's random generators included."""

    network: SearchNetwork
    optimizer: SGD
    arch_optimizer: Adam
    epochs_done: int = 0

    def checkpoint(self) -> dict[str, Any]:
        """For `save_checkpoint`."""
        return {
            "epoch": self.epochs_done,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "arch_optimizer": self.arch_optimizer.state_dict(),
            "random": random_state(),
        }

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of `checkpoint`."""
        self.epochs_done = checkpoint["epoch"]
        self.network.load_state_dict(checkpoint["network"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.arch_optimizer.load_state_dict(checkpoint["arch_optimizer"])
        restore_random_state(checkpoint["random"])

    def architecture(self) -> dict[str, Any]:
        """Alpha and beta before their softmax, as nested lists that give the same float32 back."""
        return {name: _plain(getattr(self.network, name).tolist()) for name in ARCHITECTURE}


def new_state(config: SearchConfig, data: Dataset, device: str) -> SearchState:
    """A super-net as torch's generator draws it, on `device`, and its optimizers.

    Raises:
        UserError: the super-net does not fit the images, or a setting is out of its range.
    """
    check_image_size(config, data.image_size)
    network = SearchNetwork(
        config.init_channels,
        data.num_classes,
        config.layers,
        k=config.k,
        primitives=config.primitives,
        nodes=config.nodes,
        stem=config.stem,
        in_channels=data.in_channels,
        sampling=config.sampling,
        edge_normalization=config.edge_normalization,
        backend=config.backend,
        memory=config.memory,
    ).to(device)
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
    return SearchState(network, optimizer, arch_optimizer)


def check_image_size(config: SearchConfig, image_size: int) -> None:
    """Every reduction cell halves the images.

    Raises:
        UserError: they have an odd size before one of them.
    """
    size = image_size if config.stem == "cifar" else -(-image_size // 8)
    for _ in {config.layers // 3, 2 * config.layers // 3}:
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
