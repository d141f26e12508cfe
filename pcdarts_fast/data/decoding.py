"""Image files into batches, by worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import data as torch_data
from torchvision.transforms import v2

from ..errors import UserError
from .image_set import derive_seed


@dataclass(frozen=True)
class Decoder(torch_data.Dataset[tuple[Tensor, int] | str]):
    """Index -> (image [3, S, S] uint8, label), or the path when the image is damaged."""

    paths: Sequence[str]
    labels: Tensor
    transform: v2.Transform
    seed: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | str:
        # Seeded an image, so that neither workers nor batches change what it becomes.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, index))
            try:
                with Image.open(self.paths[index]) as image:
                    pixels = _in_colour(image)
            except Exception:  # what decoders raise at damaged bytes has no common class
                return self.paths[index]
            tensor = v2.functional.pil_to_tensor(self.transform(pixels))
        return tensor, int(self.labels[index])


def _in_colour(image: Image.Image) -> Image.Image:
    """As RGB of 8 bits; Pillow would cut the values of 16 bits off at 255."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def collate(items: list[tuple[Tensor, int] | str]) -> tuple[Tensor, Tensor, list[str]]:
    """Images, labels, and the paths of the damaged ones: an exception would arrive as text."""
    whole = [item for item in items if not isinstance(item, str)]
    damaged = [item for item in items if isinstance(item, str)]
    images, labels = torch_data.default_collate(whole) if whole else (torch.empty(0),) * 2
    return images, labels.long(), damaged


def decoded(loader: torch_data.DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """The batches of `loader`; what kills its processes becomes a sentence."""
    try:
        yield from loader
    except (RuntimeError, OSError) as error:
        if not loader.num_workers:
            raise
        cause = str(error).strip().splitlines()[-1]
        raise UserError(
            f"a process that decodes images failed ({cause}); where /dev/shm is small, "
            "take fewer --workers or a smaller --batch-size; --workers 0 needs no /dev/shm"
        ) from None


def leave_signals_to_the_parent(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's way to end a worker
