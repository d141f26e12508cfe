"""Image folders: which files count, how they are decoded, and what is said of damaged ones."""

from __future__ import annotations

import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from pcdarts_fast.cli import main
from pcdarts_fast.data import Augment, Shard, derive_seed, load, split
from pcdarts_fast.errors import UserError
from pcdarts_fast.run.config import SearchConfig
from pcdarts_fast.run.presets import search_config
from pcdarts_fast.search import Notice, Stopped, search
from pcdarts_fast.testing.outcome import outcome
from pcdarts_fast.testing.tiny_search import start, wait_for_epochs


def test_batches_do_not_depend_on_workers_or_batch_size(photos):
    augment = Augment(flip=True, color_jitter=True)
    passes = []
    for workers, batch_size in ((0, 8), (2, 8), (0, 5)):
        data = load("imagefolder", photos, image_size=16, workers=workers, augment=augment)
        batches = list(data.train.shuffled(batch_size, seed=derive_seed(0, "weights", 1)))
        passes.append([torch.cat(part) for part in zip(*batches, strict=True)])
    (images, labels), *others = passes
    assert images.shape == (40, 3, 16, 16) and images.dtype == torch.float32
    assert sorted(labels.tolist()) == [0] * 20 + [1] * 20
    for other_images, other_labels in others:
        assert torch.equal(images, other_images) and torch.equal(labels, other_labels)
    assert len(images.flatten(1).unique(dim=0)) == 40


def test_has_the_papers_subsets_by_index(photos):
    data = load("imagenet", photos, image_size=16)
    assert len(data.test.labels) == 6 and data.train.augment == Augment(flip=True)
    weights, architecture = split(data.train, (0.10, 0.05), seed=1)
    assert len(weights.paths) == 4 and len(architecture.paths) == 2
    assert not set(weights.paths) & set(architecture.paths)
    assert data.classes == ("blue", "red")
    assert all(
        f"/{data.classes[label]}/" in path
        for path, label in zip(weights.paths, weights.labels.tolist(), strict=True)
    )


def test_evaluates_the_middle_of_the_image(photos):
    data = load("imagefolder", photos, image_size=16)
    images, labels = next(data.test.ordered(6))
    red = images[labels == data.classes.index("red")]
    wanted = (torch.tensor([200 / 255, 0, 0]) - torch.tensor(data.test.mean)) / torch.tensor(
        data.test.std
    )
    torch.testing.assert_close(red[0], wanted[:, None, None].expand(3, 16, 16))


def test_without_val_holds_out_a_tenth(photos):
    for path in sorted((photos / "val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (photos / "val").rmdir()
    data = load("imagefolder", photos, image_size=16)
    assert (len(data.train.labels), len(data.test.labels)) == (36, 4)
    assert data.classes == ("blue", "red")
    assert not set(data.train.paths) & set(data.test.paths)


@pytest.mark.parametrize("workers", [0, 1])
def test_names_a_damaged_image(photos, workers):
    (photos / "train" / "red" / "7.png").write_bytes(b"no image")
    data = load("imagefolder", photos, image_size=16, workers=workers)
    with pytest.raises(UserError, match=r"^image \S*/train/red/7.png is damaged; get it again"):
        list(data.train.shuffled(8, seed=0))


@pytest.mark.filterwarnings("error")
def test_pillow_does_not_warn_of_images_that_are_whole(photos, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    Image.new("RGB", (200, 150)).save(photos / "train" / "red" / "7.png")
    transparent = Image.new("P", (40, 40))
    transparent.info["transparency"] = bytes(range(256))
    transparent.save(photos / "train" / "red" / "8.png")
    data = load("imagefolder", photos, image_size=16)
    assert sum(len(labels) for _, labels in data.train.shuffled(8, seed=0)) == 40


def test_an_image_of_too_many_pixels_is_not_called_damaged(photos, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    Image.new("RGB", (200, 150)).save(photos / "train" / "red" / "7.png")
    data = load("imagefolder", photos, image_size=16)
    with pytest.raises(UserError, match=r"7.png cannot be read: it has more pixels than Pillow"):
        list(data.train.shuffled(8, seed=0))


@pytest.mark.parametrize("workers", [0, 1])
def test_leaves_damaged_images_out_and_names_each_once(photos, workers):
    whole = (photos / "train" / "blue" / "3.png").read_bytes()
    broken = {
        "train/red/7.png": b"no image",
        "train/blue/3.png": whole[: len(whole) // 2],
        "val/red/0.png": b"",
    }
    for name, content in broken.items():
        (photos / name).write_bytes(content)
    damaged: list[str] = []
    data = load("imagefolder", photos, image_size=16, workers=workers, damaged=damaged)
    for _ in range(2):
        sizes = [len(labels) for _, labels in data.train.shuffled(8, seed=0)]
        assert sizes == [8] * 5  # others take their place
    assert len(list(data.test.ordered(1))) == 5  # a test counts whole images only
    assert sorted(damaged) == sorted(str(photos / name) for name in broken)


def test_of_damaged_images_only_is_one_sentence(photos):
    for path in photos.rglob("*.png"):
        path.write_bytes(b"")
    data = load("imagefolder", photos, image_size=16, damaged=[])
    with pytest.raises(UserError, match="every image of a batch is damaged"):
        list(data.train.shuffled(8, seed=0))


@pytest.mark.parametrize("cutout", [0, 8])
def test_is_dealt_out_and_goes_on_in_the_middle(photos, cutout):
    augment = Augment(flip=True, cutout=cutout)
    images = load("imagefolder", photos, image_size=16, augment=augment).train
    whole = [x for x, _ in images.shuffled(8, seed=5)]
    assert {bool((x == 0).all(1).any()) for x in whole} == {cutout > 0}
    shares = [[x for x, _ in images.shuffled(8, seed=5, shard=Shard(n, 2))] for n in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(batch[0::2], first) and torch.equal(batch[1::2], second)
    assert torch.equal(next(images.shuffled(8, seed=5, start=3))[0], whole[3])


def test_mirrors_and_changes_colours_only_where_it_is_told_to(photos):
    """On images that are bright on the left, and keep their colours when they are cropped."""
    half = Image.new("RGB", (40, 40))
    half.paste((200, 0, 0), (0, 0, 20, 40))
    for path in (photos / "train").rglob("*.png"):
        half.save(path)
    seen = {}
    for name, augment in {
        "plain": Augment(),
        "flip": Augment(flip=True),
        "jitter": Augment(color_jitter=True),
    }.items():
        data = load("imagefolder", photos, image_size=16, augment=augment)
        ((images, _),) = data.train.shuffled(40, seed=0)
        mirrored = images[:, 0, :, 0].mean(1) < images[:, 0, :, -1].mean(1)
        seen[name] = (bool(mirrored.any()), images[:, 1].std() > 1e-6)
    assert seen == {"plain": (False, False), "flip": (True, False), "jitter": (False, True)}


def test_prepares_as_the_documents_say(photos):
    """The snippet of docs/export.md gives what a network is tested with."""
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    *_, snippet = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(snippet, names)
    gradient = torch.arange(3 * 90 * 130, dtype=torch.float32).view(3, 90, 130) % 251
    picture = v2.functional.to_pil_image(gradient.byte())
    path = photos / "val" / "blue" / "0.png"
    picture.save(path)
    data = load("imagefolder", photos, image_size=64)
    index = data.test.paths.index(str(path))
    images, _ = next(data.test.subset(torch.tensor([index])).ordered(1))
    torch.testing.assert_close(names["prepare"](picture)[None], images)


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_takes_grey_images_of_16_bits(photos, ending):
    for path in (photos / "val" / "red").iterdir():
        path.unlink()
    grey = np.full((40, 40), 0x4000, dtype=np.uint16)
    Image.fromarray(grey).save(photos / "val" / "red" / f"0.{ending}")
    data = load("imagefolder", photos, image_size=16)
    images, labels = next(data.test.ordered(6))
    (image,) = images[labels == data.classes.index("red")]
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.test.mean, data.test.std))
    torch.testing.assert_close(image * std + mean, torch.full((3, 16, 16), 64 / 255))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_images_of_32_bits_are_refused_by_what_they_are(photos, dtype):
    """As RGB they would be all white, or all black."""
    Image.fromarray(np.full((40, 40), 70_000, dtype)).save(photos / "val" / "red" / "0.tiff")
    data = load("imagefolder", photos, image_size=16, damaged=[])
    with pytest.raises(UserError, match=r"0\.tiff cannot be read: its pixels have 32 bits"):
        list(data.test.ordered(8))


def test_without_val_needs_some_images_of_every_class(photos):
    shutil.rmtree(photos / "val")
    for path in sorted((photos / "train" / "red").iterdir())[1:]:
        path.unlink()
    with pytest.raises(UserError, match=r"class red has too few images \(1\) .* into \S*val/CLASS"):
        load("imagefolder", photos, image_size=16)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_cannot_be_read_is_not_called_damaged(photos, workers):
    data = load("imagefolder", photos, image_size=16, workers=workers, damaged=[])
    (photos / "train" / "red" / "7.png").unlink()
    with pytest.raises(UserError, match=r"train/red/7.png cannot be read: No such file"):
        list(data.train.shuffled(8, seed=0))


def tiny(photos: Path, **changes) -> SearchConfig:
    settings = {"data_dir": photos, "image_size": 32, "train_fraction": 0.5, "valid_fraction": 0.5}
    settings |= {"init_channels": 4, "k": 2, "layers": 3, "nodes": 1, "batch_size": 4}
    settings |= {"epochs": 2, "frozen_epochs": 0, "workers": 0, "device": "cpu"}
    return replace(search_config("imagefolder"), **(settings | changes))


def test_an_epoch_survives_a_damaged_image_of_its_validation(photos, tmp_path):
    config = tiny(photos, epochs=1, frozen_epochs=1)  # so that training does not read the image
    whole, run = tmp_path / "whole", tmp_path / "run"
    list(search(config, whole))
    broken = split(load("imagefolder", photos).train, (0.5, 0.5), seed=config.seed)[1].paths[0]
    content = Path(broken).read_bytes()

    def break_it() -> bool:  # after the last step
        Path(broken).write_bytes(b"")
        return False

    with pytest.raises(UserError, match="is damaged"):
        list(search(config, run, stop=break_it))
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (0, 5)
    Path(broken).write_bytes(content)
    list(search(config, run, resume=True))
    assert outcome(run) == outcome(whole)


def test_a_run_goes_on_with_its_own_images_only(photos, tmp_path):
    config, run = tiny(photos), tmp_path / "run"
    asked = iter([False, True])
    list(search(config, run, stop=lambda: next(asked)))
    moved = photos.rename(photos.with_name("moved"))
    added = moved / "train" / "red" / "new.png"
    Image.new("RGB", (40, 40)).save(added)
    with pytest.raises(UserError, match="added, removed or renamed"):
        list(search(replace(config, data_dir=moved), run, resume=True))
    added.unlink()
    list(search(replace(config, data_dir=moved), run, resume=True))


def test_a_damaged_image_is_named_before_a_run_stops(photos, tmp_path):
    """The steps that follow may not meet it again."""
    for path in (photos / "train").rglob("*[13579].png"):
        path.write_bytes(b"")
    config = replace(tiny(photos), damaged_images="skip")
    *_, notice, stopped = search(config, tmp_path / "run", stop=lambda: True)
    assert isinstance(stopped, Stopped) and stopped.step == 1
    assert isinstance(notice, Notice) and "is damaged and was left out" in notice.text


def test_no_whole_image_to_validate_with_is_one_sentence(photos, tmp_path, capsys):
    for path in (photos / "val").rglob("*.png"):
        path.write_bytes(b"")
    options = "--preset imagefolder --image-size 32 --init-channels 4 --layers 3 --epochs 1"
    options += " --batch-size 20 --workers 0 --device cpu --damaged-images skip"
    where = ("--data-dir", str(photos), "--output-dir", str(tmp_path / "run"))
    command = ["train", "--genotype", "DARTS_V1", *options.split(), *where]
    assert main(command) == 2
    assert "none of the images to validate or test with is whole" in capsys.readouterr().err
    assert (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.mark.usefixtures("hang_ups")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_does_not_end_a_worker_that_is_just_starting(photos, monkeypatch, number):
    set_num_threads = torch.set_num_threads

    def in_a_worker(count: int) -> None:  # which calls it before anything of ours
        os.kill(os.getpid(), number)
        set_num_threads(count)

    data = load("imagefolder", photos, image_size=16, workers=1)
    monkeypatch.setattr(torch, "set_num_threads", in_a_worker)
    assert sum(len(labels) for _, labels in data.train.ordered(8)) == 40


@pytest.mark.usefixtures("hang_ups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_of_a_run_writes_a_checkpoint(photos, tmp_path, number):
    """As schedulers send it, and shells whose terminal is closed: to the workers too."""
    options = "--preset imagefolder --image-size 32 --train-fraction 0.5 --valid-fraction 0.5"
    options += " --init-channels 4 --k 2 --layers 3 --nodes 1 --batch-size 4 --epochs 50"
    options += " --workers 2 --device cpu"
    run = tmp_path / "run"
    where = ("--data-dir", str(photos), "--output-dir", str(run))
    command = ["-m", "pcdarts_fast", "search", *options.split(), *where]
    process = start(command, start_new_session=True)
    wait_for_epochs(run, 1, process)
    os.killpg(process.pid, number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + number, error
    assert "checkpoint written" in error and (run / "checkpoint.pt").exists()
