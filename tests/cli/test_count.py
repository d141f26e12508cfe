"""`pcdarts count`: the published numbers, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcdarts_fast.cli import main
from pcdarts_fast.data import load
from pcdarts_fast.run.presets import IMAGES
from pcdarts_fast.space import PUBLISHED, Genotype
from pcdarts_fast.train.presets import PRESETS


def numbers(args: list[str], capsys: pytest.CaptureFixture[str]) -> list[list[int]]:
    assert main(["count", *args]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    cells = [[cell.strip().replace(",", "") for cell in row.strip("│").split("│")] for row in rows]
    return [[int(cell) for cell in row if cell.isdigit()] for row in cells if row[1].isdigit()]


def test_cifar(capsys: pytest.CaptureFixture[str]) -> None:
    network, with_head = numbers(["PC_DARTS_cifar"], capsys)
    assert network == [3_634_678, 556_670_592, 575_526_528]
    assert with_head[0] == 4_111_104
    assert with_head[1] > network[1]


def test_imagenet(capsys: pytest.CaptureFixture[str]) -> None:
    network, with_head = numbers(["PC_DARTS_image", "--preset", "imagenet"], capsys)
    assert network == [5_342_464, 581_627_328, 597_056_448]
    assert with_head[0] == 6_603_240


def test_options_take_the_place_of_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["DARTS_V2", "--init-channels", "4", "--layers", "3", "--preset", "digits"]
    ten, _ = numbers(args, capsys)
    twelve, _ = numbers([*args, "--num-classes", "12"], capsys)
    # The classifier reads 4 nodes of 16 channels: 64 weights and a bias for each class.
    assert twelve[0] - ten[0] == 2 * 65
    wide, _ = numbers([*args, "--image-size", "16"], capsys)
    assert wide[0] == ten[0]
    assert wide[1] - 640 == 4 * (ten[1] - 640)


def test_every_preset_has_its_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(IMAGES) == list(PRESETS)
    digits = load("digits")
    assert IMAGES["digits"] == (digits.num_classes, digits.in_channels, digits.image_size)


def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = (("sep_conv_7x7", 0), ("skip_connect", 1))
    Genotype(cell, (2,), cell, (2,)).save(tmp_path / "odd.json")
    for args, wanted in (
        (["nothing"], ", ".join(PUBLISHED)),
        (["PDARTS", "--preset", "cifar"], "cifar10"),
        (["PDARTS", "--layers", "0"], "--layers is 0, wanted 1 or more"),
        ([str(tmp_path / "odd.json")], "unknown primitive 'sep_conv_7x7'"),
    ):
        assert main(["count", *args]) == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert wanted in sentence
