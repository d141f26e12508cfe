"""The state of a training follows its settings and knows its images."""

from __future__ import annotations

from dataclasses import replace

import torch

from pcdarts_fast.data import DATASETS, load
from pcdarts_fast.run.damaged import Damaged
from pcdarts_fast.run.processes import Processes
from pcdarts_fast.space import PUBLISHED
from pcdarts_fast.train.loop import _load
from pcdarts_fast.train.presets import train_config
from pcdarts_fast.train.state import new_state

CONFIG = replace(train_config("digits"), init_channels=2, layers=1, device="cpu")


def test_the_optimizer_has_the_settings_of_the_training() -> None:
    config = replace(CONFIG, learning_rate=0.2, momentum=0.8, weight_decay=0.01)
    made = new_state(config, PUBLISHED["DARTS_V1"], load("digits"), "cpu", Processes())
    (group,) = made.optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.2, 0.8, 0.01)
    assert len(group["params"]) == len(list(made.network.parameters()))


def test_other_training_or_test_images_are_other_images() -> None:
    data = load("digits")
    fewer = torch.arange(300)
    digests = {
        new_state(CONFIG, PUBLISHED["DARTS_V1"], some, "cpu", Processes()).images
        for some in (
            data,
            replace(data, train=data.train.subset(fewer)),
            replace(data, test=data.test.subset(fewer)),
        )
    }
    assert len(digests) == 3


def test_augmentation_is_the_usual_one_and_what_the_settings_add() -> None:
    config = replace(CONFIG, cutout=3, color_jitter=True)
    augment = _load(config, "cpu", Damaged(False)).train.augment  # type: ignore[attr-defined]
    assert augment == replace(DATASETS["digits"].augment, cutout=3, color_jitter=True)
