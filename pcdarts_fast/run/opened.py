"""A run from its folder's lock to its last line: what search and training have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint import load_checkpoint, save_checkpoint
from .device import pick_device
from .environment import environment, record_environment
from .folder import RunFolder
from .launcher import restarts
from .processes import Processes, processes
from .settings import Settings, check_unchanged, load_settings, save_settings
from .state import RunState
from .stop import Stop
from .tally import check_finite


@dataclass(frozen=True)
class Run:
    """Where a run computes and writes, with which processes, and who may stop it."""

    folder: RunFolder
    group: Processes
    device: str
    resume: bool
    stop: Stop

    def load(
        self, settings: Settings, may_change: Collection[str]
    ) -> tuple[dict[str, Any] | None, str | None]:
        """What `load_checkpoint` finds; (None, None) for a new run.

        Raises:
            UserError: the run to resume has other settings, or no whole checkpoint.
        """
        if not self.resume:
            return None, None
        return self.group.agree_on(_load, self.folder, settings, may_change)

    def record(self, settings: Settings, state: RunState, *, backend: str, seed: int) -> None:
        """Writes settings and environment, and drops what no checkpoint counts."""
        where = environment(
            backend=backend, device=self.device, seed=seed, processes=self.group.count
        )
        self.group.agree_on(_record, self.folder, settings, state.epochs_done, where)

    def save(self, state: RunState) -> None:
        """Writes a checkpoint in the middle of an epoch.

        Raises:
            UserError: the weights are not finite, or it cannot be written.
        """
        check_finite(state.network.parameters(), state.epochs_done)
        self.group.agree_on(save_checkpoint, self.folder, state.checkpoint())


@contextmanager
def opened(
    path: str | Path, *, device: str, batch_size: int, resume: bool, stop: Stop
) -> Iterator[Run]:
    """The run in the folder `path`: a new one, or with `resume` the one that was begun there.

    It is resumed unasked where torchrun starts it again after one of its processes has died. The
    first process holds the folder for all.

    Raises:
        UserError: no such device, a batch that cannot be dealt out to the processes, or a folder
            that cannot be used; raised in every process.
    """
    path, device = Path(path), pick_device(device)
    with processes(device) as group:
        group.check_batch(batch_size)
        resume = group.agree_on(lambda: resume or (restarts() > 0 and RunFolder(path).begun))
        held: list[RunFolder] = []

        def hold() -> None:
            held.append(RunFolder.open(path) if resume else RunFolder.create(path))

        group.agree_on(hold)
        with held[0] if held else RunFolder(path) as folder:
            yield Run(folder, group, device, resume, stop)


def _load(
    folder: RunFolder, settings: Settings, may_change: Collection[str]
) -> tuple[dict[str, Any] | None, str | None]:
    check_unchanged(load_settings(type(settings), folder.config), settings, may_change)
    return load_checkpoint(folder)


def _record(folder: RunFolder, settings: Settings, epochs: int, where: dict[str, Any]) -> None:
    folder.cut_back(epochs)
    save_settings(settings, folder.config)
    record_environment(folder, where)
