"""Every reader on real files of its layout, and on those that are missing or damaged."""

from __future__ import annotations

import gzip
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.datasets import CIFAR10, CIFAR100

from pcdarts_fast.data import (
    Augment,
    cifar,
    fashion_mnist,
    load,
)
from pcdarts_fast.data.dataset import Request
from pcdarts_fast.errors import UserError
from pcdarts_fast.run.presets import IMAGES, search_config
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


def test_digits_are_moved_and_never_mirrored():
    images = load("digits").train.subset(torch.arange(200))
    plain = replace(images, augment=Augment())
    moved, same = (next(part.shuffled(200, seed=0))[0] for part in (images, plain))
    assert not torch.equal(moved, same)
    windows = F.pad(same, [1] * 4, value=float(same.min())).unfold(2, 8, 1).unfold(3, 8, 1)
    near = (windows - moved[:, :, None, None]).flatten(4).abs().amax((1, 4))
    assert (near.flatten(1).amin(1) < 1e-6).all()


def test_unknown_data_set_and_a_size_that_the_images_do_not_have(tmp_path):
    with pytest.raises(UserError, match="unknown data set 'mnist'; wanted one of digits"):
        load("mnist", tmp_path)
    with pytest.raises(UserError, match="digits images are 8 pixels wide, not 7"):
        load("digits", image_size=7)


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim])
    return header + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def write_fashion_mnist(folder, count=6) -> None:
    """The test has the training images in reverse order."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, step in (("train", 1), ("t10k", -1)):
        images = np.arange(count * 784, dtype=np.uint8).reshape(count, 28, 28)[::step]
        labels = np.arange(count, dtype=np.uint8)[::step]
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))


@pytest.mark.parametrize("place", [".", "FashionMNIST/raw"])
def test_fashion_mnist_reads_both_layouts_gzipped_or_not(tmp_path, place):
    write_fashion_mnist(tmp_path / place)
    data = fashion_mnist.read(request(tmp_path))
    assert (data.classes[0], data.classes[-1]) == ("T-shirt/top", "Ankle boot")
    assert (data.num_classes, data.in_channels, data.image_size) == IMAGES["fashion-mnist"]
    assert data.train.labels.tolist() == data.test.labels.tolist()[::-1] == list(range(6))
    expected = torch.arange(6 * 784).remainder(256).view(6, 1, 28, 28).byte()
    assert torch.equal(data.train.images, expected)
    assert torch.equal(data.test.images, expected.flip(0))


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


def test_fashion_mnist_of_two_places(tmp_path):
    write_fashion_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(UserError, match="6 images, but 5 labels; take all four files from one"):
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


KINDS = {"cifar10": (CIFAR10, 10, ""), "cifar100": (CIFAR100, 100, "fine_")}


def write_cifar(name: str, folder, count=20) -> np.ndarray:
    """The training images [count, 3, 32, 32]; the test has the same in reverse order."""
    reader, _, fine = KINDS[name]
    root = folder / reader.base_folder
    root.mkdir()
    data = np.random.default_rng(0).integers(256, size=(count, 3072), dtype=np.uint8)
    for part, step in (("a_train", 1), ("a_test", -1)):
        batch = {"data": data[::step], f"{fine}labels": list(range(count))[::step]}
        (root / part).write_bytes(pickle.dumps(batch))
    names = {f"{fine}label_names": [f"kind {n}" for n in range(count)]}
    (root / reader.meta["filename"]).write_bytes(pickle.dumps(names))
    return data.reshape(count, 3, 32, 32)


@pytest.fixture
def unchecked_cifar(monkeypatch):
    """Takes one batch each, whose MD5 sum is not the published one."""
    for reader, *_ in KINDS.values():
        monkeypatch.setattr(reader, "train_list", (("a_train", None),))
        monkeypatch.setattr(reader, "test_list", (("a_test", None),))
        monkeypatch.setattr(reader, "meta", reader.meta | {"md5": None})


@pytest.mark.parametrize("name", KINDS)
def test_cifar_in_its_pickle_layout(tmp_path, unchecked_cifar, name):
    pixels = torch.from_numpy(write_cifar(name, tmp_path))
    data = load(name, tmp_path)
    assert (data.num_classes, data.in_channels, data.image_size) == IMAGES[name]
    reader, classes, _ = KINDS[name]
    assert data.num_classes == classes
    assert (data.train.mean, data.train.std) == cifar.MEAN_STD[reader]
    assert torch.equal(data.train.images, pixels)
    assert torch.equal(data.test.images, pixels.flip(0))
    assert data.train.labels.tolist() == data.test.labels.tolist()[::-1] == list(range(20))
    assert data.classes == tuple(f"kind {n}" for n in range(20))
    assert data.train.augment == Augment(crop_padding=4, flip=True)
    images, labels = next(data.train.shuffled(20, seed=0))
    assert images.shape == (20, 3, 32, 32) and images.dtype == torch.float32
    assert sorted(labels.tolist()) == list(range(20))


def test_cifar10_with_other_contents_than_the_published(tmp_path):
    write_cifar("cifar10", tmp_path)
    with pytest.raises(UserError, match=r"CIFAR10: a file in .* is missing or damaged .*MD5"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_missing(tmp_path, name):
    with pytest.raises(UserError, match=r"no folder .*; unpack cifar-100?-python.tar.gz"):
        load(name, tmp_path)
