"""How near an edge comes to the limits of the machine, which are measured in the same run.

Operations are the multiply-adds of the convolutions, two each, forward once and backward twice (of
input and of weights); pools, statistics, weighing and what `recompute` does again are not counted.
Bytes are those that any implementation must move: x and out, their gradients, x again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pcdarts_fast import _native
from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.testing.cases import EDGES, Case, edge_of

SECONDS = 0.5  # of measuring a limit


def all_threads(measure: Callable[[float], float]) -> float:
    """The sum of what the threads reach that torch would use, at the same time."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(measure, [SECONDS] * threads))


@pytest.fixture(scope="module")
def limits() -> tuple[float, float]:
    """Float operations and bytes a second."""
    return all_threads(_native.peak_flops), all_threads(_native.copy_bandwidth)


def multiply_adds(x: torch.Tensor, out: torch.Tensor, edge: FusedPartialMixedOp) -> int:
    """Of the convolutions of one forward."""
    kernels = [m.weight for m in edge.modules() if isinstance(m, torch.nn.Conv2d)]
    pixels = out.shape[0] * out.shape[2] * out.shape[3]
    return sum(weight.numel() for weight in kernels) * pixels


@pytest.mark.parametrize("memory", ["recompute", "store"])
@pytest.mark.parametrize("case", EDGES, ids=lambda case: case.id)
def test_edge(case: Case, memory: str, benchmark, tabulate, limits: tuple[float, float]) -> None:
    peak_flops, bandwidth = limits
    make, arguments = edge_of(case)
    x, weights = arguments["x"], arguments["weights"]
    edge = make(backend="cpu", memory=memory)
    inputs = [x, weights, *edge.parameters()]
    out = edge(x, weights)
    grad = torch.randn_like(out)
    operations = 3 * 2 * multiply_adds(x, out, edge)
    moved = 4 * (3 * x.numel() + 2 * out.numel())

    def step() -> None:
        torch.autograd.grad(edge(x, weights), inputs, grad)

    benchmark.group = f"limits {case.id}"
    benchmark.pedantic(step, rounds=15, warmup_rounds=2)
    if not benchmark.stats:
        return
    flops, rate = (count / benchmark.stats.stats.median for count in (operations, moved))
    assert flops < peak_flops, "a limit was measured wrongly"
    benchmark.extra_info.update(
        gflops=flops / 1e9,
        share_of_multiply_add_peak=flops / peak_flops,
        gigabytes=rate / 1e9,
        share_of_copy=rate / bandwidth,
    )
    tabulate(
        f"limits: multiply-adds {peak_flops / 1e9:.0f} GFLOP/s, copy {bandwidth / 1e9:.1f} GB/s, "
        f"{torch.get_num_threads()} threads, {_native.active_isa()}",
        f"edge {case.id} {memory}, forward+backward",
        **{"GFLOP/s": f"{flops / 1e9:.1f}", "of_peak": f"{flops / peak_flops:.0%}"},
        **{"GB/s": f"{rate / 1e9:.1f}", "of_copy": f"{rate / bandwidth:.0%}"},
    )
