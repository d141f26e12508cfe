"""Fashion-MNIST (arXiv 1708.07747): 60,000 and 10,000 grey images of 28 x 28 pixels."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import FashionMNIST

from ..errors import UserError
from .dataset import USUAL_FOLDER, Dataset, Request
from .image_set import MemoryImages

MEAN, STD = (0.2860,), (0.3530,)
CLASSES = tuple(FashionMNIST.classes)
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package dataset-fashion-mnist puts the files."""


def read(request: Request) -> Dataset:
    """The four published IDX files, gzipped or not, in the data folder or where Debian has them.

    Debian's are taken only where no other folder is named.

    Raises:
        UserError: a file is missing or damaged.
    """
    train, test = (
        MemoryImages(
            _read_idx(request.data_dir, f"{part}-images-idx3-ubyte", (28, 28))[:, None].to(
                request.device
            ),
            _read_idx(request.data_dir, f"{part}-labels-idx1-ubyte", ()).long(),
            MEAN,
            STD,
            request.augment,
        )
        for part in ("train", "t10k")
    )
    for part in (train, test):
        if len(part.images) != len(part.labels):
            raise UserError(
                f"Fashion-MNIST: {len(part.images)} images, but {len(part.labels)} labels; "
                "take all four files from one place"
            )
    return Dataset(10, in_channels=1, image_size=28, train=train, test=test, classes=CLASSES)


def _read_idx(data_dir: Path, name: str, item_shape: tuple[int, ...]) -> Tensor:
    """[N, *item_shape] uint8."""
    path = _find(data_dir, name)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged or unreadable ({error}); get it again") from None
    # IDX: two zero bytes, the type (8: uint8), the number of dimensions, their sizes, the data.
    dimensions = 1 + len(item_shape)
    sizes = [int.from_bytes(content[4 * d + 4 : 4 * d + 8], "big") for d in range(dimensions)]
    header = 4 * dimensions + 4
    shape = (sizes[0], *item_shape)
    if (
        content[:4] != bytes([0, 0, 8, dimensions])
        or tuple(sizes) != shape
        or len(content) != header + math.prod(shape)
    ):
        raise UserError(f"{path} is no whole IDX file of items {list(item_shape)}; get it again")
    if len(content) == header:
        raise UserError(f"{path} holds no items; get it again")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).view(shape)


def _find(data_dir: Path, name: str) -> Path:
    folders = [data_dir, data_dir / "FashionMNIST" / "raw"]
    if data_dir == USUAL_FOLDER:
        folders.append(DEBIAN_FOLDER)
    for path in (folder / file for folder in folders for file in (name, f"{name}.gz")):
        if path.is_file():
            return path
    raise UserError(
        f"Fashion-MNIST: {name}[.gz] is not in {' nor in '.join(map(str, folders))}; "
        "put the four published files there, name their folder with --data-dir, or install "
        "Debian's dataset-fashion-mnist and name none"
    )
