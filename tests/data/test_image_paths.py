"""Which files of an image folder are images, and of which class."""

from __future__ import annotations

import errno
import os
import re
import shutil

import pytest
from PIL import Image

from pcdarts_fast.data import load
from pcdarts_fast.errors import UserError


def test_takes_every_ending_that_pillow_opens(photos):
    for name in ("20.gif", "21.BMP"):
        Image.new("RGB", (40, 40)).save(photos / "train" / "red" / name)
    (photos / "train" / "red" / "notes.txt").write_text("no image")
    data = load("imagefolder", photos, image_size=16)
    assert len(data.train.labels) == 42
    assert sum(len(labels) for _, labels in data.train.shuffled(8, seed=0)) == 42


def test_a_folder_that_is_none(tmp_path, photos):
    with pytest.raises(UserError, match=r"no train/; wanted .*/train/CLASS/\*\.jpg"):
        load("imagefolder", tmp_path / "nothing")
    (photos / "val" / "green").mkdir()
    with pytest.raises(UserError, match=r"val: no image of green; wanted .*/CLASS/\*\.jpg, or any"):
        load("imagefolder", photos)
    Image.new("RGB", (40, 40)).save(photos / "val" / "green" / "0.png")
    with pytest.raises(UserError, match=r"train/ has no green; both need every class"):
        load("imagefolder", photos)
    with pytest.raises(UserError, match=r"train: no folder in it; wanted a folder for each"):
        (tmp_path / "flat" / "train").mkdir(parents=True)
        load("imagefolder", tmp_path / "flat")
    one_level_too_deep = tmp_path / "deep"
    shutil.copytree(photos / "train", one_level_too_deep / "train" / "all")
    with pytest.raises(UserError, match=r"one class alone, all; wanted a folder for each of"):
        load("imagefolder", one_level_too_deep)


def test_leaves_out_what_is_hidden_and_what_only_sounds_like_an_image(photos):
    (photos / "train" / ".ipynb_checkpoints").mkdir()
    hidden = photos / "train" / "red" / ".thumbnails"
    shutil.copytree(photos / "train" / "blue", hidden)
    for name in ("._0.png", "features.h5", "film.mpg"):
        (photos / "train" / "red" / name).write_bytes(b"no image")
    data = load("imagefolder", photos, image_size=16)
    assert data.classes == ("blue", "red") and len(data.train.labels) == 40


def test_images_may_lie_in_folders_of_their_class_and_behind_links(photos):
    plain = load("imagefolder", photos, image_size=16)
    red = photos / "train" / "red"
    (red / "more").mkdir()
    (red / "7.png").rename(red / "more" / "7.png")
    (red / "more").rename(photos / "elsewhere")
    (red / "more").symlink_to(photos / "elsewhere")
    data = load("imagefolder", photos, image_size=16)
    assert data.train.labels.tolist() == plain.train.labels.tolist()
    assert data.train.paths[-1] == str(red / "more" / "7.png")


@pytest.mark.parametrize("target", ["red", "blue", ".", ".."])
def test_a_link_to_images_that_have_a_class_is_refused(photos, target):
    """Upwards it would give this class the images of all others, 40 times."""
    link = photos / "train" / "red" / "link"
    link.symlink_to(photos / "train" / target, target_is_directory=True)
    where = re.escape(str(link))
    with pytest.raises(
        UserError, match=rf"^image folder {where}\S* is a link to .*a class already"
    ):
        load("imagefolder", photos)


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(photos, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("train/red"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="train/red cannot be read: Permission denied"):
        load("imagefolder", photos)
