"""One epoch of a search: steps of architecture and weights in turn, then a validation."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ..data import Batch, ImageSet, Shard, derive_seed, share, steps
from ..run.config import SearchConfig
from ..run.epoch import mean_of, steps_of_epoch
from ..run.memory import peak_memory_mib
from ..run.opened import Run
from ..run.pace import Pace
from .events import Event
from .hessian import dominant_eigenvalue
from .monitors import entropies, skips
from .schedule import weight_learning_rate
from .state import SearchState
from .steps import architecture_step, weight_step


def epoch_of_search(
    run: Run,
    config: SearchConfig,
    state: SearchState,
    for_weights: ImageSet,
    for_arch: ImageSet,
) -> Generator[Event, None, dict[str, Any] | None]:
    """From `state.steps_done` to the end of the epoch; returns its line for metrics.jsonl.

    None when the run was told to stop before; its checkpoint is written.

    Raises:
        UserError: the loss is not finite, or the processes do not agree.
    """
    epoch, network = state.epochs_done, state.network
    frozen = epoch < config.frozen_epochs
    shard = Shard(run.group.rank, run.group.count)
    total_steps = steps(len(for_weights.labels), config.batch_size, shard.count)
    state.optimizer.param_groups[0]["lr"] = weight_learning_rate(config, epoch)
    arch_batches = _arch_batches(config, for_arch, shard, epoch, state.steps_done)
    batches = for_weights.shuffled(
        config.batch_size,
        seed=derive_seed(config.seed, "weights", epoch),
        start=state.steps_done,
        shard=shard,
    )

    def step(number: int, batch: Batch) -> Tensor:
        torch.manual_seed(derive_seed(config.seed, "step", epoch, number))
        if not frozen:
            architecture_step(
                network,
                state.arch_optimizer,
                next(arch_batches),
                grad_clip=config.arch_grad_clip,
                forward=state.for_arch,
                precision=state.arch_precision,
                unrolled=(state.optimizer, batch, run.group) if config.unrolled else None,
            )
        return weight_step(
            network,
            state.optimizer,
            batch,
            grad_clip=config.grad_clip,
            forward=state.for_weights,
            precision=state.precision,
        )

    pace = Pace(state.seconds, total_steps, shard.count)
    trained = yield from steps_of_epoch(run, state, pace, batches, step)
    if trained is None:
        return None
    hessian = {}
    if config.hessian:  # on the epoch's first batch of the architecture's part
        torch.manual_seed(derive_seed(config.seed, "hessian", epoch))
        batch = next(_arch_batches(config, for_arch, shard, epoch, 0))
        hessian = {"arch_hessian": dominant_eigenvalue(network, batch, run.group)}
    valid = mean_of(
        run,
        state,
        share(for_arch, shard).ordered(config.batch_size // shard.count),
        lambda images: state.precision.forward(network, images),
    )
    if valid is None:
        return None
    valid_loss, valid_accuracy = valid
    state.next_epoch()
    return {
        "epoch": epoch,
        "train_loss": trained.loss,
        "train_accuracy": trained.accuracy,
        "valid_loss": valid_loss,
        "valid_accuracy": valid_accuracy,
        "learning_rate": state.optimizer.param_groups[0]["lr"],
        "arch_learning_rate": 0.0 if frozen else config.arch_learning_rate,
        "skips": skips(network.genotype()),
        **entropies(network),
        **hessian,
        "images_per_second": round(trained.images_per_second, 1),
        "seconds": round(pace.seconds(), 3),
        "peak_memory_mib": peak_memory_mib(run.device),
    }


def _arch_batches(
    config: SearchConfig, for_arch: ImageSet, shard: Shard, epoch: int, start: int
) -> Iterator[Batch]:
    """Shuffled passes one after another: the part may be smaller than that of the weights."""
    lap_steps = steps(len(for_arch.labels), config.batch_size, shard.count)
    for lap in count(start // lap_steps):
        yield from for_arch.shuffled(
            config.batch_size,
            seed=derive_seed(config.seed, "architecture", epoch, lap),
            start=max(0, start - lap * lap_steps),
            shard=shard,
        )
