"""Settings of a training: the paper's numbers, and values that cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pcdarts_fast.errors import UserError
from pcdarts_fast.run.settings import load_settings, save_settings
from pcdarts_fast.train.config import TrainConfig
from pcdarts_fast.train.presets import PRESETS, train_config


def test_cifar_preset_is_the_paper() -> None:
    config = train_config("cifar10")
    assert (config.init_channels, config.layers, config.epochs, config.batch_size) == (
        *(36, 20, 600, 128),
    )
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.025, 0.9, 3e-4)
    assert (config.auxiliary_weight, config.cutout, config.drop_path, config.grad_clip) == (
        *(0.4, 16, 0.3, 5.0),
    )


def test_imagenet_preset_is_the_paper() -> None:
    config = train_config("imagenet")
    assert (config.init_channels, config.layers, config.epochs, config.batch_size) == (
        *(48, 14, 250, 1024),
    )
    assert (config.learning_rate, config.schedule, config.weight_decay) == (0.5, "linear", 3e-5)
    assert (config.label_smoothing, config.learning_rate_warmup_epochs) == (0.1, 5)
    assert (config.auxiliary_weight, config.stem, config.image_size) == (0.4, "imagenet", 224)
    assert (config.drop_path, config.cutout, config.color_jitter) == (0, 0, True)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_names_itself_and_survives_the_disk(name: str, tmp_path: Path) -> None:
    assert train_config(name).preset == name
    save_settings(train_config(name), tmp_path / "config.yaml")
    assert load_settings(TrainConfig, tmp_path / "config.yaml") == train_config(name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("layers", 0),
        ("drop_path", 1.0),
        ("momentum", float("nan")),
        ("learning_rate", float("nan")),
    ],
)
def test_values_that_cannot_be_are_named(field: str, value: Any) -> None:
    option = "--" + field.replace("_", "-")
    with pytest.raises(UserError, match=f"{option} is {value}, wanted"):
        replace(train_config("digits"), **{field: value})


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"mnist.*digits, fashion-mnist, cifar10"):
        train_config("mnist")
