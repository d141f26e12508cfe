"""The learning rate as a function of the epoch: nothing to store, nothing to restore."""

from __future__ import annotations

import math

from ..run.config import SearchConfig


def weight_learning_rate(config: SearchConfig, epoch: int) -> float:
    """Linear warm-up times half a cosine from `learning_rate` to 0; `epoch` counts from 0."""
    position = min(epoch + config.learning_rate_shift, config.epochs) / config.epochs
    rate = 0.5 * config.learning_rate * (1 + math.cos(math.pi * position))
    if epoch < config.learning_rate_warmup_epochs:
        rate *= (epoch + 1) / config.learning_rate_warmup_epochs
    return rate
