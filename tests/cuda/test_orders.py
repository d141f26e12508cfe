"""The threads of a block in any order give the same bits: no barrier is missing."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from pcdarts_fast import SearchNetwork
from pcdarts_fast.ops import partial_mix
from pcdarts_fast.testing.cases import CASES, leaves

SIMULATOR = os.environ.get("PCDARTS_SIMULATOR")
pytestmark = pytest.mark.skipif(
    not SIMULATOR, reason="runs in the simulator: test_simulator.py starts it"
)
ORDERS = (1, 2, 3)  # descending, then two shuffles; 0 is ascending


@pytest.fixture
def set_order() -> Iterator[ctypes._CFuncPtr]:
    set_order = ctypes.CDLL(SIMULATOR).cusim_set_order
    yield set_order
    set_order(0)


def step(net: nn.Module, x: Tensor) -> list[Tensor]:
    out = net(x)
    return [out, *torch.autograd.grad(out.square().sum(), list(net.parameters()))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_super_net(set_order: ctypes._CFuncPtr, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = SearchNetwork(4, 3, 3, nodes=2, backend="cuda")
    x = torch.randn(3, 3, 8, 12).to(dtype)
    wanted = step(net, x)
    assert all(value.isfinite().all() for value in wanted)
    for order in ORDERS:
        set_order(order)
        for got, value in zip(step(net, x), wanted, strict=True):
            assert torch.equal(got, value), order


def test_partial_mix(set_order: ctypes._CFuncPtr) -> None:
    for case in CASES["partial_mix"]:
        results = []
        for order in (0, *ORDERS) if not case.bench else ():
            set_order(order)
            arguments = case.make(requires_grad=True)
            out = partial_mix(**arguments, backend="cuda")
            gradients = torch.autograd.grad(
                out.square().sum(), leaves(arguments), allow_unused=True
            )
            results.append([out, *(g for g in gradients if g is not None)])
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
