"""What changes with the epoch, as functions of it: nothing to store, nothing to restore."""

from __future__ import annotations

import math

from .config import TrainConfig


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """From `learning_rate` down to 0 after the last epoch, times a linear warm-up.

    `epoch` counts from 0.
    """
    done = epoch / config.epochs
    left = 0.5 * (1 + math.cos(math.pi * done)) if config.schedule == "cosine" else 1 - done
    warmup = config.learning_rate_warmup_epochs
    return config.learning_rate * left * (min(1.0, (epoch + 1) / warmup) if warmup else 1.0)


def drop_path_probability(config: TrainConfig, epoch: int) -> float:
    """Rises linearly from 0 in the first epoch to `drop_path` after the last."""
    return config.drop_path * epoch / config.epochs
