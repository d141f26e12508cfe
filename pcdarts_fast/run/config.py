"""Every hyper-parameter of a search; the presets are in `presets.py`.

The text under a field is its `--help`; its default is the paper's CIFAR-10 setting (section 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from ..space import PRIMITIVES
from .ranges import (
    BATCH,
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    check_choices,
    check_range,
)


@dataclass(frozen=True)
class SearchConfig:
    """The settings of one search.

    Raises:
        UserError: a number out of its range, or a name that is no choice.
    """

    preset: str = "cifar10"
    """Named settings to start from: digits, fashion-mnist, cifar10, cifar100, imagenet or
    imagefolder. Every other option changes one of them."""
    variant: Literal["paper", "as-released"] = "paper"
    """Settings of the paper, or of the published code where that differs (cifar10, cifar100,
    imagenet)."""
    seed: int = 0
    """Seed of the weights, the splits, the order of the images and their augmentation."""

    data_dir: Path = Path("data")
    """Folder that holds the data set's files (not used by digits)."""
    image_size: int | None = None
    """Side to which the images of an image folder are cropped, in pixels."""
    train_fraction: float = 0.5
    """Part of every class's training images that the weights learn from."""
    valid_fraction: float = 0.5
    """Part of every class's training images, disjoint, that alpha and beta learn from."""
    workers: int = 2
    """Processes that decode an image folder; data sets in memory need none."""
    damaged_images: Literal["fail", "skip"] = "fail"
    """What to do at an image of a folder that cannot be decoded: stop and name it, or name it
    after the epoch and take another image in its place."""

    init_channels: int = 16
    """Channels of the first cells; every reduction cell doubles them."""
    layers: int = 8
    """Cells of the super-net; those at a third and at two thirds of the depth reduce."""
    nodes: int = 4
    """Intermediate nodes of a cell."""
    k: int = 4
    """Partial channels: one channel in K goes through the candidate operations."""
    primitives: tuple[str, ...] = PRIMITIVES
    """Candidate operations of every edge."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """First convolutions: full resolution, or an eighth of it."""
    sampling: Literal["shuffle", "shift", "random"] = "shuffle"
    """How the sampled channels change from one edge to the next."""
    edge_normalization: bool = True
    """Learn beta, a weight for every edge (paper section 3.3)."""

    epochs: int = 50
    """Passes over the training part."""
    frozen_epochs: int = 15
    """First epochs, in which alpha and beta stay as they are."""
    batch_size: int = 256
    """Images of a step, for the weights and for the architecture alike."""
    learning_rate: float = 0.1
    """Learning rate of the weights (SGD), falling to 0 along a half cosine."""
    learning_rate_warmup_epochs: int = 0
    """First epochs, in which the learning rate rises linearly."""
    learning_rate_shift: int = 0
    """Epochs by which the cosine runs ahead; the published code steps its scheduler early: 1."""
    momentum: float = 0.9
    """Momentum of the weights."""
    weight_decay: float = 3e-4
    """L2 penalty of the weights."""
    grad_clip: float = 5.0
    """Largest norm of the weights' gradient."""
    arch_learning_rate: float = 6e-4
    """Learning rate of alpha and beta (Adam)."""
    arch_beta1: float = 0.5
    """Adam's decay of the mean gradient."""
    arch_beta2: float = 0.999
    """Adam's decay of the mean squared gradient."""
    arch_weight_decay: float = 1e-3
    """L2 penalty of alpha and beta."""
    arch_grad_clip: float | None = None
    """Largest norm of the architecture gradient; None: no limit."""
    max_skips: int | None = None
    """Skip connections that the genotype's normal cell may have. Under this and the next two the
    genotype is the one of largest weights that keeps to them."""
    max_parameters: int | None = None
    """Parameters that the derived network may have, without its auxiliary head."""
    max_multiply_adds: int | None = None
    """Multiply-adds of the derived network for one image, counted as published (`pcdarts count`);
    the mobile setting is 600_000_000."""
    derived_init_channels: int = 36
    """Channels of the derived network that --max-parameters and --max-multiply-adds are about."""
    derived_layers: int = 20
    """Its cells; both are those of `pcdarts train` with this preset."""
    stop_at_skips: int | None = None
    """End the search when the normal cell has this many skip connections, before --max-skips is
    applied, after an epoch that is not frozen; the genotype is that of the epoch before."""
    hessian: bool = False
    """After every epoch, measure the dominant eigenvalue of the architecture Hessian on one batch
    (24 gradients), in float32."""
    unrolled: bool = False
    """Second-order architecture gradient, through one weight step (DARTS, equations 7 and 8)."""

    backend: Literal["auto", "reference", "cpu", "triton", "cuda"] = "auto"
    """Engine of the fused operators; `pcdarts info` lists what this machine has."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    memory: Literal["recompute", "store"] = "recompute"
    """What the fused operators keep for backward: as little as possible, or what saves time."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of activations: float32, bfloat16 or float16; weights are float32."""
    sync_batch_norm: bool = False
    """With several processes, take batch-norm statistics over all of them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "primitives", tuple(self.primitives))
        _check(self)

    def ends_after(self, metrics: Mapping[str, Any] | None) -> bool:
        """Whether skip connections dominate after an epoch in which alpha has learnt."""
        if metrics is None or self.stop_at_skips is None or not metrics.get("arch_learning_rate"):
            return False
        return int(metrics["skips"]) >= self.stop_at_skips

    @property
    def network_arguments(self) -> dict[str, Any]:
        """Those of `SearchNetwork` that do not come from the data, nor from the machine."""
        return {
            "C": self.init_channels,
            "layers": self.layers,
            "k": self.k,
            "primitives": self.primitives,
            "nodes": self.nodes,
            "stem": self.stem,
            "sampling": self.sampling,
            "edge_normalization": self.edge_normalization,
            "memory": self.memory,
        }


def _check(config: SearchConfig) -> None:
    check_choices(config)
    check_range(config, ["seed"], SEED)
    check_range(config, ["batch_size"], BATCH)
    check_range(config, ("init_channels", "layers", "nodes", "k"), COUNT)
    check_range(config, ("epochs", "image_size", "stop_at_skips"), COUNT)
    check_range(config, ("max_parameters", "max_multiply_adds"), COUNT)
    check_range(config, ("derived_init_channels", "derived_layers"), COUNT)
    check_range(
        config, ("learning_rate", "grad_clip", "arch_learning_rate", "arch_grad_clip"), POSITIVE
    )
    check_range(config, ("workers", "frozen_epochs", "max_skips"), NOT_NEGATIVE)
    check_range(config, ("learning_rate_warmup_epochs", "learning_rate_shift"), NOT_NEGATIVE)
    check_range(config, ("weight_decay", "arch_weight_decay"), NOT_NEGATIVE)
    check_range(config, ("momentum", "arch_beta1", "arch_beta2"), FRACTION)
    if config.unrolled and config.precision != "fp32":
        raise UserError(
            f"--precision is {config.precision}, but the finite difference of --unrolled needs "
            "fp32; leave one of them out"
        )
    train, valid = config.train_fraction, config.valid_fraction
    if not (train > 0 and valid > 0 and train + valid <= 1):
        raise UserError(
            f"--train-fraction {train} and --valid-fraction {valid} must be above 0 "
            "and not exceed 1 together: the two parts are disjoint"
        )
