"""In the tests a kernel's result holds NaN until it is written: here no kernel runs."""

from __future__ import annotations

import ctypes
import os

import pytest
import torch

from pcdarts_fast.ops._registry import kernel

SIMULATOR = os.environ.get("PCDARTS_SIMULATOR")
pytestmark = pytest.mark.skipif(
    not SIMULATOR, reason="runs in the simulator: test_simulator.py starts it"
)


@pytest.mark.parametrize("size", [4, 512])  # 1 MiB and more have memory of their own kind
def test_results_that_nothing_has_written(size: int) -> None:
    simulator = ctypes.CDLL(SIMULATOR)
    x = torch.zeros(1, 4, size, size)
    simulator.cusim_restart(2)  # launches are only noted
    try:
        out = kernel("partial_mix_fwd", "cuda")(
            [], x[0, 0, 0, :0], x, 4, 1, [0, 1, 2, 3], [0, 1, 2, 3]
        )
    finally:
        simulator.cusim_restart(0)
    assert out.shape == x.shape and out.isnan().all()
