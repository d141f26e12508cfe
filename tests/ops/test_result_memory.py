"""Large results of the CPU engine take over the memory of earlier ones (csrc/common/results.h)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pcdarts_fast.ops import partial_mix

MIB = 1 << 20


def mixed(x: Tensor) -> Tensor:
    """A result as large as x [B, 4, H, W]."""
    return partial_mix([x[:, :1]], torch.ones(1), x, k=4, backend="cpu")


def test_memory_of_an_ended_result_is_used_again() -> None:
    x = torch.rand(2, 4, 512, 512)  # 8 MiB
    first, second = mixed(x), mixed(x + 1)
    assert not torch.equal(first, second)
    kept = first.clone()
    address = second.data_ptr()
    del second
    third = mixed(x + 2)
    assert third.data_ptr() == address
    assert torch.equal(first, kept)
    half = mixed(x[:1] + 3)  # of another size, while the others live
    assert half.data_ptr() not in (first.data_ptr(), third.data_ptr())
    assert torch.equal(first, kept)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_memory_kept_unused_is_bounded() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    x = torch.rand(1, 4, 2048, 1024)  # 32 MiB
    before = resident()
    results = [mixed(x) for _ in range(16)]
    assert resident() - before > 500 * MIB
    del results
    assert resident() - before < 300 * MIB
