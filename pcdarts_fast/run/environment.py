"""What a run ran on, in terms that mean the same on every machine."""

from __future__ import annotations

import platform
from typing import Any

import torch

from ..files import write_json
from .folder import RunFolder
from .versions import installed_version


def environment(*, backend: str, device: str, seed: int, processes: int = 1) -> dict[str, Any]:
    """Versions, backend, device, processes, threads and seed. No host or user name, no path."""
    packages = ("pcdarts_fast", "torch", "torchvision", "numpy")
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: installed_version(name) for name in packages},
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "cpu_instruction_set": torch.backends.cpu.get_cpu_capability(),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "backend": backend,
        "seed": seed,
    }


def record_environment(folder: RunFolder, record: dict[str, Any]) -> None:
    """Adds `record` to environment.json: a list, one object for every start of the run.

    Raises:
        UserError: the file holds something else, or cannot be written.
    """
    write_json(folder.environment, [*folder.environments(), record])
