"""Which engines the tests of this folder run on.

On a machine with a GPU: every GPU backend that is available. Where TRITON_INTERPRET=1 is set:
Triton's interpreter, on the CPU (tests/triton/test_interpreter.py does so). Where PCDARTS_SIMULATOR
names the simulator's library: the CUDA kernels, on the CPU (tests/cuda/test_simulator.py does so).
Else they are skipped.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
import torch

from pcdarts_fast.ops import why_not
from pcdarts_fast.ops._registry import INTERPRETED


@dataclass(frozen=True)
class Engine:
    backend: str
    device: str


SIMULATOR = os.environ.get("PCDARTS_SIMULATOR")
if SIMULATOR:
    torch.ops.load_library(SIMULATOR)


def engines() -> list[Engine]:
    if SIMULATOR:
        return [Engine("cuda", "cpu")]
    if INTERPRETED:
        return [Engine("triton", "cpu")]
    if not torch.cuda.is_available():
        return []
    return [Engine(name, "cuda") for name in ("cuda", "triton") if why_not(name) is None]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        found = engines() or [pytest.param(None, marks=pytest.mark.skip("torch sees no GPU"))]
        metafunc.parametrize("engine", found, ids=lambda e: e.backend if e else "none")


@pytest.fixture(autouse=True)
def nan_filled_memory():
    """New memory of torch holds NaN: what is read before it is written shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)
