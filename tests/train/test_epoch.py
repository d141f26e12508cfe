"""What the steps of an epoch are given and do: images, seeds, losses, settings."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcdarts_fast.data import Augment, load
from pcdarts_fast.run.folder import RunFolder
from pcdarts_fast.run.opened import Run
from pcdarts_fast.run.processes import Processes
from pcdarts_fast.run.stop import never
from pcdarts_fast.space import PUBLISHED
from pcdarts_fast.train import epoch
from pcdarts_fast.train.config import TrainConfig
from pcdarts_fast.train.presets import train_config
from pcdarts_fast.train.state import TrainState, new_state


def tiny(**changes: Any) -> TrainConfig:
    """Four steps an epoch, of plain SGD."""
    settings = {"init_channels": 2, "layers": 3, "epochs": 2, "batch_size": 25, "device": "cpu"}
    settings |= {"learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    return replace(train_config("digits"), **(settings | changes))


def trained(config: TrainConfig, folder: Path, *, epochs: int) -> TrainState:
    """After so many epochs on the first hundred digits."""
    group, data = Processes(), load("digits", augment=Augment())
    part = data.train.subset(torch.arange(100))
    data = replace(data, train=part, test=part)
    torch.manual_seed(0)
    state = new_state(config, PUBLISHED["DARTS_V1"], data, "cpu", group)
    run = Run(RunFolder(folder), group, "cpu", False, never)
    for _ in range(epochs):
        list(epoch.epoch_of_training(run, config, state, data))
    return state


def distance(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return float(torch.cat([(a - b).detach().flatten() for a, b in pairs]).norm())


def test_every_step_draws_anew_and_every_epoch_has_an_order_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    labels: list[list[int]] = []

    def loss(config: TrainConfig, logits: Tensor, target: Tensor) -> Tensor:
        seeds.append(torch.initial_seed())
        labels.append(target.tolist())
        return F.cross_entropy(logits, target)

    monkeypatch.setattr(epoch, "_loss", loss)
    trained(tiny(auxiliary_weight=0.0), tmp_path, epochs=2)
    assert len(seeds) == len(set(seeds)) == 2 * 4
    first, second = (list(chain.from_iterable(labels[n : n + 4])) for n in (0, 4))
    assert sorted(first) == sorted(second) and first != second


def test_gradients_are_clipped(tmp_path: Path) -> None:
    config = tiny(grad_clip=1e-4)
    before, after = (trained(config, tmp_path, epochs=n).network for n in (0, 1))
    assert 0 < distance(before, after) < 1.01 * 4 * 1e-4


def test_the_auxiliary_loss_has_its_weight(tmp_path: Path) -> None:
    moved = []
    for weight in (0.4, 1e-9):
        config = tiny(auxiliary_weight=weight, grad_clip=1e9, learning_rate=0.01)
        before, after = (trained(config, tmp_path, epochs=n).network for n in (0, 1))
        assert before.auxiliary_head is not None and after.auxiliary_head is not None
        moved.append(distance(before.auxiliary_head.classifier, after.auxiliary_head.classifier))
    assert moved[0] > 1e-4 and moved[1] < 1e-8


def test_label_smoothing_spreads_its_part_over_all_classes() -> None:
    logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]]), torch.tensor([0, 1])
    told = -logits.log_softmax(1)
    wanted = 0.7 * told[[0, 1], labels].mean() + 0.3 * told.mean()
    torch.testing.assert_close(epoch._loss(tiny(label_smoothing=0.3), logits, labels), wanted)
