"""Augmentation of whole batches, drawn from a generator, so that a seed gives the same images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augment:
    """What happens to a training image. Images of a folder are cropped to random sizes as well."""

    crop_padding: int = 0
    """Zero pixels around an image of which a random window is cut (data sets in memory)."""
    flip: bool = False
    """Mirror half of the images."""
    color_jitter: bool = False
    """Change brightness, contrast, saturation and hue (image folders)."""
    cutout: int = 0
    """Side of the square that is blanked, in pixels (arXiv 1708.04552)."""


def augment_batch(images: Tensor, augment: Augment, generator: Generator) -> Tensor:
    """Random window and mirror of `images` [B, C, H, W], any dtype; a tensor of the same shape."""
    if augment.crop_padding:
        images = _random_window(images, augment.crop_padding, generator)
    if augment.flip:
        mirror = torch.rand(len(images), generator=generator).to(images.device) < 0.5
        images = torch.where(mirror[:, None, None, None], images.flip(-1), images)
    return images


def random_squares(count: int, size: int, side: int, generator: Generator) -> Tensor:
    """Cutout: in every image of `size` pixels a side, the square of `side` pixels around a random
    pixel, clipped at the border. [count, size, size] bool.
    """
    rows = _in_random_span(count, size, side, generator)  # [B, H]
    columns = _in_random_span(count, size, side, generator)  # [B, W]
    return rows[:, :, None] & columns[:, None, :]


def blank(images: Tensor, squares: Tensor) -> Tensor:
    """Images [B, C, H, W], zero where the squares [B, H, W] are."""
    return images.masked_fill(squares.to(images.device)[:, None], 0)


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Float32 `images` [B, C, H, W] of zero mean and unit deviation; uint8 is scaled to [0, 1]."""
    if images.dtype == torch.uint8:
        images = images.float().div_(255)
    scale = torch.tensor([mean, std], device=images.device)[:, :, None, None]  # [2, C, 1, 1]
    return (images - scale[0]) / scale[1]


def _random_window(images: Tensor, padding: int, generator: Generator) -> Tensor:
    count, _, height, width = images.shape
    windows = F.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
    offsets = torch.randint(2 * padding + 1, (2, count), generator=generator).to(images.device)
    return windows[torch.arange(count, device=images.device), :, offsets[0], offsets[1]]


def _in_random_span(count: int, length: int, side: int, generator: Generator) -> Tensor:
    first = torch.randint(length, (count, 1), generator=generator) - side // 2
    position = torch.arange(length)
    return (position >= first) & (position < first + side)
