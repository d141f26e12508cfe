"""What changes with the epoch, at epochs worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from pcdarts_fast.train.presets import PRESETS, train_config
from pcdarts_fast.train.schedule import drop_path_probability, learning_rate


def test_cosine_of_the_cifar_preset() -> None:
    config = train_config("cifar10")
    assert learning_rate(config, 0) == 0.025
    assert learning_rate(config, 200) == pytest.approx(0.75 * 0.025)
    assert learning_rate(config, 300) == pytest.approx(0.5 * 0.025)
    assert learning_rate(config, 400) == pytest.approx(0.25 * 0.025)
    assert learning_rate(config, 600) == pytest.approx(0)


def test_warm_up_and_linear_decay_of_the_imagenet_preset() -> None:
    config = train_config("imagenet")
    assert learning_rate(config, 0) == pytest.approx(0.5 * 1 / 5)
    assert learning_rate(config, 3) == pytest.approx(0.5 * 4 / 5 * 247 / 250)
    assert learning_rate(config, 4) == pytest.approx(0.5 * 246 / 250)
    assert learning_rate(config, 125) == pytest.approx(0.25)
    assert learning_rate(config, 249) == pytest.approx(0.5 / 250)


def test_drop_path_rises_linearly() -> None:
    config = train_config("cifar10")
    assert [drop_path_probability(config, epoch) for epoch in (0, 300, 600)] == [0, 0.15, 0.3]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_rate_never_rises_after_warm_up_and_stays_positive(preset: str) -> None:
    config = train_config(preset)
    warm = max(0, config.learning_rate_warmup_epochs - 1)
    rates = [learning_rate(config, epoch) for epoch in range(warm, config.epochs)]
    assert all(a > b > 0 for a, b in pairwise(rates))


def test_one_epoch_has_the_full_rate() -> None:
    assert learning_rate(replace(train_config("cifar10"), epochs=1), 0) == 0.025
