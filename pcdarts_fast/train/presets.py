"""The settings of a training under a name each: the paper's, and a small one for every machine."""

from __future__ import annotations

from ..errors import check_known
from .config import TrainConfig


def train_config(preset: str) -> TrainConfig:
    """The settings of a preset.

    Raises:
        UserError: no such preset.
    """
    check_known("preset", preset, PRESETS)
    return PRESETS[preset]


PRESETS: dict[str, TrainConfig] = {
    "digits": TrainConfig(
        preset="digits",
        cutout=0,
        init_channels=16,
        layers=5,
        drop_path=0.0,
        epochs=20,
        batch_size=64,
        learning_rate=0.05,
    ),
    "fashion-mnist": TrainConfig(preset="fashion-mnist"),
    "cifar10": TrainConfig(),
    "cifar100": TrainConfig(preset="cifar100"),
    "imagenet": TrainConfig(
        preset="imagenet",
        image_size=224,
        workers=8,
        cutout=0,
        color_jitter=True,
        init_channels=48,
        layers=14,
        stem="imagenet",
        drop_path=0.0,
        epochs=250,
        batch_size=1024,
        learning_rate=0.5,
        schedule="linear",
        learning_rate_warmup_epochs=5,
        weight_decay=3e-5,
        label_smoothing=0.1,
    ),
    # ImageNet's, at an eighth of its batch and learning rate.
    "imagefolder": TrainConfig(
        preset="imagefolder",
        image_size=224,
        cutout=0,
        color_jitter=True,
        init_channels=48,
        layers=14,
        stem="imagenet",
        drop_path=0.0,
        epochs=250,
        batch_size=128,
        learning_rate=0.0625,
        schedule="linear",
        learning_rate_warmup_epochs=5,
        weight_decay=3e-5,
        label_smoothing=0.1,
    ),
}
