"""Image files into batches, by worker processes."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import warnings
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
class Unread:
    """An image that could not be decoded."""

    path: str
    reason: str | None
    """Why it cannot be read, such as what the system says; None: its bytes are damaged."""


Item = tuple[Tensor, int] | Unread


@dataclass(frozen=True)
class Decoder(torch_data.Dataset[Item]):
    """Index -> (image [3, S, S] uint8, label), or why there is none: an exception of a worker
    would arrive as text.
    """

    paths: Sequence[str]
    labels: Tensor
    transform: v2.Transform
    seed: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Item:
        image = in_colour(self.paths[index])
        if isinstance(image, Unread):
            return image
        # Seeded an image, so that neither workers nor batches change what it becomes.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, index))
            tensor = v2.functional.pil_to_tensor(self.transform(image))
        return tensor, int(self.labels[index])


def in_colour(path: str) -> Image.Image | Unread:
    """The image in a file as RGB of 8 bits."""
    try:
        with warnings.catch_warnings():
            # Of pictures that are whole: a transparent colour, many pixels, odd EXIF data.
            warnings.filterwarnings("ignore", module="PIL")
            with Image.open(path) as image:
                bits = _grey_bits(image)
                if bits == 32:
                    return Unread(path, "its pixels have 32 bits; make them 8 or 16")
                return _of_8_bits(image, bits).convert("RGB")
    except Image.DecompressionBombError:
        return Unread(path, "it has more pixels than Pillow opens; make it smaller")
    except Exception as error:  # what decoders raise at damaged bytes has no common class
        return Unread(path, error.strerror if isinstance(error, OSError) else None)


def _grey_bits(image: Image.Image) -> int:
    """Of a pixel; Pillow reads some formats of 16 bits as if they had 32."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG")):
        return 16
    return 32 if image.mode in ("I", "F") else 8


def _of_8_bits(image: Image.Image, bits: int) -> Image.Image:
    """Pillow itself would cut the values of 16 bits off at 255."""
    if bits == 8:
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def collate(items: list[Item]) -> tuple[Tensor, Tensor, list[Unread]]:
    """Images, labels, and those that could not be decoded."""
    whole = [item for item in items if not isinstance(item, Unread)]
    unread = [item for item in items if isinstance(item, Unread)]
    images, labels = torch_data.default_collate(whole) if whole else (torch.empty(0),) * 2
    return images, labels.long(), unread


LEFT_TO_THE_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def decoded(loader: torch_data.DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor, list[Unread]]]:
    """The batches of `loader`; what kills its processes becomes a sentence."""
    if loader.num_workers:
        atexit.unregister(_warn_workers)
        atexit.register(_warn_workers)
    try:
        # Workers begin with this mask: until they leave signals to the parent, one would end them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_PARENT)
        try:
            batches = iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield from batches
    except (RuntimeError, OSError) as error:
        if not loader.num_workers:
            raise
        cause = str(error).strip().splitlines()[-1]
        raise UserError(
            f"a process that decodes images failed ({cause}); where /dev/shm is small, "
            "take fewer --workers or a smaller --batch-size; --workers 0 needs no /dev/shm"
        ) from None


def leave_signals_to_the_parent(_: int) -> None:
    """A worker's: schedulers send SIGTERM to all processes of a run, and the parent needs its
    workers until the checkpoint is written. So the first one does nothing, and the second ends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_PARENT)


def _warn_workers() -> None:
    """Sends those that are left at the parent's end their first SIGTERM: Python's own is to end
    them, and it waits for that. It does so with all daemons, as workers are, and no others.
    """
    for child in multiprocessing.active_children():
        if child.daemon:
            child.terminate()
