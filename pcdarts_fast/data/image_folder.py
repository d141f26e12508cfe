"""Any folder of images, train/CLASS/*.jpg and val/CLASS/*.jpg: ImageNet or the user's own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils import data as torch_data
from torchvision.transforms import v2

from ..errors import UserError
from .augment import Augment, blank, normalize, random_squares
from .dataset import Dataset, Request
from .decoding import Decoder, Unread, collate, decoded, leave_signals_to_the_parent
from .image_paths import find_images
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
            lacks = {
                "train": sorted(set(test_classes) - set(classes)),
                "val": sorted(set(classes) - set(test_classes)),
            }
            said = [f"{part}/ has no {', '.join(some)}" for part, some in lacks.items() if some]
            raise UserError(
                f"image folder {request.data_dir}: {' and '.join(said)}; both need every class"
            )
        return Dataset(len(classes), 3, size, train, test, tuple(classes))
    rest, test_part = split(
        train,
        (1 - TEST_FRACTION, TEST_FRACTION),
        seed=0,
        classes=classes,
        advice="the second one is the test; add more, leave the class out, or put test images of "
        f"every class into {request.data_dir / 'val'}/CLASS",
    )
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

    def digest(self) -> str:
        """See `ImageSet`; of the names of the files, wherever their folder lies."""
        common = os.path.commonpath(self.paths)
        names = [os.path.relpath(path, common) for path in self.paths]
        return hashlib.sha256(repr((names, self.labels.tolist())).encode()).hexdigest()

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
                generator = Generator().manual_seed(derive_seed(seed, "cutout", number))
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
            Decoder(self.paths, self.labels, transform, seed),
            batch_sampler=[indices.tolist() for indices in plan],
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=on_gpu,
            generator=Generator().manual_seed(seed),
            worker_init_fn=leave_signals_to_the_parent,
        )
        for images, labels, unread in decoded(loader):
            self._note(unread)
            if len(labels):
                images = normalize(images.to(self.device, non_blocking=on_gpu), self.mean, self.std)
            yield images, labels.to(self.device, non_blocking=on_gpu)

    def _note(self, unread: Sequence[Unread]) -> None:
        for image in unread:
            if image.reason is not None:
                raise UserError(f"image {image.path} cannot be read: {image.reason}")
            if self.damaged is None:
                raise UserError(
                    f"image {image.path} is damaged; get it again, or leave out all such images "
                    "with --damaged-images skip (to go on with this run: --resume, and its folder "
                    "as --output-dir)"
                )
            if image.path not in self.damaged:
                self.damaged.append(image.path)


def _scan(request: Request, part: str, image_size: int) -> tuple[FolderImages, list[str]]:
    paths, labels, classes = find_images(request.data_dir, part)
    images = FolderImages(
        paths,
        torch.tensor(labels),
        image_size,
        request.augment,
        request.device,
        request.workers,
        request.damaged,
    )
    return images, classes
