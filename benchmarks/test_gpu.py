"""GPU engines against naive: medians of `do_bench`, eager and as a CUDA graph, and peak memory;
and what other tiles than `tile_of` chooses would do to the Triton engine.

    pytest benchmarks/test_gpu.py -s

Skipped without a GPU. Results are compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.ops import why_not
from pcdarts_fast.testing.cases import EDGES, Case, edge_of
from pcdarts_fast.testing.tolerances import relative_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]
BACKENDS = [name for name in ("cuda", "triton") if why_not(name) is None]
ROWS: dict[str, Callable[[str], tuple[nn.Module, list[Tensor]]]] = {}
TILES = [(64, 2), (64, 4), (64, 8), (128, 4), (128, 8), (256, 4), (256, 8), (512, 8)]
LIMIT = 1e-3  # of a whole super-net's loss gradients, float32 against float32


def _edge(case: Case, backend: str) -> tuple[nn.Module, list[Tensor]]:
    make, arguments = edge_of(case, device="cuda")
    return make(backend=backend).cuda(), [arguments["x"], arguments["weights"]]


for edge in EDGES:
    ROWS[f"edge {edge.id}"] = partial(_edge, edge)


def _super_net(backend: str) -> tuple[nn.Module, list[Tensor]]:
    net = SearchNetwork(16, 10, 8, backend=backend).cuda()
    return net, [torch.randn(256, 3, 32, 32, device="cuda")]


ROWS["super-net 256x3x32x32, C=16, 8 layers"] = _super_net


def step_of(module: nn.Module, inputs: list[Tensor]) -> Callable[[], list[Tensor]]:
    wanted = [t for t in (*inputs, *module.parameters()) if t.requires_grad]

    def step() -> list[Tensor]:
        out = module(*inputs)
        return [out, *torch.autograd.grad(out.square().sum(), wanted, allow_unused=True)]

    return step


def peak_mib(step: Callable[[], Any]) -> float:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ROWS)
def test_step(name: str, backend: str, tabulate: Callable[..., None]) -> None:
    from triton.testing import do_bench, do_bench_cudagraph

    torch.manual_seed(0)
    naive, inputs = ROWS[name]("reference")
    fused, _ = ROWS[name](backend)
    fused.load_state_dict(naive.state_dict())
    naive_step, fused_step = step_of(naive, inputs), step_of(fused, inputs)
    for got, wanted in zip(fused_step(), naive_step(), strict=True):
        if wanted is not None:
            assert relative_error(got, wanted) < LIMIT, f"{name}: wrong, so not timed"
    compiled_step = step_of(torch.compile(naive), inputs)
    compiled_step()
    milliseconds = {
        "naive": do_bench(naive_step, return_mode="median"),
        "naive_compiled": do_bench(compiled_step, return_mode="median"),
        "fused": do_bench(fused_step, return_mode="median"),
        "fused_graph": do_bench_cudagraph(fused_step, return_mode="median"),
    }
    tabulate(
        f"forward and backward on {torch.cuda.get_device_name()}, ms; peak memory, MiB",
        f"{name} {backend}",
        **{key: f"{value:.3f}" for key, value in milliseconds.items()},
        naive_peak=f"{peak_mib(naive_step):.0f}",
        fused_peak=f"{peak_mib(fused_step):.0f}",
    )


@pytest.mark.skipif("triton" not in BACKENDS, reason=str(why_not("triton")))
@pytest.mark.parametrize("case", EDGES, ids=lambda c: c.id)
def test_tiles(case: Case, monkeypatch: pytest.MonkeyPatch, tabulate: Callable[..., None]) -> None:
    """Every tile of pixels and warps, in float32; `tile_of` chose the one with a star."""
    from triton.runtime.errors import OutOfResources
    from triton.testing import do_bench

    forward = import_module("pcdarts_fast.ops.mixed_cell._triton.forward")
    edge, inputs = ROWS[f"edge {case.id}"]("triton")
    step = step_of(edge, inputs)
    wanted = step()
    chosen = forward.tile_of(edge.C // edge.k)
    milliseconds = {}
    for pixels, warps in TILES:
        monkeypatch.setattr(forward, "tile_of", lambda _, tile=(pixels, warps): tile)
        name = f"{pixels}/{warps}"
        try:
            for got, value in zip(step(), wanted, strict=True):
                assert relative_error(got, value) < LIMIT, f"{name}: wrong, so not timed"
            median = do_bench(step, return_mode="median")
            milliseconds[name] = f"{median:.3f}" + "*" * ((pixels, warps) == chosen)
        except OutOfResources:
            milliseconds[name] = "too large"
    device = torch.cuda.get_device_name()
    tabulate(f"Triton: pixels/warps of a program on {device}, ms", case.id, **milliseconds)
