"""In the tests the CPU kernels' working memory holds NaN until it is written."""

from __future__ import annotations

import torch

from pcdarts_fast import _native


def test_working_memory_that_nothing_has_written() -> None:
    for size in (64, 3 << 20, 64):  # a larger block, then a part of it again
        memory = torch.frombuffer(bytearray(_native.working_memory(size)), dtype=torch.float32)
        assert memory.numel() == size // 4 and memory.isnan().all()
