"""One epoch of a training: a pass over the training images, then a test."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import Dataset, ImageSet, Shard, derive_seed, share, steps
from ..run.events import Progress
from ..run.memory import peak_memory_mib
from ..run.pace import Pace
from ..run.processes import Processes
from ..run.stop import Stop
from ..run.tally import means, tally
from .config import TrainConfig
from .events import Event
from .schedule import drop_path_probability, learning_rate
from .state import TrainState


def epoch_of_training(
    config: TrainConfig,
    state: TrainState,
    data: Dataset,
    group: Processes,
    epoch: int,
    stop: Stop,
    save: Callable[[], None],
) -> Generator[Event, None, dict[str, Any] | None]:
    """From `state.steps_done` to the end of the epoch; returns its line for metrics.jsonl.

    None when `stop` said true before the end, after `save`, which writes a checkpoint. It is called
    before the test as well, where an unreadable image would cost the epoch.

    Raises:
        UserError: the loss is not finite, or the processes do not agree.
    """
    network, optimizer, precision = state.network, state.optimizer, state.precision
    optimizer.param_groups[0]["lr"] = learning_rate(config, epoch)
    network.drop_path_prob = drop_path_probability(config, epoch)
    total_steps = steps(len(data.train.labels), config.batch_size, group.count)
    shard = Shard(group.rank, group.count)
    batches = data.train.shuffled(
        config.batch_size,
        seed=derive_seed(config.seed, "train", epoch),
        start=state.steps_done,
        shard=shard,
    )
    pace = Pace(state.seconds, total_steps, group.count)
    network.train()
    for step, (images, labels) in enumerate(batches, state.steps_done):
        # Drop path draws other paths in every process.
        torch.manual_seed(derive_seed(config.seed, "step", epoch, step, group.rank))
        logits, logits_aux = precision.forward(state.averaging, images)  # [B, num_classes]
        loss = _loss(config, logits, labels)
        if logits_aux is not None:
            loss = loss + config.auxiliary_weight * _loss(config, logits_aux, labels)
        optimizer.zero_grad()
        precision.backward(loss)
        precision.step(optimizer, config.grad_clip)
        state.totals += tally(logits.detach(), labels)
        state.steps_done = step + 1
        if pace.is_due(state.steps_done):
            rate = pace.images_per_second(state.totals)
            yield Progress(epoch, state.steps_done, *means(state.totals, epoch), rate)
        if group.any(stop(), images.device.type):
            means(state.totals, epoch)
            state.seconds = pace.seconds()
            group.average_buffers(network)  # the checkpoint has one set of them
            save()
            return None

    train_loss, train_accuracy = means(group.total(state.totals), epoch)
    images_per_second = pace.images_per_second(state.totals)
    group.check_equal("weights", list(network.parameters()))
    group.average_buffers(network)
    state.seconds = pace.seconds()
    save()
    tested = _test(config, state, share(data.test, shard), stop)
    if tested is None:
        return None
    test_loss, test_accuracy = means(group.total(tested), epoch)
    state.next_epoch()
    return {
        "epoch": epoch,
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "learning_rate": optimizer.param_groups[0]["lr"],
        "drop_path": network.drop_path_prob,
        "images_per_second": round(images_per_second, 1),
        "seconds": round(pace.seconds(), 3),
        "peak_memory_mib": peak_memory_mib(state.totals.device.type),
    }


@torch.no_grad()
def _test(config: TrainConfig, state: TrainState, images: ImageSet, stop: Stop) -> Tensor | None:
    """Sum of tallies over this process's `images`; None when `stop` said true."""
    state.network.eval()
    totals, processes = torch.zeros_like(state.totals), state.group.count
    for x, labels in images.ordered(config.batch_size // processes):  # [B, C, H, W], [B]
        logits, _ = state.precision.forward(state.network, x)
        totals += tally(logits, labels)
        if processes == 1 and stop():  # several need not have the same number of batches
            return None
    return totals


def _loss(config: TrainConfig, logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
