"""The table of data sets. Adding one: a reader in a file of its own and a row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torchvision.datasets import CIFAR10, CIFAR100

from ..errors import UserError, check_known
from . import cifar, digits, fashion_mnist, image_folder
from .augment import Augment
from .dataset import USUAL_FOLDER, Dataset, Request


@dataclass(frozen=True)
class Row:
    """A reader and the augmentation that is usual for a search on its images."""

    read: Callable[[Request], Dataset]
    augment: Augment


DATASETS: dict[str, Row] = {
    "digits": Row(digits.read, Augment(crop_padding=1)),
    "fashion-mnist": Row(fashion_mnist.read, Augment(crop_padding=4, flip=True)),
    "cifar10": Row(partial(cifar.read, CIFAR10, 10), Augment(crop_padding=4, flip=True)),
    "cifar100": Row(partial(cifar.read, CIFAR100, 100), Augment(crop_padding=4, flip=True)),
    "imagenet": Row(image_folder.read, Augment(flip=True)),
    "imagefolder": Row(image_folder.read, Augment(flip=True)),
}


def row_of(name: str) -> Row:
    """Raises UserError where no data set has this name."""
    check_known("data set", name, DATASETS)
    return DATASETS[name]


def load(
    name: str,
    data_dir: str | Path = USUAL_FOLDER,
    *,
    device: str = "cpu",
    image_size: int | None = None,
    workers: int = 0,
    augment: Augment | None = None,
    damaged: list[str] | None = None,
) -> Dataset:
    """The data set of a row of `DATASETS`, read from `data_dir`; nothing is ever downloaded.

    `device` is where batches come out. `image_size` and `workers` (processes that decode) are for
    image folders. `augment` takes the place of the row's:
    `replace(DATASETS[name].augment, cutout=16)`. With a list as `damaged`, images of a folder
    that cannot be decoded are left out and their paths are added to it.

    Raises:
        UserError: unknown name, missing or damaged files, or a size that the images do not have.
    """
    row = row_of(name)
    dataset = row.read(
        Request(Path(data_dir), device, image_size, workers, augment or row.augment, damaged)
    )
    if image_size not in (None, dataset.image_size):
        raise UserError(
            f"{name} images are {dataset.image_size} pixels wide, not {image_size}; "
            "--image-size is for image folders"
        )
    return dataset
