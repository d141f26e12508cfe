"""Every reader on real files of its layout, and on those that are missing or damaged."""

from __future__ import annotations

import gzip
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2

from pcdarts_fast.data import (
    Augment,
    Shard,
    cifar,
    derive_seed,
    fashion_mnist,
    image_folder,
    load,
    split,
)
from pcdarts_fast.data.dataset import Request
from pcdarts_fast.errors import UserError
from pcdarts_fast.run.presets import search_config
from pcdarts_fast.train.presets import train_config


def request(folder, **changes) -> Request:
    defaults = {"device": "cpu", "image_size": None, "workers": 0, "augment": Augment()}
    return Request(folder, **(defaults | changes))


def test_digits_are_embedded_and_their_test_part_is_fixed():
    data = load("digits")
    assert (data.num_classes, data.in_channels, data.image_size) == (10, 1, 8)
    assert data.classes == tuple("0123456789")
    assert len(data.train.labels) + len(data.test.labels) == 1797
    assert min(data.test.labels.bincount()) >= 34
    images, labels = next(data.test.ordered(400))
    assert images.shape == (len(labels), 1, 8, 8)
    assert abs(float(images.mean())) < 0.05
    assert abs(float(images.std()) - 1) < 0.05
    assert torch.equal(images, next(load("digits").test.ordered(400))[0])


def test_unknown_data_set_and_a_size_that_the_images_do_not_have(tmp_path):
    with pytest.raises(UserError, match="unknown data set 'mnist'; wanted one of digits"):
        load("mnist", tmp_path)
    with pytest.raises(UserError, match="digits images are 8 pixels wide, not 7"):
        load("digits", image_size=7)


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim])
    return header + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def write_fashion_mnist(folder, count=6) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "t10k"):
        images = np.arange(count * 784, dtype=np.uint8).reshape(count, 28, 28)
        labels = np.arange(count, dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))


@pytest.mark.parametrize("place", [".", "FashionMNIST/raw"])
def test_fashion_mnist_reads_both_layouts_gzipped_or_not(tmp_path, place):
    write_fashion_mnist(tmp_path / place)
    data = fashion_mnist.read(request(tmp_path))
    assert (data.classes[0], data.classes[-1]) == ("T-shirt/top", "Ankle boot")
    train = data.train
    assert train.labels.tolist() == list(range(6))
    expected = torch.arange(6 * 784).remainder(256).view(6, 1, 28, 28)
    assert torch.equal(train.images, expected.byte())


def test_fashion_mnist_of_debian_where_no_folder_is_named(tmp_path, monkeypatch):
    write_fashion_mnist(tmp_path / "debian")
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.chdir(tmp_path)
    for usual in (search_config("fashion-mnist").data_dir, train_config("fashion-mnist").data_dir):
        assert len(fashion_mnist.read(request(usual)).train.labels) == 6
    with pytest.raises(UserError, match="is not in nodata nor in nodata/FashionMNIST/raw; put"):
        fashion_mnist.read(request(Path("nodata")))


def test_fashion_mnist_missing_says_which_file_and_where(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "nothing")
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\[.gz\] is not in .*--data-dir"):
        fashion_mnist.read(request(tmp_path))


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:40] + b"x" + b[41:]])
def test_fashion_mnist_damaged(tmp_path, damage):
    write_fashion_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz is damaged"):
        fashion_mnist.read(request(tmp_path))


@pytest.mark.parametrize("length", [0, 3, 7, 8, 13])
def test_fashion_mnist_cut_short(tmp_path, length):
    write_fashion_mnist(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte is no whole IDX file"):
        fashion_mnist.read(request(tmp_path))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((0, 28, 28), "holds no items"), ((6, 14, 56), "is no whole IDX file")],
)
def test_fashion_mnist_of_other_sizes(tmp_path, shape, wanted):
    write_fashion_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(shape, np.uint8))))
    with pytest.raises(UserError, match=f"train-images-idx3-ubyte.gz {wanted}"):
        fashion_mnist.read(request(tmp_path))


class UncheckedCIFAR10(CIFAR10):
    """Takes batches whose MD5 sum is not the published one."""

    train_list = (("data_batch_1", None),)
    test_list = (("test_batch", None),)
    meta = CIFAR10.meta | {"md5": None}


def write_cifar10(folder, count=20) -> np.ndarray:
    root = folder / CIFAR10.base_folder
    root.mkdir()
    data = np.arange(count * 3072).astype(np.uint8).reshape(count, 3072)
    for name in ("data_batch_1", "test_batch"):
        batch = {"data": data, "labels": [n % 10 for n in range(count)]}
        (root / name).write_bytes(pickle.dumps(batch))
    names = {"label_names": [f"kind {n}" for n in range(10)]}
    (root / "batches.meta").write_bytes(pickle.dumps(names))
    return data.reshape(count, 3, 32, 32)


@pytest.fixture
def unchecked_cifar10(monkeypatch):
    monkeypatch.setitem(cifar.MEAN_STD, UncheckedCIFAR10, cifar.MEAN_STD[CIFAR10])
    monkeypatch.setattr(cifar, "CIFAR10", UncheckedCIFAR10)


def test_cifar10_in_its_pickle_layout(tmp_path, unchecked_cifar10):
    pixels = write_cifar10(tmp_path)
    data = load("cifar10", tmp_path)
    assert (data.num_classes, data.in_channels, data.image_size) == (10, 3, 32)
    assert torch.equal(data.train.images, torch.from_numpy(pixels))
    assert data.test.labels.tolist() == [n % 10 for n in range(20)]
    assert data.classes == tuple(f"kind {n}" for n in range(10))
    images, labels = next(data.train.shuffled(20, seed=0))
    assert images.shape == (20, 3, 32, 32) and images.dtype == torch.float32
    assert sorted(labels.tolist()) == sorted(n % 10 for n in range(20))


def test_cifar10_with_other_contents_than_the_published(tmp_path):
    write_cifar10(tmp_path)
    with pytest.raises(UserError, match=r"CIFAR10: a file in .* is missing or damaged .*MD5"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_missing(tmp_path, name):
    with pytest.raises(UserError, match=r"no folder .*; unpack cifar-100?-python.tar.gz"):
        load(name, tmp_path)


@pytest.fixture
def photos(tmp_path):
    """Two classes of 20 images, each of one colour, red or blue, of various sizes; val/ of 3."""
    for part, count in (("train", 20), ("val", 3)):
        for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for n in range(count):
                image = Image.new("RGB", (40 + n, 50), tuple(max(0, c - n) for c in colour))
                image.save(folder / f"{n}.png")
    return tmp_path


def test_image_folder_batches_do_not_depend_on_workers_or_batch_size(photos):
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


def test_image_folder_has_the_papers_subsets_by_index(photos):
    data = load("imagenet", photos, image_size=16)
    assert len(data.test.labels) == 6
    weights, architecture = split(data.train, (0.10, 0.05), seed=1)
    assert len(weights.paths) == 4 and len(architecture.paths) == 2
    assert not set(weights.paths) & set(architecture.paths)
    assert data.classes == ("blue", "red")
    assert all(
        f"/{data.classes[label]}/" in path
        for path, label in zip(weights.paths, weights.labels.tolist(), strict=True)
    )


def test_image_folder_evaluates_the_middle_of_the_image(photos):
    data = load("imagefolder", photos, image_size=16)
    images, labels = next(data.test.ordered(6))
    red = images[labels == data.classes.index("red")]
    wanted = (torch.tensor([200 / 255, 0, 0]) - torch.tensor(data.test.mean)) / torch.tensor(
        data.test.std
    )
    torch.testing.assert_close(red[0], wanted[:, None, None].expand(3, 16, 16))


def test_image_folder_without_val_holds_out_a_tenth(photos):
    for path in sorted((photos / "val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (photos / "val").rmdir()
    data = load("imagefolder", photos, image_size=16)
    assert (len(data.train.labels), len(data.test.labels)) == (36, 4)
    assert data.classes == ("blue", "red")
    assert not set(data.train.paths) & set(data.test.paths)


@pytest.mark.parametrize("workers", [0, 1])
def test_image_folder_names_a_damaged_image(photos, workers):
    (photos / "train" / "red" / "7.png").write_bytes(b"no image")
    data = load("imagefolder", photos, image_size=16, workers=workers)
    with pytest.raises(UserError, match=r"^image \S*/train/red/7.png is damaged; get it again"):
        list(data.train.shuffled(8, seed=0))


def test_image_folder_takes_every_ending_that_pillow_opens(photos):
    for name in ("20.gif", "21.BMP"):
        Image.new("RGB", (40, 40)).save(photos / "train" / "red" / name)
    (photos / "train" / "red" / "notes.txt").write_text("no image")
    data = load("imagefolder", photos, image_size=16)
    assert len(data.train.labels) == 42
    assert sum(len(labels) for _, labels in data.train.shuffled(8, seed=0)) == 42


def test_image_folder_that_is_none(tmp_path, photos):
    with pytest.raises(UserError, match=r"no train/; wanted .*/train/CLASS/\*\.jpg"):
        image_folder.read(request(tmp_path / "nothing"))
    (photos / "val" / "green").mkdir()
    with pytest.raises(UserError, match="Found no valid file for the classes green"):
        image_folder.read(request(photos))
    Image.new("RGB", (40, 40)).save(photos / "val" / "green" / "0.png")
    with pytest.raises(UserError, match=r"train/ has no green; both need every class"):
        image_folder.read(request(photos))


@pytest.mark.parametrize("workers", [0, 1])
def test_image_folder_leaves_damaged_images_out_and_names_each_once(photos, workers):
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


def test_image_folder_of_damaged_images_only_is_one_sentence(photos):
    for path in photos.rglob("*.png"):
        path.write_bytes(b"")
    data = load("imagefolder", photos, image_size=16, damaged=[])
    with pytest.raises(UserError, match="every image of a batch is damaged"):
        list(data.train.shuffled(8, seed=0))


@pytest.mark.parametrize("cutout", [0, 8])
def test_image_folder_is_dealt_out_and_goes_on_in_the_middle(photos, cutout):
    augment = Augment(flip=True, cutout=cutout)
    images = load("imagefolder", photos, image_size=16, augment=augment).train
    whole = [x for x, _ in images.shuffled(8, seed=5)]
    shares = [[x for x, _ in images.shuffled(8, seed=5, shard=Shard(n, 2))] for n in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(batch[0::2], first) and torch.equal(batch[1::2], second)
    assert torch.equal(next(images.shuffled(8, seed=5, start=3))[0], whole[3])


def test_image_folder_prepares_as_the_documents_say(photos):
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


def test_image_folder_leaves_out_what_is_hidden_and_what_only_sounds_like_an_image(photos):
    (photos / "train" / ".ipynb_checkpoints").mkdir()
    for name in ("._0.png", "features.h5", "film.mpg"):
        (photos / "train" / "red" / name).write_bytes(b"no image")
    data = load("imagefolder", photos, image_size=16)
    assert data.classes == ("blue", "red") and len(data.train.labels) == 40


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_image_folder_takes_grey_images_of_16_bits(photos, ending):
    for path in (photos / "val" / "red").iterdir():
        path.unlink()
    grey = np.full((40, 40), 0x4000, dtype=np.uint16)
    Image.fromarray(grey).save(photos / "val" / "red" / f"0.{ending}")
    data = load("imagefolder", photos, image_size=16)
    images, labels = next(data.test.ordered(6))
    (image,) = images[labels == data.classes.index("red")]
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.test.mean, data.test.std))
    torch.testing.assert_close(image * std + mean, torch.full((3, 16, 16), 64 / 255))


def test_image_folder_without_val_needs_some_images_of_every_class(photos):
    shutil.rmtree(photos / "val")
    for path in sorted((photos / "train" / "red").iterdir())[1:]:
        path.unlink()
    with pytest.raises(UserError, match=r"class red has 1 images, too few .* into \S*val/CLASS"):
        load("imagefolder", photos, image_size=16)
