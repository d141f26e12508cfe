"""Runs the engines' tests on the CUDA kernels in the simulator, in a process of its own.

By hand: PCDARTS_SIMULATOR=$(python _build/simulator.py) pytest tests/gpu tests/cuda
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIMULATED = "PCDARTS_SIMULATOR" in os.environ


@pytest.mark.skipif(SIMULATED, reason="this process is simulated itself")
def test_kernels_in_the_simulator() -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if not shutil.which("cmake", path=path):
        pytest.skip("no cmake: run pip install cmake")
    built = subprocess.run(
        [sys.executable, "_build/simulator.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr[-8000:]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/gpu", "tests/cuda"],
        cwd=ROOT,
        env={**os.environ, "PCDARTS_SIMULATOR": built.stdout.strip()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:]
