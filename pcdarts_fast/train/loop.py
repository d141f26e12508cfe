"""Trains a derived network from scratch (paper section 4.2), from the first image to the accuracy.

All that it leaves behind is in the run folder (`run/folder.py`).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD

from ..data import DATASETS, Dataset, ImageSet, derive_seed, load, steps
from ..errors import UserError
from ..nn.derived import DerivedNetwork
from ..run.checkpoint import (
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
)
from ..run.device import pick_device
from ..run.environment import environment, record_environment
from ..run.events import EpochDone, Notice, Progress
from ..run.folder import RunFolder, read_lines
from ..run.settings import check_unchanged, load_settings, save_settings
from ..run.tally import means, tally
from ..space import Genotype
from .config import TrainConfig
from .events import Event, Finished, Started
from .schedule import drop_path_probability, learning_rate

MAY_CHANGE = {"data_dir", "workers", "device"}
"""Settings that a resumed run need not repeat: they say where and how it computes, not what."""

REPORTS_PER_EPOCH = 50
"""How often, at most, an epoch waits for the device to read the loss."""


def train(
    config: TrainConfig, genotype: Genotype | None, output_dir: Path, *, resume: bool = False
) -> Iterator[Event]:
    """Trains the network of `genotype` and yields what happens; the last event holds the accuracy.

    With `resume` the run in `output_dir` goes on after its last whole epoch: on the CPU it ends in
    the same bits as a run that was never stopped. `config` may then differ from the run's in
    `MAY_CHANGE` only, and `genotype` may be None for the run's own.

    Raises:
        UserError: data, settings, genotype or folder cannot be used, or the loss is not finite.
    """
    if genotype is None and not resume:
        raise UserError("no genotype to train; name one with --genotype FILE or NAME")
    with RunFolder.open(output_dir) if resume else RunFolder.create(output_dir) as folder:
        if resume:
            check_unchanged(load_settings(TrainConfig, folder.config), config, MAY_CHANGE)
        if resume or genotype is None:
            genotype = _genotype_of_run(folder, genotype)
        device = pick_device(config.device)
        torch.manual_seed(config.seed)
        data = _load(config, device)
        network = DerivedNetwork(
            config.init_channels,
            data.num_classes,
            config.layers,
            genotype,
            auxiliary=config.auxiliary_weight > 0,
            stem=config.stem,
            in_channels=data.in_channels,
        ).to(device)
        optimizer = SGD(
            network.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        checkpoint, note = load_checkpoint(folder) if resume else (None, None)
        epochs_done = 0
        if checkpoint:
            epochs_done = checkpoint["epoch"]
            network.load_state_dict(checkpoint["network"])
            optimizer.load_state_dict(checkpoint["optimizer"])
            restore_random_state(checkpoint["random"])
        folder.cut_back(epochs_done)
        folder.write_genotype(genotype.to_json())
        save_settings(config, folder.config)
        record_environment(folder, environment(backend="torch", device=device, seed=config.seed))
        yield Started(
            folder=folder.path,
            device=device,
            parameters=sum(p.numel() for p in network.parameters()),
            train_images=len(data.train.labels),
            test_images=len(data.test.labels),
            epochs_done=epochs_done,
            epochs=config.epochs,
            steps=steps(len(data.train.labels), config.batch_size),
        )
        if note:
            yield Notice(note)
        for epoch in range(epochs_done, config.epochs):
            metrics = yield from _epoch(config, network, optimizer, data, epoch)
            folder.append_metrics(metrics)
            checkpoint = {
                "epoch": epoch + 1,
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "random": random_state(),
            }
            save_checkpoint(folder, checkpoint)
            yield EpochDone(metrics)
        yield Finished(read_lines(folder.metrics)[-1], folder.path)


def _epoch(
    config: TrainConfig, network: DerivedNetwork, optimizer: SGD, data: Dataset, epoch: int
) -> Generator[Event, None, dict[str, Any]]:
    """One pass over the training images and a test; returns the line for metrics.jsonl."""
    start = time.perf_counter()
    optimizer.param_groups[0]["lr"] = learning_rate(config, epoch)
    network.drop_path_prob = drop_path_probability(config, epoch)
    report_every = max(1, steps(len(data.train.labels), config.batch_size) // REPORTS_PER_EPOCH)
    results: list[Tensor] = []

    network.train()
    seed = derive_seed(config.seed, "train", epoch)
    for images, labels in data.train.shuffled(config.batch_size, seed=seed):
        with _autocast(config, images.device):
            logits, logits_aux = network(images)  # [B, num_classes]
        loss = _loss(config, logits, labels)
        if logits_aux is not None:
            loss = loss + config.auxiliary_weight * _loss(config, logits_aux, labels)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(network.parameters(), config.grad_clip)
        optimizer.step()
        results.append(tally(logits.detach(), labels))
        if len(results) % report_every == 0:
            totals = torch.stack(results).sum(0)
            rate = float(totals[2]) / (time.perf_counter() - start)
            yield Progress(epoch, len(results), *means(totals, epoch), rate)

    totals = torch.stack(results).sum(0)
    train_loss, train_accuracy = means(totals, epoch)
    images_per_second = float(totals[2]) / (time.perf_counter() - start)
    test_loss, test_accuracy = means(_test(config, network, data.test), epoch)
    return {
        "epoch": epoch,
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "learning_rate": optimizer.param_groups[0]["lr"],
        "drop_path": network.drop_path_prob,
        "images_per_second": round(images_per_second, 1),
        "seconds": round(time.perf_counter() - start, 3),
    }


@torch.no_grad()
def _test(config: TrainConfig, network: DerivedNetwork, images: ImageSet) -> Tensor:
    """Sum of tallies over all `images`."""
    network.eval()
    results = []
    for x, labels in images.ordered(config.batch_size):  # [B, C, H, W], [B]
        with _autocast(config, x.device):
            logits, _ = network(x)
        results.append(tally(logits, labels))
    return torch.stack(results).sum(0)


def _loss(config: TrainConfig, logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)


def _autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


def _load(config: TrainConfig, device: str) -> Dataset:
    usual = DATASETS[config.preset].augment
    return load(
        config.preset,
        config.data_dir,
        device=device,
        image_size=config.image_size,
        workers=config.workers,
        augment=replace(usual, cutout=config.cutout, color_jitter=config.color_jitter),
    )


def _genotype_of_run(folder: RunFolder, genotype: Genotype | None) -> Genotype:
    of_run = Genotype.load(folder.genotype)
    if genotype not in (None, of_run):
        raise UserError(
            f"--genotype is another one than the run in {folder.path} trains; "
            "leave the option out, or start anew in another --output-dir"
        )
    return of_run
