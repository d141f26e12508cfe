from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("no deadline", deadline=None)  # machines may be busy
hypothesis.settings.load_profile("no deadline")


@pytest.fixture
def nan_filled_memory() -> Iterator[None]:
    """Uninitialised memory holds NaN, in C++ kernels too: what is not written shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)
