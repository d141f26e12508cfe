"""CIFAR-10 and CIFAR-100: 50,000 and 10,000 colour images of 32 x 32 pixels."""

from __future__ import annotations

import torch
from torchvision.datasets import CIFAR10, CIFAR100

from ..errors import UserError
from .dataset import Dataset, Request
from .image_set import MemoryImages

MEAN_STD = {
    CIFAR10: ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    CIFAR100: ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def read(reader: type[CIFAR10], num_classes: int, request: Request) -> Dataset:
    """The published batches, checked by torchvision against their MD5 sums.

    Raises:
        UserError: the files are missing or damaged.
    """
    folder = request.data_dir / reader.base_folder
    if not folder.is_dir():
        raise UserError(
            f"{reader.__name__}: no folder {folder}; unpack {reader.filename} "
            "(published at www.cs.toronto.edu/~kriz/cifar.html) there, "
            "or name the folder that holds it with --data-dir"
        )
    parts = []
    for train in (True, False):
        try:
            part = reader(str(request.data_dir), train=train, download=False)
        except (RuntimeError, OSError):
            raise UserError(
                f"{reader.__name__}: a file in {folder} is missing or damaged "
                f"(its MD5 sum is not the published one); unpack {reader.filename} again"
            ) from None
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()  # [N, 3, 32, 32]
        parts.append(
            MemoryImages(
                images.to(request.device),
                torch.tensor(part.targets),
                *MEAN_STD[reader],
                request.augment,
            )
        )
    classes = tuple(part.classes)
    return Dataset(num_classes, 3, 32, train=parts[0], test=parts[1], classes=classes)
