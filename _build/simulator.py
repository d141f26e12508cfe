"""Builds the library that runs the CUDA kernels on the CPU, for tests, and prints where it lies.

    python _build/simulator.py

tests/csrc/cusim.h is the simulator. No nvcc is needed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pybind11
from native import ROOT, find_torch


def build() -> Path:
    """The library, up to date; raises CalledProcessError with the compiler's words on stderr."""
    folder = ROOT / "build" / f"simulator-{sys.implementation.cache_tag}"
    torch_dir = find_torch()
    assert torch_dir, "no torch to build against"
    configure = [
        *("cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DBUILD_TESTING=OFF"),
        f"-DPCDARTS_TORCH_DIR={torch_dir}",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
    ]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in (configure, ["cmake", "--build", str(folder), "--target", "simulator"]):
        subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    return folder / "libsimulator.so"


if __name__ == "__main__":
    print(build())
