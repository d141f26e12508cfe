"""What an epoch of every run is made of: its steps, then a look at images kept out of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .events import Progress
from .opened import Run
from .pace import Pace
from .state import RunState
from .tally import means, tally

Batch = tuple[Tensor, Tensor]
"""Images [B, C, H, W] and labels [B]."""


@dataclass(frozen=True)
class Trained:
    """Means over the steps of an epoch, of all processes."""

    loss: float
    accuracy: float
    """In [0, 1], before the step that learns from an image."""
    images_per_second: float


def steps_of_epoch(
    run: Run,
    state: RunState,
    pace: Pace,
    batches: Iterable[Batch],
    step: Callable[[int, Batch], Tensor],
) -> Generator[Progress, None, Trained | None]:
    """Steps from `state.steps_done` to the end of `batches`; None when the run was told to stop.

    `step` takes the number of a step in its epoch and a batch, and returns the batch's `tally`. A
    checkpoint is written after the last step, whichever it is: an unreadable image in what follows
    does not cost the epoch.

    Raises:
        UserError: the loss is not finite, or the processes do not agree.
    """
    group, epoch = run.group, state.epochs_done
    state.network.train()
    stopped = False
    for number, batch in enumerate(batches, state.steps_done):
        state.totals += step(number, batch)
        state.steps_done = number + 1
        if pace.is_due(state.steps_done):
            rate = pace.images_per_second(state.totals)
            yield Progress(epoch, state.steps_done, *means(state.totals, epoch), rate)
        stopped = group.any(run.stop(), run.device)
        if stopped:
            break
    loss, accuracy = means(group.total(state.totals), epoch)
    trained = Trained(loss, accuracy, pace.images_per_second(state.totals))
    group.check_equal("parameters", list(state.network.parameters()))
    group.average_buffers(state.network)  # the checkpoint has one set of them
    state.seconds = pace.seconds()
    run.save(state)
    return None if stopped else trained


@torch.no_grad()
def mean_of(
    run: Run,
    state: RunState,
    batches: Iterable[Batch],
    forward: Callable[[Tensor], Tensor],
) -> tuple[float, float] | None:
    """Mean loss and accuracy of every process's `batches`; None when the run was told to stop.

    `forward` gives the logits [B, num_classes] of images; the network is in eval mode.

    Raises:
        UserError: the loss is not finite, or none of the images is whole.
    """
    state.network.eval()
    totals = torch.zeros_like(state.totals)
    for images, labels in batches:
        totals += tally(forward(images), labels)
        if run.group.count == 1 and run.stop():  # several need not have equally many batches
            return None
    return means(run.group.total(totals), state.epochs_done)
