"""Runs the engines' tests on the CUDA kernels in the simulator, in a process of its own.

By hand: PCDARTS_SIMULATOR=$(python _build/simulator.py) pytest tests/gpu tests/cuda
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIMULATED = "PCDARTS_SIMULATOR" in os.environ


@pytest.mark.skipif(SIMULATED, reason="this process is simulated itself")
def test_kernels_in_the_simulator(simulator: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/gpu", "tests/cuda"],
        cwd=ROOT,
        env={**os.environ, "PCDARTS_SIMULATOR": simulator},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:]
