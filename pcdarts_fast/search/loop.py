"""The bi-level search of PC-DARTS, from the first image to the genotype (paper section 4.2).

An epoch alternates a step of alpha and beta on one part of the training images with a step of the
weights on the other. All that it leaves behind is in the run folder (`run/folder.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from ..data import Batch, ImageSet, derive_seed, load, split, steps
from ..nn.search_network import SearchNetwork
from ..run.checkpoint import load_checkpoint, save_checkpoint
from ..run.config import SearchConfig
from ..run.device import pick_device
from ..run.environment import environment, record_environment
from ..run.events import EpochDone, Notice, Progress
from ..run.folder import RunFolder
from ..run.settings import check_unchanged, load_settings, save_settings
from ..run.tally import means, tally
from .events import Event, Finished, Started
from .schedule import weight_learning_rate
from .state import SearchState, new_state
from .steps import architecture_step, weight_step

MAY_CHANGE = {"data_dir", "workers", "backend", "device", "memory"}
"""Settings that a resumed run need not repeat: they say where and how it computes, not what."""

REPORTS_PER_EPOCH = 50
"""How often, at most, an epoch waits for the device to read the loss."""


def search(config: SearchConfig, output_dir: Path, *, resume: bool = False) -> Iterator[Event]:
    """Runs a search and yields what happens; the last event holds the genotype.

    With `resume` the run in `output_dir` goes on after its last whole epoch: on the CPU it ends in
    the same bits as a run that was never stopped. `config` may then differ from the run's in
    `MAY_CHANGE` only.

    Raises:
        UserError: data, settings or folder cannot be used, or the loss is no longer finite.
    """
    with RunFolder.open(output_dir) if resume else RunFolder.create(output_dir) as folder:
        if resume:
            check_unchanged(load_settings(SearchConfig, folder.config), config, MAY_CHANGE)
        device = pick_device(config.device)
        torch.manual_seed(config.seed)
        data = load(
            config.preset,
            config.data_dir,
            device=device,
            image_size=config.image_size,
            workers=config.workers,
        )
        fractions = (config.train_fraction, config.valid_fraction)
        for_weights, for_arch = split(data.train, fractions, seed=config.seed)
        state = new_state(config, data, device)
        backend = state.network.backend
        checkpoint, note = load_checkpoint(folder) if resume else (None, None)
        if checkpoint:
            state.restore(checkpoint)
        folder.cut_back(state.epochs_done)
        save_settings(config, folder.config)
        record_environment(folder, environment(backend=backend, device=device, seed=config.seed))
        yield Started(
            folder=folder.path,
            device=device,
            backend=backend,
            weight_count=sum(p.numel() for p in state.network.weight_parameters()),
            arch_count=sum(p.numel() for p in state.network.arch_parameters()),
            train_images=len(for_weights.labels),
            valid_images=len(for_arch.labels),
            epochs_done=state.epochs_done,
            epochs=config.epochs,
            steps=steps(len(for_weights.labels), config.batch_size),
        )
        for text in [*([note] if note else []), *_doubts(config)]:
            yield Notice(text)
        for epoch in range(state.epochs_done, config.epochs):
            yield from _epoch(config, state, folder, epoch, for_weights, for_arch)
        yield Finished(state.network.genotype(), folder.path)


def _doubts(config: SearchConfig) -> Iterator[str]:
    """Why the genotype will be a random one, where the settings make it so."""
    if config.frozen_epochs >= config.epochs:
        yield (
            f"alpha and beta stay as drawn, since --frozen-epochs {config.frozen_epochs} "
            f"covers all of --epochs {config.epochs}: the genotype will be a random one"
        )
    if config.layers < 3:
        yield (
            f"with --layers {config.layers} every cell is a reduction cell: "
            "the genotype's normal cell will be a random one"
        )


def _epoch(
    config: SearchConfig,
    state: SearchState,
    folder: RunFolder,
    epoch: int,
    for_weights: ImageSet,
    for_arch: ImageSet,
) -> Iterator[Event]:
    """One pass over `for_weights`, a validation on `for_arch`, and everything written down."""
    start = time.perf_counter()
    frozen = epoch < config.frozen_epochs
    state.optimizer.param_groups[0]["lr"] = weight_learning_rate(config, epoch)
    arch_batches = _endless_batches(for_arch, config, epoch)
    results: list[Tensor] = []
    report_every = max(1, steps(len(for_weights.labels), config.batch_size) // REPORTS_PER_EPOCH)

    state.network.train()
    seed = derive_seed(config.seed, "weights", epoch)
    for batch in for_weights.shuffled(config.batch_size, seed=seed):
        if not frozen:
            architecture_step(
                state.network,
                state.arch_optimizer,
                next(arch_batches),
                grad_clip=config.arch_grad_clip,
                unrolled=(state.optimizer, batch) if config.unrolled else None,
            )
        results.append(
            weight_step(state.network, state.optimizer, batch, grad_clip=config.grad_clip)
        )
        if len(results) % report_every == 0:
            totals = torch.stack(results).sum(0)
            rate = float(totals[2]) / (time.perf_counter() - start)
            yield Progress(epoch, len(results), *means(totals, epoch), rate)
    totals = torch.stack(results).sum(0)
    train_loss, train_accuracy = means(totals, epoch)
    images_per_second = float(totals[2]) / (time.perf_counter() - start)
    valid_loss, valid_accuracy = means(_validate(state.network, for_arch, config), epoch)

    metrics = {
        "epoch": epoch,
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "valid_loss": valid_loss,
        "valid_accuracy": valid_accuracy,
        "learning_rate": state.optimizer.param_groups[0]["lr"],
        "arch_learning_rate": 0.0 if frozen else config.arch_learning_rate,
        "images_per_second": round(images_per_second, 1),
        "seconds": round(time.perf_counter() - start, 3),
    }
    state.epochs_done = epoch + 1
    folder.append_metrics(metrics)
    folder.append_architecture({"epoch": epoch, **state.architecture()})
    folder.write_genotype(state.network.genotype().to_json())
    save_checkpoint(folder, state.checkpoint())
    yield EpochDone(metrics)


def _endless_batches(images: ImageSet, config: SearchConfig, epoch: int) -> Iterator[Batch]:
    """Shuffled passes one after another: the part may be smaller than that of the weights."""
    for lap in count():
        seed = derive_seed(config.seed, "architecture", epoch, lap)
        yield from images.shuffled(config.batch_size, seed=seed)


@torch.no_grad()
def _validate(network: SearchNetwork, images: ImageSet, config: SearchConfig) -> Tensor:
    network.eval()
    results = [tally(network(x), labels) for x, labels in images.ordered(config.batch_size)]
    return torch.stack(results).sum(0)
