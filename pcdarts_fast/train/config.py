"""Every hyper-parameter of training a derived network from scratch.

The text under a field is its `--help`; its default is the paper's CIFAR-10 setting (section 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..run.ranges import (
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
class TrainConfig:
    """The settings of one training.

    Raises:
        UserError: a number out of its range, or a name that is no choice.
    """

    preset: str = "cifar10"
    """Named settings to start from; every other option changes one of them:
    digits, fashion-mnist, cifar10, cifar100, imagenet or imagefolder."""
    seed: int = 0
    """Seed of the weights, the order of the images, their augmentation and drop path."""

    data_dir: Path = Path("data")
    """Folder that holds the data set's files (not used by digits)."""
    image_size: int | None = None
    """Side to which the images of an image folder are cropped, in pixels."""
    workers: int = 2
    """Processes that decode an image folder; data sets in memory need none."""
    damaged_images: Literal["fail", "skip"] = "fail"
    """What to do at an image of a folder that cannot be decoded: stop and name it, or name it
    after the epoch and take another image in its place."""
    cutout: int = 16
    """Side of the square blanked in every training image, in pixels; 0: none."""
    color_jitter: bool = False
    """Change brightness, contrast, saturation and hue of training images (image folders)."""

    init_channels: int = 36
    """Channels of the first cells; every reduction cell doubles them."""
    layers: int = 20
    """Cells of the network; those at a third and at two thirds of the depth reduce."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """First convolutions: full resolution, or an eighth of it."""
    auxiliary_weight: float = 0.4
    """Weight of the auxiliary head's loss; 0: no auxiliary head."""
    drop_path: float = 0.3
    """Probability to drop an operation's output, reached linearly over the epochs."""

    epochs: int = 600
    """Passes over the training images."""
    batch_size: int = 128
    """Images of a step (the published code takes 96 on CIFAR-10)."""
    learning_rate: float = 0.025
    """First learning rate (SGD)."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How the learning rate falls to 0: along a half cosine, or linearly."""
    learning_rate_warmup_epochs: int = 0
    """First epochs, in which the learning rate rises linearly."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 3e-4
    """L2 penalty of the weights."""
    grad_clip: float = 5.0
    """Largest norm of the gradient."""
    label_smoothing: float = 0.0
    """Part of the target that is spread evenly over all classes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of activations: float32, bfloat16 or float16; weights are float32."""
    sync_batch_norm: bool = False
    """With several processes, take batch-norm statistics over all of them."""

    def __post_init__(self) -> None:
        _check(self)


def _check(config: TrainConfig) -> None:
    check_choices(config)
    check_range(config, ["seed"], SEED)
    check_range(config, ["batch_size"], BATCH)
    check_range(config, ("init_channels", "layers", "epochs", "image_size"), COUNT)
    check_range(config, ("learning_rate", "grad_clip"), POSITIVE)
    check_range(
        config,
        ("workers", "cutout", "auxiliary_weight", "learning_rate_warmup_epochs", "weight_decay"),
        NOT_NEGATIVE,
    )
    check_range(config, ("drop_path", "momentum", "label_smoothing"), FRACTION)
