"""The kernels of a cell compile for GPUs that are not here, and no register is spilled.

The first cell of the CIFAR-10 preset, in float32; with --nightly those of all presets, which takes
an hour.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_no_spills(arch: str, nightly: bool) -> None:
    command = [sys.executable, "benchmarks/triton_resources.py", "--arch", arch]
    done = subprocess.run(
        [*command, *([] if nightly else ["--cells", "cifar-normal-16"])],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for kernel in ("first_stage", "second_stage", "node", "sums", "input_gradient", "gradient"):
        assert f"| cifar-normal-16 | {kernel} | " in done.stdout


def test_no_kernel_adds_up_in_an_order_of_its_own() -> None:
    kernels = [*(ROOT / "pcdarts_fast" / "ops").glob("**/_triton/*.py")]
    assert len(kernels) > 20
    for path in kernels:
        assert "atomic" not in path.read_text(), path
