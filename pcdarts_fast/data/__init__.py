"""Data sets by name, their seeded splits, and batches that a run can be resumed with.

data = load("cifar10", Path("data"), device="cuda")
weights, architecture = split(data.train, (0.5, 0.5), seed=0)
for images, labels in weights.shuffled(256, seed=derive_seed(0, "weights", epoch)):
    ...  # [B, C, H, W] float32, normalised and augmented; [B] int64; both on the device
"""

from .augment import Augment
from .catalogue import DATASETS, load, row_of
from .dataset import Dataset
from .image_set import WHOLE, Batch, ImageSet, Shard, derive_seed, share, split, steps

__all__ = [
    "DATASETS",
    "WHOLE",
    "Augment",
    "Batch",
    "Dataset",
    "ImageSet",
    "Shard",
    "derive_seed",
    "load",
    "row_of",
    "share",
    "split",
    "steps",
]
