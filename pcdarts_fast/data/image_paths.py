"""Which files of a folder are images, and of which class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from PIL import Image

from ..errors import UserError

NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
"""Formats that Pillow knows by their endings and decodes not at all, or by other programs."""


def find_images(data_dir: Path, part: str) -> tuple[list[str], list[int], list[str]]:
    """Paths and labels of the images of a part, `train` or `val`, and the names of the classes.

    The classes are the folders in it, sorted; their images may lie in folders of their own. What
    begins with a dot is left out, such as .ipynb_checkpoints.

    Raises:
        UserError: there is no such folder, a class without images, one class alone, a folder that
            cannot be read, or one that links lead to twice.
    """
    folder = data_dir / part
    if not folder.is_dir():
        raise UserError(
            f"image folder {data_dir}: no {part}/; wanted {folder}/CLASS/*.jpg, "
            "or name another folder with --data-dir"
        )
    classes = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."
    )
    if not classes:
        raise UserError(
            f"image folder {folder}: no folder in it; "
            f"wanted a folder for each of several classes, {folder}/CLASS/*.jpg"
        )
    if part == "train" and len(classes) == 1:
        raise UserError(
            f"image folder {folder}: one class alone, {classes[0]}; "
            f"wanted a folder for each of several classes, {folder}/CLASS/*.jpg"
        )
    walked = {os.path.realpath(folder)}
    found = [_images_below(folder / name, walked) for name in classes]
    empty = [name for name, paths in zip(classes, found, strict=True) if not paths]
    if empty:
        raise UserError(
            f"image folder {folder}: no image of {', '.join(empty)}; wanted {folder}/CLASS/*.jpg, "
            "or any other ending that Pillow knows; add some, or leave the class out"
        )
    labels = [label for label, paths in enumerate(found) for _ in paths]
    return [path for paths in found for path in paths], labels, classes


def _images_below(folder: Path, walked: set[str]) -> list[str]:
    """Folder by folder, in order; `walked` are those taken already, and becomes these too."""
    found = []
    for root, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(root)
        if real in walked:
            raise UserError(
                f"image folder {root} is a link to {real}, whose images have a class already; "
                "take the link away"
            )
        walked.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.append((root, sorted(names)))
    return [
        os.path.join(root, name)
        for root, names in sorted(found)
        for name in names
        if _is_image(name)
    ]


def _refuse(error: OSError) -> NoReturn:
    raise UserError(f"image folder {error.filename} cannot be read: {error.strerror}")


def _is_image(name: str) -> bool:
    """By its ending; what is in it shows when it is opened."""
    kind = Image.registered_extensions().get(os.path.splitext(name)[1].lower())
    return kind in Image.OPEN and kind not in NO_PICTURES and not name.startswith(".")
