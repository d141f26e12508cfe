"""`pcdarts compare`: several genotypes on one training budget, and which is better."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.table import Table

from ..errors import UserError
from ..run.folder import RunFolder
from ..run.launcher import started_by_torchrun
from ..run.presets import images_of, search_config
from ..run.stop import StopRequest
from ..train.config import TrainConfig
from ..train.presets import train_config
from .console import plain_console, say
from .follow import follow, interrupting
from .interrupted import Interrupted
from .options import output_folder, same_command, starting_settings
from .parse import parse
from .report import PAGE
from .seeds import parse_seeds
from .train import introduce, summarize

if TYPE_CHECKING:  # takes seconds to import, and --help does without
    from ..train.compare import Contestant, Result

EXAMPLES = """\
pcdarts compare runs/search-digits/genotype.json DARTS_V2 random:8
pcdarts compare PC_DARTS_cifar random:8 --preset cifar10 --seeds 0..4"""

MOST_USED = {
    "genotypes": "Files, runs, published names, random:N.",
    "preset": "Settings, such as cifar10.",
    "data_dir": "Folder of the data set's files.",
    "output_dir": "Folder of all trainings.",
    "seeds": "Of the trainings.",
    "random_seed": "Of the random genotypes.",
    "epochs": "Passes over the images.",
    "batch_size": "Images of a step.",
    "device": "Where to compute.",
}


@dataclass(frozen=True)
class Compare:
    """Trains several genotypes on one budget and ranks them by test accuracy."""

    genotypes: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="GENOTYPE...", help_behavior_hint="(required)"),
    ]
    """JSON files, folders of runs, published names, and random:N for N random genotypes."""
    config: tyro.conf.OmitArgPrefixes[TrainConfig]
    seeds: Annotated[str, tyro.conf.arg(metavar="FIRST..LAST")] = "0..2"
    """Train every genotype once with each of these seeds."""
    random_seed: int = 0
    """The random genotypes are drawn with this seed and the ones after it."""
    output_dir: Path | None = None
    """Folder for compare.json and all trainings; the same command with a folder that was begun
    goes on in it. None: runs/compare-PRESET, or the first free runs/compare-PRESET-2, -3, ..."""


def main(args: list[str]) -> int:
    """Runs the command; 0 when every training is done.

    Raises:
        UserError: options, a genotype, data or folder cannot be used.
        Interrupted: Ctrl-C, SIGTERM or SIGHUP; its text says how to go on.
    """
    if "--resume" in args:
        raise UserError("compare goes on by itself with the trainings in --output-dir; no --resume")
    settings = starting_settings(args, TrainConfig, lambda preset, _: train_config(preset))
    start = Compare((), settings)
    command = parse(Compare, args, examples=EXAMPLES, default=start, most_used=MOST_USED)
    if started_by_torchrun():
        raise UserError(
            "compare works in one process; what `torchrun ... train` leaves in a folder "
            "NAME/seed-S of its --output-dir, it takes as done"
        )
    if command.config.seed != settings.seed:
        raise UserError(f"--seed {command.config.seed} is for one training; give --seeds 0..2")
    seeds = parse_seeds(command.seeds)

    # Takes seconds to import, and --help does without.
    from ..train.compare import contestants

    preset = command.config.preset
    field = contestants(
        command.genotypes, seed=command.random_seed, nodes=search_config(preset).nodes
    )
    with output_folder(command.output_dir, f"compare-{preset}") as folder:
        RunFolder(folder).check_holds_others()
        go_on = same_command("compare", args, command.output_dir, folder)
        with interrupting(go_on):  # between two trainings
            _compare(command.config, field, seeds, folder, go_on)
    return 0


def _compare(
    config: TrainConfig, field: Sequence[Contestant], seeds: range, folder: Path, go_on: str
) -> None:
    """Seed by seed, so that a comparison looked at early has been fair to all."""
    from ..report.page import write_report
    from ..report.read import COMPARISON
    from ..train.compare import is_finished, random_means, results, save_comparison, training_folder
    from ..train.loop import train

    console, summary = plain_console(), folder / COMPARISON
    _, (_, size, _) = images_of(config.preset, config.image_size)
    trainings = [
        (one, replace(config, seed=seed), training_folder(folder, one, seed))
        for seed in seeds
        for one in field
    ]
    to_do = [t for t in trainings if not is_finished(t[2], t[1], t[0].genotype)]
    say(
        console,
        f"Comparing {len(field)} genotypes, {len(seeds)} seeds, in {folder}: "
        f"{len(trainings)} trainings, {len(trainings) - len(to_do)} of them done before",
    )

    def save() -> list[Result]:
        """Writes what is done so far; the file also tells others what the folder is."""
        reached = results(folder, field, seeds, size)
        save_comparison(summary, config, seeds, reached, len(trainings))
        return reached

    def begin(started: Any) -> str:
        if not summary.exists():
            save()
        return introduce(started)

    for number, (one, own, own_folder) in enumerate(to_do, len(trainings) - len(to_do) + 1):
        say(console, f"\n{number}/{len(trainings)}  {one.name}, seed {own.seed}")
        stop = StopRequest()
        begun = RunFolder(own_folder).begun
        follow(
            train(own, one.genotype, own_folder, resume=begun, stop=stop),
            console,
            stop,
            go_on=go_on,
            introduce=begin,
            summarize=summarize,
        )
        write_report([own_folder], own_folder / PAGE)
        save()
        if stop.signal and number < len(trainings):  # after the last step
            raise Interrupted(stop.signal, "stopped between two trainings", go_on)
    reached = save()
    console.print("", comparison_table(reached), sep="\n")
    drawn = random_means(reached)
    if len(drawn) > 1:
        say(
            console,
            f"{len(drawn)} random genotypes: mean {statistics.mean(drawn):.2%}, "
            f"deviation of their means {100 * statistics.stdev(drawn):.2f}, "
            f"best {max(drawn):.2%}",
        )
    say(console, f"\nnumbers  {summary}")


def comparison_table(reached: Sequence[Result]) -> Table:
    """One row a genotype, best first; accuracies and their deviation in percent."""
    seeds = len(reached[0].accuracies)
    table = Table(
        caption=f"Accuracy on test images after the last epoch, in percent; {seeds} "
        f"training{'s' * (seeds > 1)} each, sample standard deviation. Parameters without the "
        "auxiliary head, multiply-adds of one image.",
        caption_justify="left",
    )
    table.add_column("rank", justify="right")
    table.add_column("genotype", overflow="fold")
    for heading in ("mean", "deviation", "parameters", "multiply-adds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in reached:
        table.add_row(
            str(result.rank),
            result.contestant.name,
            f"{100 * result.mean:.2f}",
            "" if result.deviation is None else f"{100 * result.deviation:.2f}",
            f"{result.parameters:,}",
            f"{result.multiply_adds:,}",
        )
    return table
