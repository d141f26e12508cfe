"""A set of labelled images: what a loop takes batches from, and how it is split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Generator, Tensor

from ..errors import UserError
from .augment import Augment, augment_batch, blank, normalize, random_squares

Batch = tuple[Tensor, Tensor]
"""Images [B, C, H, W] float32, normalised; labels [B] int64; both on the set's device."""


@dataclass(frozen=True)
class Shard:
    """The images that one of several processes takes of every batch: each `count`-th."""

    index: int = 0
    count: int = 1

    @property
    def rows(self) -> slice:
        """Of a whole batch."""
        return slice(self.index, None, self.count)


WHOLE = Shard()


class ImageSet(Protocol):
    """Images that are the same on every pass and come in an order that a seed decides."""

    @property
    def labels(self) -> Tensor:
        """[N] int64, on the CPU."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Per channel, of images in [0, 1]; it is taken off."""

    @property
    def std(self) -> tuple[float, ...]:
        """Per channel, of images in [0, 1]; they are divided by it."""

    def digest(self) -> str:
        """Which images these are: another one where some are added, removed or renamed."""

    def subset(self, indices: Tensor) -> ImageSet:
        """The images of `indices` [M] int64, in that order; nothing on the disk is copied."""

    def shuffled(
        self, batch_size: int, *, seed: int, start: int = 0, shard: Shard = WHOLE
    ) -> Iterator[Batch]:
        """One pass in random order, augmented: both are a function of `seed` alone.

        It begins at batch number `start`. With a shard, batches of `batch_size` images are dealt
        out to `shard.count` processes. The last batch is smaller; a single image left over for a
        process is left out, since batch normalisation has no variance of one. `steps` tells how
        many batches there are.
        """

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """One pass in order, every image, not augmented."""


@dataclass(frozen=True)
class MemoryImages:
    """Images held as one tensor, augmented a batch at a time where they lie."""

    images: Tensor
    """[N, C, H, W] uint8, or float32 in [0, 1]; on the device where batches are wanted."""
    labels: Tensor
    """[N] int64, on the CPU."""
    mean: tuple[float, ...]
    """Per channel, of images in [0, 1]."""
    std: tuple[float, ...]
    """Per channel, of images in [0, 1]."""
    augment: Augment

    def digest(self) -> str:
        """See `ImageSet`."""
        found = hashlib.sha256(self.labels.numpy().tobytes())
        found.update(self.images.cpu().numpy().tobytes())
        return found.hexdigest()

    def subset(self, indices: Tensor) -> MemoryImages:
        """See `ImageSet`."""
        on_device = indices.to(self.images.device)
        return replace(self, images=self.images[on_device], labels=self.labels[indices])

    def shuffled(
        self, batch_size: int, *, seed: int, start: int = 0, shard: Shard = WHOLE
    ) -> Iterator[Batch]:
        """See `ImageSet`."""
        plan = shuffled_indices(len(self.labels), batch_size, seed, shard.count)
        for number in range(start, len(plan)):
            # Seeded a batch, so that a pass can begin in the middle; drawn for the whole batch, so
            # that its shards together are what one process would see.
            generator = Generator().manual_seed(derive_seed(seed, number))
            images, labels = self._take(plan[number])
            images = augment_batch(images, self.augment, generator)
            images = normalize(images, self.mean, self.std)
            if self.augment.cutout:
                size, side = images.shape[-1], self.augment.cutout
                images = blank(images, random_squares(len(images), size, side, generator))
            yield images[shard.rows], labels[shard.rows]

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """See `ImageSet`."""
        for indices in torch.split(torch.arange(len(self.labels)), batch_size):
            images, labels = self._take(indices)
            yield normalize(images, self.mean, self.std), labels

    def _take(self, indices: Tensor) -> Batch:
        device = self.images.device
        return self.images[indices.to(device)], self.labels[indices].to(device)


def share(images: ImageSet, shard: Shard) -> ImageSet:
    """The images that one process takes of an `ordered` pass over all of them."""
    return images if shard == WHOLE else images.subset(torch.arange(len(images.labels))[shard.rows])


def steps(image_count: int, batch_size: int, shards: int = 1) -> int:
    """How many batches one `shuffled` pass over `image_count` images has."""
    return image_count // batch_size + (image_count % batch_size // shards > 1)


def shuffled_indices(image_count: int, batch_size: int, seed: int, shards: int = 1) -> list[Tensor]:
    """The images of every batch of a `shuffled` pass: `steps` tensors [<= batch_size] int64.

    Each can be dealt out to `shards` processes evenly; `shards` divides `batch_size`.
    """
    order = torch.randperm(image_count, generator=Generator().manual_seed(seed))
    batches = torch.split(order, batch_size)[: steps(image_count, batch_size, shards)]
    return [batch[: len(batch) - len(batch) % shards] for batch in batches]


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed of its own for every purpose, such as ("weights", epoch); the same everywhere."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def split(
    images: ImageSet,
    fractions: Sequence[float],
    *,
    seed: int,
    classes: Sequence[str] = (),
    advice: str = "take larger fractions or leave the class out",
) -> list[ImageSet]:
    """Disjoint random parts, each holding its fraction of every class (paper section 4.3).

    `classes`, the names of the labels, and `advice` are for the error.

    Raises:
        UserError: a class is too small to give every part an image.
    """
    generator = Generator().manual_seed(derive_seed(seed, "split"))
    parts: list[list[Tensor]] = [[] for _ in fractions]
    by_class = torch.split(images.labels.argsort(stable=True), images.labels.bincount().tolist())
    for label, members in enumerate(by_class):
        members = members[torch.randperm(len(members), generator=generator)]
        ends = [round(sum(fractions[: n + 1]) * len(members)) for n in range(len(fractions))]
        for part, start, end in zip(parts, [0, *ends], ends, strict=False):
            if start == end:
                name = classes[label] if classes else label
                raise UserError(
                    f"class {name} has too few images ({len(members)}) for parts of "
                    f"{' and '.join(f'{fraction:.3g}' for fraction in fractions)}; "
                    f"{advice}"
                )
            part.append(members[start:end])
    return [images.subset(torch.cat(part).sort().values) for part in parts]
