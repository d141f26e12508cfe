"""The learning rate at the epochs that the paper fixes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pcdarts_fast.run.presets import search_config
from pcdarts_fast.search.schedule import weight_learning_rate


def test_cosine_is_that_of_torch():
    config = search_config("cifar10")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=config.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    for epoch in range(config.epochs):
        expected = optimizer.param_groups[0]["lr"]
        assert weight_learning_rate(config, epoch) == pytest.approx(expected, rel=1e-9)
        optimizer.step()
        scheduler.step()
    assert weight_learning_rate(config, config.epochs) == pytest.approx(0, abs=1e-12)


def test_released_code_runs_one_epoch_ahead():
    paper, released = search_config("cifar10"), search_config("cifar10", "as-released")
    rates = [weight_learning_rate(paper, epoch) for epoch in range(1, 51)]
    assert [weight_learning_rate(released, epoch) for epoch in range(50)] == rates


def test_warm_up_rises_linearly_to_the_cosine():
    config = search_config("imagenet")
    plain = replace(config, learning_rate_warmup_epochs=0)
    shares = [
        weight_learning_rate(config, epoch) / weight_learning_rate(plain, epoch)
        for epoch in range(7)
    ]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])


def test_a_cosine_that_runs_ahead_stays_at_its_end():
    config = replace(search_config("cifar10"), learning_rate_shift=10)
    rates = [weight_learning_rate(config, epoch) for epoch in (39, 40, 49)]
    assert rates[0] > 1e-5 and rates[1:] == pytest.approx([0, 0], abs=1e-12)
