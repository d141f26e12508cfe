"""`pcdarts train`: options, progress, and the accuracy on images never trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..errors import UserError
from ..run.folder import RunFolder
from ..run.launcher import rank
from ..run.presets import PRESETS
from ..run.stop import StopRequest
from ..space import Genotype
from ..train.config import TrainConfig
from ..train.presets import train_config
from .console import plain_console, say
from .follow import follow
from .options import output_folder, resuming_command, starting_settings
from .parse import parse
from .report import PAGE

EXAMPLES = """\
pcdarts train --genotype runs/search-digits/genotype.json --preset digits
pcdarts train --genotype PC_DARTS_cifar --preset cifar10 --data-dir data
pcdarts train --resume --output-dir runs/train-digits"""

MOST_USED = {
    "genotype": "A file, run or published name.",
    "preset": f"{', '.join(PRESETS)}.",
    "data_dir": "Folder of the data set's files.",
    "output_dir": "Folder; new: runs/train-PRESET.",
    "resume": "Go on with the run there.",
    "init_channels": "Channels of the first cells.",
    "layers": "Cells of the network.",
    "epochs": "Passes over the images.",
    "batch_size": "Images of a step.",
    "device": "Where to compute.",
}


@dataclass(frozen=True)
class Train:
    """Trains the network of a genotype from scratch and tests it after every epoch."""

    config: tyro.conf.OmitArgPrefixes[TrainConfig]
    genotype: Annotated[str | None, tyro.conf.arg(metavar="GENOTYPE")] = None
    """Genotype: a JSON file, the folder of a run, or a published name (not with --resume)."""
    output_dir: Path | None = None
    """Folder for everything the training leaves behind. None:
    runs/train-PRESET, or the first free one of runs/train-PRESET-2, -3, ..."""
    resume: bool = False
    """Go on with the run in --output-dir, from its last checkpoint."""
    tensorboard: bool = False
    """Write everything for TensorBoard too, into the run folder's folder `tensorboard`."""


def main(args: list[str]) -> int:
    """Runs the command; 0 when the last epoch is done.

    Raises:
        UserError: options, genotype, data or folder cannot be used.
        Interrupted: Ctrl-C, SIGTERM or SIGHUP; its text says how to go on.
    """
    if args and not args[0].startswith("-"):  # as in the commands that have genotypes only
        raise UserError(f"the genotype to train is an option: --genotype {args[0]}")
    start = Train(starting_settings(args, TrainConfig, lambda preset, _: train_config(preset)))
    command = parse(Train, args, examples=EXAMPLES, default=start, most_used=MOST_USED)
    genotype = Genotype.load(command.genotype) if command.genotype else None
    with output_folder(command.output_dir, f"train-{command.config.preset}") as folder:
        _train(command, genotype, folder)
    return 0


def _train(command: Train, genotype: Genotype | None, folder: Path) -> None:
    # Takes seconds to import, and --help does without.
    from ..report.page import write_report
    from ..report.tensorboard import check_installed, logged
    from ..train.loop import train

    if command.tensorboard:
        check_installed()
    go_on = resuming_command("train", folder, tensorboard=command.tensorboard)
    console, stop = plain_console(quiet=rank() > 0), StopRequest()
    events = train(command.config, genotype, folder, resume=command.resume, stop=stop)
    finished = follow(
        logged(events) if command.tensorboard and rank() == 0 else events,
        console,
        stop,
        go_on=go_on,
        introduce=introduce,
        summarize=summarize,
    )
    if rank() > 0:
        return
    write_report([folder], folder / PAGE)
    metrics, run = finished.metrics, RunFolder(folder)
    say(
        console,
        f"\ntest accuracy  {metrics['test_accuracy']:.2%} (loss {metrics['test_loss']:.4f})\n"
        f"metrics        {run.metrics}\n"
        f"report         {folder / PAGE}\n"
        f"weights        {run.weights}",
    )


def introduce(started: Any) -> str:
    """Where it trains, and with how much."""
    resumed = f", going on after epoch {started.epochs_done}" if started.epochs_done else ""
    return (
        f"Training in {started.folder} ({started.device}{resumed})\n"
        f"{started.parameters:,} parameters learn from {started.train_images:,} images, "
        f"{started.test_images:,} others test them"
    )


def summarize(metrics: dict[str, Any]) -> str:
    """The line of an epoch."""
    return (
        f"train {metrics['train_loss']:.3f} {metrics['train_accuracy']:6.1%}  "
        f"test {metrics['test_loss']:.3f} {metrics['test_accuracy']:6.1%}  "
        f"{metrics['images_per_second']:,.0f} images/s  {metrics['seconds']:.1f} s"
    )
