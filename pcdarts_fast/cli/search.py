"""`pcdarts search`: options, progress, and what was found."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from ..errors import UserError
from ..run.config import SearchConfig
from ..run.folder import RunFolder
from ..run.launcher import rank
from ..run.presets import PRESETS, search_config
from ..run.seeds import seed_folder
from ..run.stop import StopRequest
from ..space import Genotype
from .console import plain_console, say
from .follow import follow, interrupting
from .interrupted import Interrupted
from .options import output_folder, resuming_command, same_command, starting_settings
from .parse import parse
from .report import PAGE
from .seeds import parse_seeds
from .show import print_cells

EXAMPLES = """\
pcdarts search                                    digits, from scikit-learn
pcdarts search --preset cifar10 --data-dir data   the setting of the paper
pcdarts search --resume --output-dir runs/search-digits"""

MOST_USED = {
    "preset": f"{', '.join(PRESETS)}.",
    "data_dir": "Folder of the data set's files.",
    "output_dir": "Folder; new: runs/search-PRESET.",
    "resume": "Go on with the run there.",
    "layers": "Cells of the super-net.",
    "k": "One channel in K is mixed.",
    "epochs": "Passes over the training part.",
    "batch_size": "Images of a step.",
    "device": "Where to compute.",
}


@dataclass(frozen=True)
class Search:
    """Searches a cell for your images; without options, for handwritten digits."""

    config: tyro.conf.OmitArgPrefixes[SearchConfig]
    output_dir: Path | None = None
    """Folder for everything the search leaves behind; None: runs/search-PRESET, or the first free
    runs/search-PRESET-2, -3, ..."""
    resume: bool = False
    """Go on with the run in --output-dir, from its last checkpoint."""
    tensorboard: bool = False
    """Write everything for TensorBoard too, into the run folder's folder `tensorboard`."""
    seeds: Annotated[str | None, tyro.conf.arg(metavar="FIRST..LAST")] = None
    """Search once with every seed, in folders of their own, and take the genotype of the best."""


def main(args: list[str]) -> int:
    """Runs the command; 0 when a genotype was found.

    Raises:
        UserError: options, data or folder cannot be used.
        Interrupted: Ctrl-C, SIGTERM or SIGHUP; its text says how to go on.
    """
    start = Search(starting_settings(args, SearchConfig, search_config))
    command = parse(Search, args, examples=EXAMPLES, default=start, most_used=MOST_USED)
    with output_folder(command.output_dir, f"search-{command.config.preset}") as folder:
        _search_and_show(command, args, folder)
    return 0


def _search_and_show(command: Search, args: list[str], folder: Path) -> None:
    # Takes seconds to import, and --help does without.
    from ..report.commands import train_command
    from ..report.draw import draw_genotype
    from ..report.page import write_report
    from ..search.seeds import SUMMARY

    console = plain_console(quiet=rank() > 0)
    if command.seeds is not None:
        go_on = same_command("search", args, command.output_dir, folder)
        _search_seeds(command, folder, console, go_on)
    else:
        go_on = resuming_command("search", folder, tensorboard=command.tensorboard)
        _search(command, command.config, folder, console, resume=command.resume, go_on=go_on)
    if rank() > 0:
        return
    run = RunFolder(folder)
    genotype = Genotype.load(run.genotype)
    drawing = folder / "genotype.svg"
    draw_genotype(genotype, drawing)
    if command.seeds is not None:
        write_report([folder], folder / PAGE)
    say(console, "")
    print_cells(console, genotype)
    numbers = folder / SUMMARY if command.seeds else run.metrics
    say(
        console,
        f"\ngenotype  {run.genotype}\n"
        f"drawing   {drawing}\n"
        f"report    {folder / PAGE}\n"
        f"{'seeds    ' if command.seeds else 'metrics  '} {numbers}\n\n"
        "Next, train the network it describes:\n"
        f"  {train_command(run.genotype, command.config)}",
    )


def _search(
    command: Search,
    config: SearchConfig,
    folder: Path,
    console: Console,
    *,
    resume: bool,
    go_on: str,
    more: bool = False,
) -> None:
    """One search to its end, and its report; `more` of them are to follow."""
    from ..report.page import write_report
    from ..report.tensorboard import check_installed, logged
    from ..search import search

    if command.tensorboard:
        check_installed()
    stop = StopRequest()
    events = search(config, folder, resume=resume, stop=stop)
    follow(
        logged(events) if command.tensorboard and rank() == 0 else events,
        console,
        stop,
        go_on=go_on,
        introduce=_introduce,
        summarize=_summarize,
    )
    stopped = stop.signal  # after the last step
    if rank() == 0:
        write_report([folder], folder / PAGE)
        stopped = stopped or _time_naive(folder, console)
        write_report([folder], folder / PAGE)
    if stopped and more:
        raise Interrupted(stopped, "stopped between two seeds", go_on)


def _time_naive(folder: Path, console: Console) -> signal.Signals | None:
    """For the report, which is worth more than what can go wrong here.

    Returns the signal that has stopped it.
    """
    from ..search.naive_time import time_against_naive

    def begin() -> None:
        note = "timing a few steps of the naive super-net for the report; Ctrl-C leaves that out"
        say(console, note)

    stop = StopRequest()
    try:
        with stop:
            time_against_naive(folder, stop, begin)
    except (UserError, RuntimeError, MemoryError, KeyboardInterrupt) as error:
        reason = str(error) or "it was stopped"
        say(console, f"note: no estimate of naive's time: {reason}")
    return stop.signal


def _search_seeds(command: Search, folder: Path, console: Console, go_on: str) -> None:
    """One search after another; those that `folder` holds already go on, or are done."""
    from ..search.seeds import compare_seeds

    seeds = parse_seeds(command.seeds or "")
    if command.resume:
        raise UserError("--seeds goes on by itself with the searches in --output-dir; no --resume")
    if command.config.seed != search_config(command.config.preset).seed:
        raise UserError(f"--seed {command.config.seed} is for one search; leave it out")
    RunFolder(folder).check_holds_others()
    with interrupting(go_on):  # between two searches
        for seed in seeds:
            own = seed_folder(folder, seed)
            config = replace(command.config, seed=seed)
            more, resume = seed != seeds[-1], RunFolder(own).begun
            _search(command, config, own, console, resume=resume, go_on=go_on, more=more)
    if rank() > 0:
        return
    result = compare_seeds(folder, seeds)
    for seed, accuracy in result.accuracies.items():
        best = "  best" if seed == result.best else ""
        say(console, f"seed {seed:3}  valid {accuracy:6.2%}{best}")
    if result.deviation is not None:
        say(console, f"mean {result.mean:.2%}, standard deviation {result.deviation:.2%}")


def _introduce(started: Any) -> str:
    resumed = f", going on after epoch {started.epochs_done}" if started.epochs_done else ""
    return (
        f"Searching in {started.folder} ({started.backend} backend, {started.device}{resumed})\n"
        f"{started.weight_count:,} weights learn from {started.train_images:,} images, "
        f"{started.arch_count:,} architecture parameters from {started.valid_images:,} others"
    )


def _summarize(metrics: dict[str, Any]) -> str:
    frozen = "" if metrics["arch_learning_rate"] else "  (architecture frozen)"
    return (
        f"train {metrics['train_loss']:.3f} {metrics['train_accuracy']:6.1%}  "
        f"valid {metrics['valid_loss']:.3f} {metrics['valid_accuracy']:6.1%}  "
        f"{metrics['images_per_second']:,.0f} images/s  {metrics['seconds']:.1f} s{frozen}"
    )
