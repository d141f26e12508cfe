"""The settings of a search under a name each: the paper's, and a small one for every machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import UserError, check_known
from .config import SearchConfig


def search_config(preset: str, variant: str = "paper") -> SearchConfig:
    """The settings of a preset.

    Raises:
        UserError: no such preset, or it has no such variant.
    """
    check_known("preset", preset, PRESETS)
    if variant == "paper":
        return PRESETS[preset]
    if variant != "as-released" or preset not in AS_RELEASED:
        raise UserError(
            f"preset {preset} has no variant {variant!r}; wanted paper"
            f"{' or as-released' if preset in AS_RELEASED else ''} "
            f"(as-released exists for {', '.join(AS_RELEASED)})"
        )
    return replace(PRESETS[preset], variant="as-released", **AS_RELEASED[preset])


PRESETS: dict[str, SearchConfig] = {
    "digits": SearchConfig(
        preset="digits",
        layers=3,
        nodes=3,
        epochs=12,
        frozen_epochs=3,
        batch_size=64,
        arch_learning_rate=6e-3,
        derived_init_channels=16,
        derived_layers=5,
    ),
    "fashion-mnist": SearchConfig(preset="fashion-mnist"),
    "cifar10": SearchConfig(),
    "cifar100": SearchConfig(preset="cifar100"),
    "imagenet": SearchConfig(
        preset="imagenet",
        image_size=224,
        train_fraction=0.10,
        valid_fraction=0.025,
        workers=8,
        k=2,
        stem="imagenet",
        frozen_epochs=35,
        batch_size=1024,
        learning_rate=0.5,
        learning_rate_warmup_epochs=5,
        arch_learning_rate=6e-3,
        arch_grad_clip=5.0,
        derived_init_channels=48,
        derived_layers=14,
    ),
    "imagefolder": SearchConfig(
        preset="imagefolder",
        image_size=224,
        train_fraction=0.10,
        valid_fraction=0.025,
        k=2,
        stem="imagenet",
        frozen_epochs=35,
        batch_size=128,
        learning_rate_warmup_epochs=5,
        arch_grad_clip=5.0,
        derived_init_channels=48,
        derived_layers=14,
    ),
}

AS_RELEASED: dict[str, dict[str, Any]] = {
    name: {"learning_rate_shift": 1} for name in ("cifar10", "cifar100", "imagenet")
}
"""Where the published code differs from the paper, per preset."""

IMAGES = {
    "digits": (10, 1, 8),
    "fashion-mnist": (10, 1, 28),
    "cifar10": (10, 3, 32),
    "cifar100": (100, 3, 32),
    "imagenet": (1000, 3, 224),
    "imagefolder": (1000, 3, 224),
}
"""Classes, channels and side of each preset's images: counting needs no data."""


def images_of(preset: str, image_size: int | None) -> tuple[int, tuple[int, int, int]]:
    """Classes, and channels, height and width of the images: the preset's, or `image_size`."""
    classes, channels, side = IMAGES.get(preset, IMAGES["imagefolder"])
    side = image_size or side
    return classes, (channels, side, side)
