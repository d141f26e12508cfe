"""What a data set is to the loops above, and what a reader is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .augment import Augment
from .image_set import ImageSet

USUAL_FOLDER = Path("data")
"""Where files are looked for unless another folder is named."""


@dataclass(frozen=True)
class Dataset:
    """Labelled images of one size; `test` is the same for every seed and is never trained on."""

    num_classes: int
    in_channels: int
    image_size: int
    """Side in pixels: images are square."""
    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...] = ()
    """Names, in the order of labels and logits; empty: there are none."""


@dataclass(frozen=True)
class Request:
    """The arguments of `load`, for a reader."""

    data_dir: Path
    device: str
    image_size: int | None
    workers: int
    augment: Augment
    damaged: list[str] | None = None
    """Where the paths of damaged images are collected; None: the first one is an error."""
