"""What the options of a command begin with: a preset's settings or a run's, and a folder."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ..errors import UserError
from ..run.config import SearchConfig
from ..run.folder import RunFolder, free_folder
from ..run.launcher import as_started, started_by_torchrun
from ..run.settings import Settings, load_settings

S = TypeVar("S", bound=Settings)


def starting_settings(args: Sequence[str], kind: type[S], preset: Callable[[str, str], S]) -> S:
    """Reads --preset, --variant, --output-dir and --resume ahead of the other options.

    `preset(name, variant)` gives the settings that are the defaults of `--help`.

    Raises:
        UserError: unknown preset or variant, or --resume without a run to resume.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--variant", default="paper")
    parser.add_argument("--output-dir", "--output_dir", type=Path)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction)
    try:
        ahead, _ = parser.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise UserError(
            f"{error.argument_name}: {error.message}; `--help` says what it takes"
        ) from None
    if not ahead.resume:
        return preset(ahead.preset, ahead.variant)
    if ahead.output_dir is None:
        raise UserError("--resume needs --output-dir: the folder of the run to go on with")
    # Without holding the folder: several processes of a run may read it at once.
    folder = RunFolder(ahead.output_dir).check_begun()
    try:
        return load_settings(kind, folder.config)
    except UserError:
        if folder.is_search != (kind is SearchConfig):
            command = "search" if folder.is_search else "train"
            raise UserError(
                f"the run in {folder.path} is another command's: pcdarts {command} --resume"
            ) from None
        raise


def resuming_command(name: str, folder: Path, *, tensorboard: bool) -> str:
    """Goes on with the run in `folder`."""
    also = ["--tensorboard"] if tensorboard else []
    return as_started(name, "--resume", "--output-dir", str(folder), *also)


def same_command(name: str, args: Sequence[str], given: Path | None, folder: Path) -> str:
    """The command once more, in the `folder` that it took where none was `given`."""
    taken = [] if given else ["--output-dir", str(folder)]
    return as_started(name, *args, *taken)


@contextmanager
def output_folder(given: Path | None, name: str) -> Iterator[Path]:
    """`given`, or the first free one of runs/NAME, runs/NAME-2, ..., which is made now, so that
    another command takes the next one, and goes away again where nothing is left in it.

    Raises:
        UserError: none is given where several processes, now or after a restart, must agree on it.
    """
    if given is not None:
        yield given
        return
    if started_by_torchrun():
        raise UserError("a run of several processes needs --output-dir: they share one folder")
    folder = free_folder(Path("runs"), name)
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty
            folder.rmdir()
            folder.parent.rmdir()
