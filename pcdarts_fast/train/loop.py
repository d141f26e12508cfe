"""Trains a derived network from scratch (paper section 4.2), from the first image to the accuracy.

All that it leaves behind is in the run folder (`run/folder.py`). Under `torchrun` every process
runs this loop on its share of every batch, and the first one alone writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data import Dataset, load, row_of, steps
from ..errors import UserError
from ..files import write_atomically
from ..nn.exported import TrainedOn, export
from ..run.checkpoint import save_checkpoint
from ..run.damaged import Damaged
from ..run.events import EpochDone, Notice, Stopped
from ..run.folder import RunFolder, read_lines
from ..run.opened import opened
from ..run.stop import Stop, never
from ..space import Genotype
from .config import TrainConfig
from .epoch import epoch_of_training
from .events import Event, Finished, Started
from .state import TrainState, new_state

MAY_CHANGE = {"data_dir", "workers", "damaged_images", "device"}
"""Settings that a resumed run need not repeat: they say where and how it computes, not what."""


def train(
    config: TrainConfig,
    genotype: Genotype | None,
    output_dir: str | Path,
    *,
    resume: bool = False,
    stop: Stop = never,
) -> Iterator[Event]:
    """Trains the network of `genotype` and yields what happens; the last event holds the accuracy.

    With `resume` the run in `output_dir` goes on where its checkpoint was written: on the CPU it
    ends in the same bits as a run that was never stopped. `config` may then differ from the run's
    in `MAY_CHANGE` only, and `genotype` may be None for the run's own. `stop` is asked after every
    step and batch of a test; when it says true, a checkpoint is written and the last event is
    `Stopped`.

    Raises:
        UserError: data, settings, genotype or folder cannot be used, or the loss is not finite.
    """
    if genotype is None and not resume:
        raise UserError("no genotype to train; name one with --genotype FILE or NAME")
    with opened(
        output_dir, device=config.device, batch_size=config.batch_size, resume=resume, stop=stop
    ) as run:
        group, folder = run.group, run.folder
        checkpoint, note = run.load(config, MAY_CHANGE)
        genotype = group.agree_on(_genotype_of, folder, genotype)
        torch.manual_seed(config.seed)
        damaged = Damaged(config.damaged_images == "skip")
        data = _load(config, run.device, damaged)
        total_steps = steps(len(data.train.labels), config.batch_size, group.count)
        if not total_steps:
            raise UserError(
                f"{len(data.train.labels)} training images are too few for one step "
                f"of {group.count} process{'es' * (group.count > 1)}, which takes two for each"
            )
        state = new_state(config, genotype, data, run.device, group)
        if checkpoint:
            state.restore(checkpoint)
        run.record(config, state, backend="torch", seed=config.seed)
        group.agree_on(folder.write_genotype, genotype.to_json())
        yield Started(
            folder=folder.path,
            device=run.device,
            parameters=sum(p.numel() for p in state.network.parameters()),
            train_images=len(data.train.labels),
            test_images=len(data.test.labels),
            epochs_done=state.epochs_done,
            epochs=config.epochs,
            steps=total_steps,
        )
        if note:
            yield Notice(note)
        for epoch in range(state.epochs_done, config.epochs):
            metrics = yield from epoch_of_training(run, config, state, data)
            yield from damaged.notices(group)
            if metrics is None:
                yield Stopped(epoch, state.steps_done)
                return
            group.agree_on(_commit, folder, metrics, state.checkpoint())
            yield EpochDone(metrics)
        group.agree_on(_export, folder, config, state, genotype, data)
        last = group.agree_on(lambda: read_lines(folder.metrics)[-1])
        yield Finished(last, folder.path)


def _load(config: TrainConfig, device: str, damaged: Damaged) -> Dataset:
    usual = row_of(config.preset).augment
    return load(
        config.preset,
        config.data_dir,
        device=device,
        image_size=config.image_size,
        workers=config.workers,
        augment=replace(usual, cutout=config.cutout, color_jitter=config.color_jitter),
        damaged=damaged.paths,
    )


def _genotype_of(folder: RunFolder, genotype: Genotype | None) -> Genotype:
    """The one of a resumed run, which `genotype` may repeat; of a new run `genotype`."""
    if genotype is not None and not folder.genotype.exists():
        return genotype  # of a new run, or of one that was killed right behind its settings
    of_run = Genotype.load(folder.genotype)
    if genotype not in (None, of_run):
        raise UserError(
            f"--genotype is another one than the run in {folder.path} trains; "
            "leave the option out, or start anew in another --output-dir"
        )
    return of_run


def _commit(folder: RunFolder, metrics: dict[str, Any], checkpoint: dict[str, Any]) -> None:
    """An epoch on the disk; the checkpoint comes last and makes it count."""
    folder.append_metrics(metrics)
    save_checkpoint(folder, checkpoint)


def _export(
    folder: RunFolder, config: TrainConfig, state: TrainState, genotype: Genotype, data: Dataset
) -> None:
    content = export(
        state.network,
        genotype,
        TrainedOn(data.test.mean, data.test.std, data.classes, data.image_size),
        C=config.init_channels,
        num_classes=data.num_classes,
        layers=config.layers,
        in_channels=data.in_channels,
        stem=config.stem,
    )
    write_atomically(folder.weights, content)
