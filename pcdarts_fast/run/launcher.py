"""What `torchrun` tells the processes that it starts. Imports no torch, as --help does without."""

from __future__ import annotations

import os
import shlex


def started_by_torchrun() -> bool:
    """Whether this process belongs to a run that torchrun started, of one process or more."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def restarts() -> int:
    """How often torchrun has started this run again after one of its processes died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def as_started(*words: str) -> str:
    """The command `pcdarts WORDS` with as many processes as this run has on this machine."""
    processes = int(os.environ["LOCAL_WORLD_SIZE"]) if started_by_torchrun() else None
    return command_line(*words, processes=processes)


def command_line(*words: str, processes: int | None = None) -> str:
    """The command `pcdarts WORDS`, by torchrun where `processes` are given."""
    if processes is None:
        return f"pcdarts {shlex.join(words)}"
    return f"torchrun --nproc-per-node {processes} -m pcdarts_fast {shlex.join(words)}"


def rank() -> int:
    """The number of this process in its run; the first one, 0, writes and prints."""
    return int(os.environ["RANK"]) if started_by_torchrun() else 0
