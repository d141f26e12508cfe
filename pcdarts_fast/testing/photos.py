"""Image files to load, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def write_photos(
    folder: Path, classes: int, images: int, *, size: tuple[int, int] = (500, 375), seed: int = 0
) -> None:
    """Writes JPEG files folder/CLASS/NUMBER.jpg, `images` of each class.

    Width and height are around `size`. Soft colours, shapes and grain make them as long as
    photographs of that size (about 100 KB at 500 x 375) and as slow to decode.
    """
    rng = np.random.default_rng(seed)
    for label in range(classes):
        (folder / f"class{label:04}").mkdir(parents=True)
        for number in range(images):
            width, height = (int(side * rng.uniform(0.8, 1.2)) for side in size)
            coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            draw = ImageDraw.Draw(image)
            for _ in range(12):
                x, y, a, b = rng.integers(0, (width, height, width // 3, height // 3))
                fill = tuple(int(value) for value in rng.integers(0, 256, 3))
                draw.ellipse((x, y, x + a, y + b), fill=fill)
            grain = rng.normal(0, 14, (height, width, 1))
            pixels = (np.asarray(image) + grain).clip(0, 255).astype(np.uint8)
            path = folder / f"class{label:04}" / f"{number}.jpg"
            Image.fromarray(pixels).save(path, quality=90)
