"""The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn ships."""

from __future__ import annotations

import torch

from .dataset import Dataset, Request
from .image_set import MemoryImages, split

MEAN, STD = (0.3053,), (0.3761,)
TEST_FRACTION = 0.2


def read(request: Request) -> Dataset:
    """Float32 images [1, 8, 8]; a fixed fifth of every class is the test part."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    digits = MemoryImages(
        torch.from_numpy(bunch.images).float().div(16)[:, None].to(request.device),
        torch.from_numpy(bunch.target).long(),
        MEAN,
        STD,
        request.augment,
    )
    train, test = split(digits, (1 - TEST_FRACTION, TEST_FRACTION), seed=0)
    classes = tuple(map(str, bunch.target_names))
    return Dataset(10, in_channels=1, image_size=8, train=train, test=test, classes=classes)
