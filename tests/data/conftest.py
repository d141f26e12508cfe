from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 20 images, each of one colour, red or blue, of various sizes; val/ of 3."""
    for part, count in (("train", 20), ("val", 3)):
        for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for n in range(count):
                image = Image.new("RGB", (40 + n, 50), tuple(max(0, c - n) for c in colour))
                image.save(folder / f"{n}.png")
    return tmp_path / "photos"
