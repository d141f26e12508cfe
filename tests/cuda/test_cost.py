"""Bytes and launches of a cell, counted from the loads and stores of the simulated kernels.

A block's bytes are the distinct addresses that it loads, plus those that it stores: what it must
fetch from beyond its own cache, halos of neighbouring tiles included.
The naive side is PyTorch's operators, each of which is taken to read and write its tensors once
(`testing.costs.Traffic`).
"""

from __future__ import annotations

import ctypes
import os

import pytest

from pcdarts_fast.testing.costs import MOST_OF_NAIVE, cell_costs

SIMULATOR = os.environ.get("PCDARTS_SIMULATOR")
pytestmark = pytest.mark.skipif(
    not SIMULATOR, reason="runs in the simulator: test_simulator.py starts it"
)


@pytest.mark.parametrize(("C", "size", "reduction"), [(16, 16, False), (16, 16, True)])
def test_bytes_and_launches_of_a_cell(C: int, size: int, reduction: bool) -> None:
    simulator = ctypes.CDLL(SIMULATOR)
    for count in (simulator.cusim_launches, simulator.cusim_moved):
        count.restype = ctypes.c_int64

    def so_far() -> tuple[int, int]:
        return simulator.cusim_launches(), simulator.cusim_moved()

    simulator.cusim_restart(1)
    naive = cell_costs("reference", C, size, reduction)
    fused = cell_costs("cuda", C, size, reduction, so_far)
    for way in fused:
        for what in fused[way]:
            print(f"{way} {what}: {fused[way][what]:,} of {naive[way][what]:,}")
    for what, most in MOST_OF_NAIVE.items():
        got, wanted = (sum(cost[way][what] for way in cost) for cost in (fused, naive))
        assert got <= most * wanted, what
    simulator.cusim_restart(0)
