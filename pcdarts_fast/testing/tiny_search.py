"""A search that ends within seconds, and processes that tests start, wait for and kill."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..report.commands import changed_options
from ..run.config import SearchConfig
from ..run.presets import search_config

TINY: SearchConfig = replace(
    search_config("digits"),
    init_channels=4,
    k=2,
    layers=3,
    nodes=1,
    primitives=("none", "skip_connect", "sep_conv_3x3"),
    epochs=5,
    frozen_epochs=1,
    batch_size=48,
    train_fraction=0.2,
    valid_fraction=0.2,
    device="cpu",
)
"""Six steps an epoch; the architecture is frozen in the first."""


def tiny_options(**changes: Any) -> list[str]:
    """TINY, with changes, as options of `pcdarts search`."""
    return changed_options(replace(TINY, **changes))


def environment(**more: str) -> dict[str, str]:
    """Of a process that computes with one thread and finds this package."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)} | more


def start(
    arguments: Iterable[str], env: Mapping[str, str] | None = None, **settings: Any
) -> subprocess.Popen[str]:
    """`python ARGUMENTS` in `environment`, with `env` on top; `settings` are those of Popen."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**(env or {})),
        **settings,
    )


def wait_for_epochs(folder: Path, epochs: int, process: subprocess.Popen[str]) -> None:
    """Until the run in `folder`, which `process` computes, has done so many of them."""
    metrics = folder / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < epochs:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
