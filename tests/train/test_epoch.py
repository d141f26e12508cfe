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


def test_every_step_draws_anew_and_every_epoch_and_seed_has_an_order_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    labels: list[list[int]] = []

    def loss(config: TrainConfig, logits: Tensor, target: Tensor) -> Tensor:
        seeds.append(torch.initial_seed())
        labels.append(target.tolist())
        return F.cross_entropy(logits, target)

    monkeypatch.setattr(epoch, "_loss", loss)
    for seed, epochs in ((0, 2), (1, 1)):
        trained(tiny(auxiliary_weight=0.0, seed=seed), tmp_path, epochs=epochs)
    assert len(seeds) == len(set(seeds)) == 3 * 4
    orders = [tuple(chain.from_iterable(labels[n : n + 4])) for n in (0, 4, 8)]
    assert len({tuple(sorted(order)) for order in orders}) == 1 and len(set(orders)) == 3


def test_gradients_are_clipped(tmp_path: Path) -> None:
    config = tiny(grad_clip=1e-4)
    before, after = (trained(config, tmp_path, epochs=n).network for n in (0, 1))
    assert 0 < distance(before, after) < 1.01 * 4 * 1e-4


def test_losses_have_their_weights_and_steps_their_own_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a loss whose derivative by every bias of a classifier is 1."""
    monkeypatch.setattr(epoch, "_loss", lambda config, logits, labels: logits.sum(1).mean())
    config = tiny(auxiliary_weight=0.4, grad_clip=1e9, learning_rate=0.001)
    before, after = (trained(config, tmp_path, epochs=n).network for n in (0, 1))
    for name, weight in (("classifier.bias", 1.0), ("auxiliary_head.classifier.bias", 0.4)):
        moved = before.get_parameter(name) - after.get_parameter(name)
        torch.testing.assert_close(moved, torch.full((10,), 4 * 0.001 * weight))


def test_label_smoothing_spreads_its_part_over_all_classes() -> None:
    logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]]), torch.tensor([0, 1])
    told = -logits.log_softmax(1)
    wanted = 0.7 * told[[0, 1], labels].mean() + 0.3 * told.mean()
    torch.testing.assert_close(epoch._loss(tiny(label_smoothing=0.3), logits, labels), wanted)
