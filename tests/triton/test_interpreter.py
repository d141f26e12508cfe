"""Runs the engines' tests in Triton's interpreter, in a process of its own.

The variable must be set before the kernels are imported. By hand:
TRITON_INTERPRET=1 pytest tests/gpu tests/triton/test_cost.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pcdarts_fast.ops._registry import INTERPRETED

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("triton", reason="Triton is not installed")


@pytest.mark.skipif(INTERPRETED, reason="this process is interpreted itself")
def test_kernels_in_the_interpreter() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/gpu", "tests/triton/test_cost.py"],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:]
