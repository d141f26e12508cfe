"""Any folder of images, train/CLASS/*.jpg and val/CLASS/*.jpg: ImageNet or the user's own."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils import data as torch_data
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ..errors import UserError
from .augment import Augment, blank, normalize, random_squares
from .dataset import Dataset, Request
from .image_set import WHOLE, Batch, ImageSet, Shard, derive_seed, shuffled_indices, split

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TEST_FRACTION = 0.1


def read(request: Request) -> Dataset:
    """Colour images, cropped to `image_size`. Without val/ a fixed tenth of train/ is the test.

    Raises:
        UserError: no train/ folder, a class without images or with too few of them, or val/ has
            other classes.
    """
    size = request.image_size or 224
    train, classes = _scan(request, "train", size)
    if (request.data_dir / "val").is_dir():
        test, test_classes = _scan(request, "val", size)
        if test_classes != classes:
            lacking = [
                f"{part}/ has no {', '.join(sorted(set(others) - set(own)))}"
                for part, own, others in (
                    ("train", classes, test_classes),
                    ("val", test_classes, classes),
                )
                if set(others) - set(own)
            ]
            raise UserError(
                f"image folder {request.data_dir}: {' and '.join(lacking)}; both need every class"
            )
        return Dataset(len(classes), 3, size, train, test, tuple(classes))
    counts = dict(zip(classes, train.labels.bincount().tolist(), strict=True))
    rare = [name for name, n in counts.items() if round((1 - TEST_FRACTION) * n) == n]
    if rare:
        raise UserError(
            f"image folder {request.data_dir}: class {rare[0]} has {counts[rare[0]]} images, too "
            f"few to take a tenth of them for the test; add more, leave the class out, or put "
            f"test images of every class into {request.data_dir / 'val'}/CLASS"
        )
    rest, test_part = split(train, (1 - TEST_FRACTION, TEST_FRACTION), seed=0)
    return Dataset(len(classes), 3, size, rest, test_part, tuple(classes))


@dataclass(frozen=True)
class FolderImages:
    """Images decoded by worker processes when they are wanted."""

    paths: Sequence[str]
    labels: Tensor
    """[N] int64."""
    image_size: int
    augment: Augment
    device: str
    workers: int
    damaged: list[str] | None
    """Shared by all subsets, see `Request`."""
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def subset(self, indices: Tensor) -> ImageSet:
        """See `ImageSet`."""
        paths = [self.paths[index] for index in indices.tolist()]
        return replace(self, paths=paths, labels=self.labels[indices])

    def shuffled(
        self, batch_size: int, *, seed: int, start: int = 0, shard: Shard = WHOLE
    ) -> Iterator[Batch]:
        """See `ImageSet`."""
        plan = shuffled_indices(len(self.labels), batch_size, seed, shard.count)[start:]
        steps: list[v2.Transform] = [
            v2.RandomResizedCrop(self.image_size, antialias=True),
            v2.RandomHorizontalFlip(0.5 if self.augment.flip else 0.0),
        ]
        if self.augment.color_jitter:
            steps.append(v2.ColorJitter(0.4, 0.4, 0.4, 0.2))
        shares = [indices[shard.rows] for indices in plan]
        batches = self._decode(shares, v2.Compose(steps), seed)
        for number, (images, labels) in enumerate(batches, start):
            if len(labels) == 0:
                raise UserError("every image of a batch is damaged; get them again")
            # Others take the place of damaged images: every process needs its number of them.
            rows = torch.arange(len(shares[number - start])) % len(labels)
            images, labels = images[rows], labels[rows]
            if self.augment.cutout:
                # Drawn for the whole batch, as MemoryImages does.
                generator = Generator().manual_seed(derive_seed(seed, number))
                whole = len(plan[number - start])
                squares = random_squares(whole, self.image_size, self.augment.cutout, generator)
                images = blank(images, squares[shard.rows])
            yield images, labels

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """See `ImageSet`."""
        plan = torch.split(torch.arange(len(self.labels)), batch_size)
        # The published evaluation: 224 pixels out of an image of 256.
        resize = v2.Resize(round(self.image_size * 256 / 224), antialias=True)
        transform = v2.Compose([resize, v2.CenterCrop(self.image_size)])
        yield from (batch for batch in self._decode(plan, transform, 0) if len(batch[1]))

    def _decode(
        self, plan: Sequence[Tensor], transform: v2.Transform, seed: int
    ) -> Iterator[Batch]:
        """The images of `plan` that are whole; a batch may be left with none."""
        on_gpu = self.device != "cpu"
        loader: torch_data.DataLoader[Any] = torch_data.DataLoader(
            _Decoder(self.paths, self.labels, transform, seed),
            batch_sampler=[indices.tolist() for indices in plan],
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=on_gpu,
            generator=Generator().manual_seed(seed),
            worker_init_fn=_leave_signals_to_the_parent,
        )
        for images, labels, damaged in _decoded(loader):
            self._note(damaged)
            if len(labels):
                images = normalize(images.to(self.device, non_blocking=on_gpu), self.mean, self.std)
            yield images, labels.to(self.device, non_blocking=on_gpu)

    def _note(self, damaged: Sequence[str]) -> None:
        if damaged and self.damaged is None:
            raise UserError(
                f"image {damaged[0]} is damaged; get it again or take it out, or leave out all "
                "such images with --damaged-images skip (and --resume, to go on with this run)"
            )
        if self.damaged is not None:
            self.damaged.extend(path for path in damaged if path not in self.damaged)


@dataclass(frozen=True)
class _Decoder(torch_data.Dataset[tuple[Tensor, int] | str]):
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


def _collate(items: list[tuple[Tensor, int] | str]) -> tuple[Tensor, Tensor, list[str]]:
    """Images, labels, and the paths of the damaged ones: an exception would arrive as text."""
    whole = [item for item in items if not isinstance(item, str)]
    damaged = [item for item in items if isinstance(item, str)]
    images, labels = torch_data.default_collate(whole) if whole else (torch.empty(0),) * 2
    return images, labels.long(), damaged


def _decoded(loader: torch_data.DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
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


def _leave_signals_to_the_parent(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's way to end a worker


NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
"""Formats that Pillow knows by their endings and decodes not at all, or by other programs."""


def _is_image(path: str) -> bool:
    """By its ending; what is in it shows when it is opened. Hidden files are none."""
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    hidden = Path(path).name.startswith(".")
    return kind in Image.OPEN and kind not in NO_PICTURES and not hidden


class _Folder(ImageFolder):  # type: ignore[misc]
    """Without hidden folders, such as .ipynb_checkpoints."""

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """Names in order, and the label of each."""
        names = [name for name in super().find_classes(directory)[0] if not name.startswith(".")]
        if not names:
            raise FileNotFoundError(f"Couldn't find any class folder in {directory}.")
        return names, {name: label for label, name in enumerate(names)}


def _scan(request: Request, part: str, image_size: int) -> tuple[FolderImages, list[str]]:
    folder: Path = request.data_dir / part
    if not folder.is_dir():
        raise UserError(
            f"image folder {request.data_dir}: no {part}/; wanted {folder}/CLASS/*.jpg, "
            "or name another folder with --data-dir"
        )
    try:
        found = _Folder(str(folder), is_valid_file=_is_image)
    except FileNotFoundError as error:
        raise UserError(
            f"image folder {folder}: {str(error).splitlines()[0]} Wanted {folder}/CLASS/*.jpg, "
            "or any other ending that Pillow knows"
        ) from None
    paths = [path for path, _ in found.samples]
    images = FolderImages(
        paths,
        torch.tensor(found.targets),
        image_size,
        request.augment,
        request.device,
        request.workers,
        request.damaged,
    )
    return images, found.classes
