"""What a super-net keeps between forward and backward, per sample: asserted, not assumed."""

from __future__ import annotations

import pytest
import torch

from pcdarts_fast.nn.footprint import saved_bytes
from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.ops import why_not

MIB = 2**20


def saved_a_sample(backend: str, memory: str) -> float:
    torch.manual_seed(0)
    net = SearchNetwork(16, 10, 8, backend=backend, memory=memory)
    x = torch.randn(2, 3, 32, 32)
    return saved_bytes(lambda: net(x), exclude=[*net.parameters(), *net.buffers()]) / 2


@pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))
@pytest.mark.parametrize(("memory", "limit"), [("recompute", 2.5 * MIB), ("store", 7 * MIB)])
def test_fused(memory: str, limit: float) -> None:
    images_and_nodes = 3 * 32 * 32 * 4 + 4 * 16 * 32 * 32 * 4  # of the first cell alone
    assert images_and_nodes < saved_a_sample("cpu", memory) <= limit


def test_naive() -> None:
    """The yardstick: what the published way keeps, a slice for every step of every operation."""
    assert 36 * MIB < saved_a_sample("reference", "recompute") < 40 * MIB
