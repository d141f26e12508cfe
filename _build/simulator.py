"""Builds the library that runs the CUDA kernels on the CPU, for tests, and prints where it lies.

    python _build/simulator.py

tests/csrc/cusim.h is the simulator. No nvcc is needed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from native import ROOT, configure_command, find_torch


def build() -> Path:
    """The library, up to date; raises CalledProcessError with the compiler's words on stderr."""
    folder = ROOT / "build" / f"simulator-{sys.implementation.cache_tag}"
    torch_dir = find_torch()
    assert torch_dir, "no torch to build against"
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # has cmake, ninja
    build_it = ["cmake", "--build", str(folder), "--target", "simulator"]
    for command in (configure_command(folder, torch_dir), build_it):
        subprocess.run(command, check=True, stdout=sys.stderr)
    return folder / "libsimulator.so"


if __name__ == "__main__":
    print(build())
