"""The commands to go on with after a run, ready to be copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..run.config import SearchConfig
from ..run.folder import RunFolder
from ..run.launcher import command_line
from ..run.presets import search_config
from ..train.config import TrainConfig
from ..train.presets import train_config
from .read import Run

Command = tuple[str, str]
"""What it does, and what to type."""


def commands(run: Run) -> list[Command]:
    """What one would do next, the likeliest first."""
    folder = str(run.path)
    genotype = str(RunFolder(run.path).genotype)
    processes = _processes(run)
    found: list[Command] = []
    if not run.finished:
        line = _typed(run.kind, "--resume", "--output-dir", folder, processes=processes)
        found.append(("Go on with this run", line))
    if run.kind == "search":
        found.append(("Train the network that was found", train_command(genotype, run.config)))
        compare = _typed("compare", genotype, "DARTS_V2", "random:8", *_to_train_on(run.config))
        found.append(("Compare it with a published and with random genotypes", compare))
    elif run.finished:
        found.append(("Export the trained network", _typed("export", folder, "-o", "net.onnx")))
    if run.genotype is not None:
        count = _typed("count", genotype, *same_images(run.config, "image_size"))
        found.append(("Count its parameters", count))
    again = "Search again with the same settings"
    if run.kind == "train":
        again = "Train again with the same settings"
    first = ["--genotype", genotype] if run.kind == "train" else []
    line = _typed(run.kind, *first, *changed_options(run.config), processes=processes)
    found.append((again, line))
    return found


def _processes(run: Run) -> int | None:
    """How many torchrun started for the run, the last time; taken to be those of one machine."""
    count = run.environments[-1].get("processes") if run.environments else None
    return count if isinstance(count, int) and count > 1 else None


def train_command(genotype: Path | str, config: SearchConfig | TrainConfig) -> str:
    """Trains a genotype on the images of a run."""
    return _typed("train", "--genotype", genotype, *_to_train_on(config))


def _to_train_on(config: SearchConfig | TrainConfig) -> list[str]:
    return same_images(config, "data_dir", "image_size", "stem", "damaged_images")


def same_images(config: SearchConfig | TrainConfig, *names: str) -> list[str]:
    """The preset of a run, and what of `names` a training with it would have otherwise."""
    try:
        usual: Any = train_config(config.preset)
    except UserError:  # a data set that this installation does not have
        usual = config
    return ["--preset", config.preset, *_options(config, _differing(config, usual, names))]


def changed_settings(config: SearchConfig | TrainConfig) -> list[str]:
    """The names of the settings that differ from those of the preset, and of the variant."""
    try:
        if isinstance(config, SearchConfig):
            usual: Any = search_config(config.preset, config.variant)
        else:
            usual = train_config(config.preset)
    except UserError:  # a data set that this installation does not have
        usual = config
    return _differing(config, usual, [field.name for field in fields(config)])


def changed_options(config: SearchConfig | TrainConfig) -> list[str]:
    """The options that give these settings: the preset, and what differs from it."""
    options = ["--preset", config.preset]
    if isinstance(config, SearchConfig) and config.variant != "paper":
        options += ["--variant", config.variant]
    return options + _options(config, changed_settings(config))


def _differing(config: Any, usual: Any, names: Sequence[str]) -> list[str]:
    return [name for name in names if getattr(config, name) != getattr(usual, name)]


def _options(config: Any, names: Sequence[str]) -> list[str]:
    options = [_option(name.replace("_", "-"), getattr(config, name)) for name in names]
    return [word for option in options for word in option]


def _option(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, tuple) else (value,)
    return [f"--{name}", *(str(v) for v in values)]


def _typed(*words: str | Path, processes: int | None = None) -> str:
    return command_line(*map(str, words), processes=processes)
