"""The machine code of the CUDA kernels, as it was installed: what it takes and how it loads."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pcdarts_fast.ops import why_not

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "pcdarts_fast" / "_cuda.abi3.so"
pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason=str(why_not("cuda")))
KERNELS = ("mixed_cell_fwd", "mixed_cell_bwd", "relu_conv_bn_fwd", "relu_conv_bn_bwd")
KERNELS += tuple(f"synchronized_{name}" for name in KERNELS)
KERNELS += ("partial_mix_fwd", "partial_mix_bwd", "update_running_")


def test_no_local_memory_and_wide_loads() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/cuda_resources.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    archs, kernels = done.stderr.strip().split(": ")
    assert archs.startswith("sm_")
    assert int(kernels.split()[0]) >= 30 * len(archs.split(", "))


def test_loads_without_a_gpu_and_says_what_is_missing() -> None:
    for name in KERNELS:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"pcdarts_cuda::{name}", "CUDA")
    if torch.cuda.is_available():
        assert why_not("cuda") is None
        return
    assert str(why_not("cuda")).startswith(("torch sees no CUDA device", "torch "))
    trouble = ctypes.CDLL(str(LIBRARY)).pcdarts_cuda_trouble
    trouble.restype = ctypes.c_char_p
    assert b"CUDA" in trouble()
