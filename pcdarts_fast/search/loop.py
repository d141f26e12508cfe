"""The bi-level search of PC-DARTS, from the first image to the genotype (paper section 4.2).

All that it leaves behind is in the run folder (`run/folder.py`). Under `torchrun` every process
runs this loop on its share of every batch, and the first one alone writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..data import ImageSet, load, split, steps
from ..errors import UserError
from ..run.checkpoint import save_checkpoint
from ..run.config import SearchConfig
from ..run.damaged import Damaged
from ..run.events import EpochDone, Notice, Stopped
from ..run.folder import RunFolder, read_lines
from ..run.opened import opened
from ..run.processes import Processes
from ..run.stop import Stop, never
from ..space import Genotype
from .ceilings import ceilings_of, counts, derived_cost, describe
from .epoch import epoch_of_search
from .events import Event, Finished, Started
from .state import SearchState, new_state

MAY_CHANGE = {"data_dir", "workers", "damaged_images", "backend", "device", "memory"}
"""Settings that a resumed run need not repeat: they say where and how it computes, not what."""


def search(
    config: SearchConfig, output_dir: str | Path, *, resume: bool = False, stop: Stop = never
) -> Iterator[Event]:
    """Runs a search and yields what happens; the last event holds the genotype.

    With `resume` the run in `output_dir` goes on where its checkpoint was written: on the CPU it
    ends in the same bits as a run that was never stopped. `config` may then differ from the run's
    in `MAY_CHANGE` only. `stop` is asked after every step and batch of a validation; when it says
    true, a checkpoint is written and the last event is `Stopped`.

    Raises:
        UserError: data, settings or folder cannot be used, or the loss is no longer finite.
    """
    with opened(
        output_dir, device=config.device, batch_size=config.batch_size, resume=resume, stop=stop
    ) as run:
        group, folder = run.group, run.folder
        checkpoint, note = run.load(config, MAY_CHANGE)
        torch.manual_seed(config.seed)
        damaged = Damaged(config.damaged_images == "skip")
        data = load(
            config.preset,
            config.data_dir,
            device=run.device,
            image_size=config.image_size,
            workers=config.workers,
            damaged=damaged.paths,
        )
        fractions = (config.train_fraction, config.valid_fraction)
        for_weights, for_arch = split(data.train, fractions, seed=config.seed, classes=data.classes)
        _check_parts(config, group, for_weights, for_arch)
        state = new_state(config, data, run.device, group)
        ceilings = ceilings_of(config, data)
        if checkpoint:
            state.restore(checkpoint)
        run.record(config, state, backend=state.backend, seed=config.seed)
        yield Started(
            folder=folder.path,
            device=run.device,
            backend=state.backend,
            weight_count=sum(p.numel() for p in state.network.weight_parameters()),
            arch_count=sum(p.numel() for p in state.network.arch_parameters()),
            train_images=len(for_weights.labels),
            valid_images=len(for_arch.labels),
            epochs_done=state.epochs_done,
            epochs=config.epochs,
            steps=steps(len(for_weights.labels), config.batch_size, group.count),
        )
        for text in [
            *([note] if note else []),
            *_doubts(config, len(for_weights.labels), run.device),
        ]:
            yield Notice(text)
        last = group.agree_on(_last_metrics, folder)
        epochs = range(state.epochs_done, 0 if config.ends_after(last) else config.epochs)
        for epoch in epochs:
            metrics = yield from epoch_of_search(run, config, state, for_weights, for_arch)
            yield from damaged.notices(group)
            if metrics is None:
                yield Stopped(epoch, state.steps_done)
                return
            genotype = state.network.genotype(ceilings)
            group.agree_on(_commit, folder, config, state, metrics, genotype, state.checkpoint())
            yield EpochDone(metrics)
            if config.ends_after(metrics):
                of = "the epoch before" if epoch else "this first epoch"
                yield Notice(
                    f"the normal cell has {metrics['skips']} skip connections, so the search "
                    f"ends as --stop-at-skips {config.stop_at_skips} says; "
                    f"the genotype is that of {of}"
                )
                break
        found = group.agree_on(Genotype.load, folder.genotype)
        if counts(config):
            yield Notice(
                f"the derived network ({config.derived_init_channels} channels, "
                f"{config.derived_layers} cells) has "
                f"{describe(derived_cost(config, data, found))}"
            )
        yield Finished(found, folder.path)


def _check_parts(
    config: SearchConfig, group: Processes, for_weights: ImageSet, for_arch: ImageSet
) -> None:
    for name, part in (("--train-fraction", for_weights), ("--valid-fraction", for_arch)):
        if not steps(len(part.labels), config.batch_size, group.count):
            raise UserError(
                f"{name} leaves {len(part.labels)} images, too few for one step "
                f"of {group.count} processes; take a larger fraction"
            )


def _last_metrics(folder: RunFolder) -> dict[str, Any] | None:
    lines = read_lines(folder.metrics)
    return lines[-1] if lines else None


def _commit(
    folder: RunFolder,
    config: SearchConfig,
    state: SearchState,
    metrics: dict[str, Any],
    genotype: Genotype,
    checkpoint: dict[str, Any],
) -> None:
    """An epoch on the disk; the checkpoint comes last and makes it count."""
    folder.append_metrics(metrics)
    folder.append_architecture({"epoch": metrics["epoch"], **state.architecture()})
    if not (config.ends_after(metrics) and folder.genotype.exists()):
        folder.write_genotype(genotype.to_json())
    save_checkpoint(folder, checkpoint)


def _doubts(config: SearchConfig, train_images: int, device: str) -> Iterator[str]:
    """Why the genotype will be little better than a random one, or the search slow, where the
    settings make it so.
    """
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
    if train_images < config.batch_size:
        yield (
            f"an epoch is one step of {train_images} images, fewer than --batch-size "
            f"{config.batch_size}: larger --train-fraction and --valid-fraction give more of them"
        )
    if config.precision == "fp16" and device == "cpu" and config.backend != "reference":
        yield (
            "the CPU engine has no fp16: the search runs on the reference backend, many times "
            "slower than with --precision bf16 or fp32"
        )
