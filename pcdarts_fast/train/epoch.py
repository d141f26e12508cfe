"""One epoch of a training: a pass over the training images, then a test."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import Batch, Dataset, Shard, derive_seed, share, steps
from ..run.epoch import mean_of, steps_of_epoch
from ..run.memory import peak_memory_mib
from ..run.opened import Run
from ..run.pace import Pace
from ..run.tally import tally
from .config import TrainConfig
from .events import Event
from .schedule import drop_path_probability, learning_rate
from .state import TrainState


def epoch_of_training(
    run: Run, config: TrainConfig, state: TrainState, data: Dataset
) -> Generator[Event, None, dict[str, Any] | None]:
    """From `state.steps_done` to the end of the epoch; returns its line for metrics.jsonl.

    None when the run was told to stop before; its checkpoint is written.

    Raises:
        UserError: the loss is not finite, or the processes do not agree.
    """
    epoch, network, precision = state.epochs_done, state.network, state.precision
    state.optimizer.param_groups[0]["lr"] = learning_rate(config, epoch)
    network.drop_path_prob = drop_path_probability(config, epoch)
    shard = Shard(run.group.rank, run.group.count)
    total_steps = steps(len(data.train.labels), config.batch_size, shard.count)
    batches = data.train.shuffled(
        config.batch_size,
        seed=derive_seed(config.seed, "train", epoch),
        start=state.steps_done,
        shard=shard,
    )

    def step(number: int, batch: Batch) -> Tensor:
        images, labels = batch
        # Drop path draws other paths in every process.
        torch.manual_seed(derive_seed(config.seed, "step", epoch, number, shard.index))
        logits, logits_aux = precision.forward(state.averaging, images)  # [B, num_classes]
        loss = _loss(config, logits, labels)
        if logits_aux is not None:
            loss = loss + config.auxiliary_weight * _loss(config, logits_aux, labels)
        state.optimizer.zero_grad()
        precision.backward(loss)
        precision.step(state.optimizer, config.grad_clip)
        return tally(logits.detach(), labels)

    pace = Pace(state.seconds, total_steps, shard.count)
    trained = yield from steps_of_epoch(run, state, pace, batches, step)
    if trained is None:
        return None
    test = mean_of(
        run,
        state,
        share(data.test, shard).ordered(config.batch_size // shard.count),
        lambda images: precision.forward(network, images)[0],
    )
    if test is None:
        return None
    test_loss, test_accuracy = test
    state.next_epoch()
    return {
        "epoch": epoch,
        "train_loss": trained.loss,
        "train_accuracy": trained.accuracy,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "learning_rate": state.optimizer.param_groups[0]["lr"],
        "drop_path": network.drop_path_prob,
        "images_per_second": round(trained.images_per_second, 1),
        "seconds": round(pace.seconds(), 3),
        "peak_memory_mib": peak_memory_mib(run.device),
    }


def _loss(config: TrainConfig, logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
