"""`pcdarts search`: options, progress, and what was found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from ..run.config import SearchConfig
from ..run.launcher import rank
from ..run.presets import search_config
from ..run.stop import StopRequest
from .follow import follow
from .options import output_folder, starting_settings
from .show import cell_table


@dataclass(frozen=True)
class Search:
    """Searches a cell for your images; without options, for the digits that scikit-learn ships."""

    config: tyro.conf.OmitArgPrefixes[SearchConfig]
    output_dir: Path | None = None
    """Folder for everything the search leaves behind; None: runs/search-PRESET, or the first free
    runs/search-PRESET-2, -3, ..."""
    resume: bool = False
    """Go on with the run in --output-dir after its last whole epoch."""


def main(args: list[str]) -> int:
    """Runs the command; 0 when a genotype was found.

    Raises:
        UserError: options, data or folder cannot be used.
        Interrupted: Ctrl-C or SIGTERM; its text says how to go on.
    """
    start = Search(starting_settings(args, SearchConfig, search_config))
    command = tyro.cli(Search, prog="pcdarts search", default=start, args=args)
    config = command.config
    folder = output_folder(command.output_dir, f"search-{config.preset}")

    # Takes seconds to import, and --help does without.
    from ..report.draw import draw_genotype
    from ..search import search

    console, stop = Console(quiet=rank() > 0), StopRequest()
    finished = follow(
        search(config, folder, resume=command.resume, stop=stop),
        console,
        stop,
        go_on=f"pcdarts search --resume --output-dir {folder}",
        introduce=_introduce,
        summarize=_summarize,
    )
    if rank() > 0:
        return 0
    genotype = finished.genotype
    drawing = folder / "genotype.svg"
    draw_genotype(genotype, drawing)
    console.print("\nNormal cell", cell_table(genotype.normal, genotype.normal_concat), sep="\n")
    console.print("\nReduction cell", cell_table(genotype.reduce, genotype.reduce_concat), sep="\n")
    console.print(
        f"\ngenotype  {folder / 'genotype.json'}\n"
        f"drawing   {drawing}\n"
        f"metrics   {folder / 'metrics.jsonl'}\n\n"
        "Next, train the network it describes:\n"
        f"  pcdarts train --genotype {folder / 'genotype.json'} --preset {config.preset}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


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
