"""One epoch of a search: steps of architecture and weights in turn, then a validation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ..data import Batch, ImageSet, Shard, derive_seed, share, steps
from ..run.config import SearchConfig
from ..run.events import Progress
from ..run.memory import peak_memory_mib
from ..run.pace import Pace
from ..run.processes import Processes
from ..run.stop import Stop
from ..run.tally import means, tally
from .events import Event
from .hessian import dominant_eigenvalue
from .monitors import entropies, skips
from .schedule import weight_learning_rate
from .state import SearchState
from .steps import architecture_step, weight_step


@dataclass(frozen=True)
class Setting:
    """What an epoch reads and does not change."""

    config: SearchConfig
    for_weights: ImageSet
    for_arch: ImageSet
    group: Processes
    device: str

    @property
    def shard(self) -> Shard:
        """This process's images of every batch."""
        return Shard(self.group.rank, self.group.count)


def epoch_of_search(
    setting: Setting, state: SearchState, epoch: int, stop: Stop, save: Callable[[], None]
) -> Generator[Event, None, dict[str, Any] | None]:
    """From `state.steps_done` to the end of the epoch; returns its line for metrics.jsonl.

    None when `stop` said true before the end, after `save`, which writes a checkpoint. It is called
    before the validation as well, where an unreadable image would cost the epoch.

    Raises:
        UserError: the loss is not finite, or the processes do not agree.
    """
    config, group = setting.config, setting.group
    frozen = epoch < config.frozen_epochs
    total_steps = steps(len(setting.for_weights.labels), config.batch_size, group.count)
    state.optimizer.param_groups[0]["lr"] = weight_learning_rate(config, epoch)
    arch_batches = _arch_batches(setting, epoch, state.steps_done)
    batches = setting.for_weights.shuffled(
        config.batch_size,
        seed=derive_seed(config.seed, "weights", epoch),
        start=state.steps_done,
        shard=setting.shard,
    )
    pace = Pace(state.seconds, total_steps, group.count)
    state.network.train()
    for step, batch in enumerate(batches, state.steps_done):
        torch.manual_seed(derive_seed(config.seed, "step", epoch, step))
        if not frozen:
            architecture_step(
                state.network,
                state.arch_optimizer,
                next(arch_batches),
                grad_clip=config.arch_grad_clip,
                forward=state.for_arch,
                precision=state.arch_precision,
                unrolled=(state.optimizer, batch, group) if config.unrolled else None,
            )
        state.totals += weight_step(
            state.network,
            state.optimizer,
            batch,
            grad_clip=config.grad_clip,
            forward=state.for_weights,
            precision=state.precision,
        )
        state.steps_done = step + 1
        if pace.is_due(state.steps_done):
            rate = pace.images_per_second(state.totals)
            yield Progress(epoch, state.steps_done, *means(state.totals, epoch), rate)
        if group.any(stop(), setting.device):
            means(state.totals, epoch)
            state.seconds = pace.seconds()
            group.average_buffers(state.network)  # the checkpoint has one set of them
            save()
            return None

    train_loss, train_accuracy = means(group.total(state.totals), epoch)
    images_per_second = pace.images_per_second(state.totals)
    group.check_equal("weights, alpha and beta", list(state.network.parameters()))
    group.average_buffers(state.network)
    state.seconds = pace.seconds()
    save()
    hessian = {"arch_hessian": _hessian(setting, state, epoch)} if config.hessian else {}
    validated = _validate(setting, state, stop)
    if validated is None:
        return None
    valid_loss, valid_accuracy = means(group.total(validated), epoch)
    state.next_epoch()
    return {
        "epoch": epoch,
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "valid_loss": valid_loss,
        "valid_accuracy": valid_accuracy,
        "learning_rate": state.optimizer.param_groups[0]["lr"],
        "arch_learning_rate": 0.0 if frozen else config.arch_learning_rate,
        "skips": skips(state.network.genotype()),
        **entropies(state.network),
        **hessian,
        "images_per_second": round(images_per_second, 1),
        "seconds": round(pace.seconds(), 3),
        "peak_memory_mib": peak_memory_mib(setting.device),
    }


def _arch_batches(setting: Setting, epoch: int, start: int) -> Iterator[Batch]:
    """Shuffled passes one after another: the part may be smaller than that of the weights."""
    config = setting.config
    lap_steps = steps(len(setting.for_arch.labels), config.batch_size, setting.group.count)
    for lap in count(start // lap_steps):
        yield from setting.for_arch.shuffled(
            config.batch_size,
            seed=derive_seed(config.seed, "architecture", epoch, lap),
            start=max(0, start - lap * lap_steps),
            shard=setting.shard,
        )


def _hessian(setting: Setting, state: SearchState, epoch: int) -> float:
    """On the epoch's first batch of the architecture's part."""
    torch.manual_seed(derive_seed(setting.config.seed, "hessian", epoch))
    batch = next(_arch_batches(setting, epoch, 0))
    return dominant_eigenvalue(state.network, batch, setting.group)


@torch.no_grad()
def _validate(setting: Setting, state: SearchState, stop: Stop) -> Tensor | None:
    """Sum of the tallies over this process's share of `for_arch`; None when `stop` said true."""
    state.network.eval()
    totals = torch.zeros_like(state.totals)
    images, processes = share(setting.for_arch, setting.shard), setting.group.count
    for x, labels in images.ordered(setting.config.batch_size // processes):
        totals += tally(state.precision.forward(state.network, x), labels)
        if processes == 1 and stop():  # several need not have the same number of batches
            return None
    return totals
