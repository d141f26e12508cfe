"""Which files of a folder are images, and of which class."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torchvision.datasets import ImageFolder

from ..errors import UserError

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


def find_images(data_dir: Path, part: str) -> tuple[list[str], list[int], list[str]]:
    """Paths and labels of the images of a part, `train` or `val`, and the names of the classes.

    Raises:
        UserError: there is no such folder, a class without images, or one class alone.
    """
    folder = data_dir / part
    if not folder.is_dir():
        raise UserError(
            f"image folder {data_dir}: no {part}/; wanted {folder}/CLASS/*.jpg, "
            "or name another folder with --data-dir"
        )
    try:
        found = _Folder(str(folder), is_valid_file=_is_image)
    except FileNotFoundError as error:
        raise UserError(
            f"image folder {folder}: {str(error).splitlines()[0]} Wanted {folder}/CLASS/*.jpg, "
            "or any other ending that Pillow knows"
        ) from None
    if part == "train" and len(found.classes) == 1:
        raise UserError(
            f"image folder {folder}: one class alone, {found.classes[0]}; "
            f"wanted a folder for each of several classes, {folder}/CLASS/*.jpg"
        )
    return [path for path, _ in found.samples], found.targets, found.classes
