"""Augmentation against its definition, image by image."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from pcdarts_fast.data import Augment
from pcdarts_fast.data.augment import augment_batch, blank, normalize, random_squares


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_crop_takes_every_window_of_the_padded_image_and_no_other():
    image = torch.arange(1, 13, dtype=torch.uint8).view(1, 3, 4)
    windows = augment_batch(image.expand(400, 1, 3, 4), Augment(crop_padding=1), generator())
    padded = F.pad(image, [1] * 4)
    wanted = {padded[:, y : y + 3, x : x + 4].numpy().tobytes() for y in range(3) for x in range(3)}
    assert {window.numpy().tobytes() for window in windows} == wanted


def test_flip_mirrors_about_half_of_the_images():
    image = torch.arange(6.0).view(1, 2, 3)
    flipped = augment_batch(image.expand(400, 1, 2, 3), Augment(flip=True), generator())
    mirrored = (flipped == image.flip(-1)).flatten(1).all(1)
    assert torch.equal(~mirrored, (flipped == image).flatten(1).all(1))
    assert 150 < mirrored.sum() < 250


def test_cutout_blanks_one_square_clipped_at_the_border():
    blanked = blank(torch.ones(300, 2, 8, 8), random_squares(300, 8, 4, generator())) == 0
    assert torch.equal(blanked[:, 0], blanked[:, 1])
    rows, columns = blanked[:, 0].any(2).sum(1), blanked[:, 0].any(1).sum(1)
    assert torch.equal(rows * columns, blanked[:, 0].sum((1, 2)))
    # A square of 4 around any of 8 pixels: at least its half on the image is blank.
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4}


def test_normalize_scales_bytes_and_keeps_floats():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    mean, std = (0.0, 0.1, 0.5), (1.0, 0.5, 0.25)
    wanted = torch.tensor([0.0, 0.2, 2.0])
    torch.testing.assert_close(normalize(pixels, mean, std).flatten(), wanted)
    torch.testing.assert_close(normalize(pixels / 255, mean, std).flatten(), wanted)
