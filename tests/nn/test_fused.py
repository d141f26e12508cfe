"""The CPU engine against the eager modules: any shape, subset, sampling, dtype, memory, threads."""

from __future__ import annotations

import sys
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from pcdarts_fast.nn.cell import SearchCell
from pcdarts_fast.nn.operations import OPERATIONS
from pcdarts_fast.ops import _registry, mixed_cell, why_not
from pcdarts_fast.ops.processes import shared_kernel
from pcdarts_fast.space import PRIMITIVES
from pcdarts_fast.testing.threads import with_threads
from pcdarts_fast.testing.tolerances import relative_error
from pcdarts_fast.testing.training_pass import coarse_images, training_pass
from pcdarts_fast.testing.twins import edge_twins

pytestmark = pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    B=st.integers(1, 11),
    sampled=st.sampled_from([1, 2, 3, 4, 5, 6, 8, 12]),
    k=st.sampled_from([1, 2, 4]),
    H=st.integers(1, 19),
    W=st.integers(1, 35),
    stride=st.sampled_from([1, 2]),
    primitives=st.lists(st.sampled_from(PRIMITIVES), min_size=1, max_size=8),
    sampling=st.sampled_from(["shuffle", "shift", "random"]),
    memory=st.sampled_from(["recompute", "store"]),
    channels_last=st.booleans(),
)
def test_edge_of_any_shape(
    B: int,
    sampled: int,
    k: int,
    H: int,
    W: int,
    stride: int,
    primitives: list[str],
    sampling: str,
    memory: str,
    channels_last: bool,
) -> None:
    if B * H * W == 1:
        B = 2  # nn.BatchNorm2d refuses a single value a channel
    C = sampled * k
    reference, fused = edge_twins(
        C, stride, k=k, primitives=primitives, sampling=sampling, memory=memory
    )
    x = coarse_images(B, C, H * stride, W * stride)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    alpha = torch.linspace(-1, 1, len(primitives), dtype=torch.float64).softmax(0)
    wanted = training_pass(reference.double(), [x, alpha])
    got = training_pass(fused.double(), [x, alpha])
    assert wanted.keys() == got.keys()
    for name, value in wanted.items():
        assert relative_error(got[name], value) < 1e-9 or torch.allclose(
            got[name].double(), value.double(), atol=1e-9
        ), name


IN_STACKS = [(7, 7), (4, 4), (2, 2), (1, 1), (5, 2), (3, 6)]
"""Maps of which the CPU engine computes eight samples at once, where it has 32 of them."""


@pytest.mark.parametrize(
    ("B", "H", "W"),
    [(9, size, size) for size in (32, 28, 16, 14, 8, 7, 4, 2, 1)]
    + [(40, *size) for size in IN_STACKS],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_float32_of_the_usual_sizes(B: int, H: int, W: int, stride: int) -> None:
    reference, fused = edge_twins(16, stride)
    x = coarse_images(B, 16, H * stride, W * stride)
    alpha = torch.linspace(-1, 1, 8, dtype=torch.float64).softmax(0)
    wanted = training_pass(reference.double(), [x, alpha])
    got = training_pass(fused, [x.float(), alpha.float()])
    assert relative_error(got["out"], wanted["out"]) < 1e-6
    for name, value in wanted.items():
        assert relative_error(got[name], value) < 1e-5, name


@pytest.mark.parametrize("sampled", [16, 64])
def test_many_channels(sampled: int) -> None:
    reference, fused = edge_twins(sampled, 1, k=1)
    x = coarse_images(2, sampled, 9, 9)
    alpha = torch.full((8,), 1 / 8, dtype=torch.float64)
    wanted = training_pass(reference.double(), [x, alpha])
    got = training_pass(fused, [x.float(), alpha.float()])
    for name, value in wanted.items():
        assert relative_error(got[name], value) < 1e-5, name


@pytest.mark.parametrize("offset", [100.0, -30.0])
def test_float32_statistics_survive_a_large_mean(offset: float) -> None:
    """E[x^2] - E[x]^2 would lose all digits here."""
    primitives = ("avg_pool_3x3", "max_pool_3x3", "dil_conv_3x3")
    reference, fused = edge_twins(8, 1, primitives=primitives)
    x = coarse_images(8, 8, 12, 13) + offset
    alpha = torch.full((3,), 1 / 3, dtype=torch.float64)
    eager = training_pass(reference, [x.float(), alpha.float()])["out"]
    wanted = training_pass(reference.double(), [x, alpha])["out"]
    got = training_pass(fused, [x.float(), alpha.float()])["out"]
    assert relative_error(got, wanted) < max(1e-5, 2 * relative_error(eager, wanted))


def cell(
    backend: str, *, reduction: bool, memory: str = "recompute", **arguments: object
) -> SearchCell:
    torch.manual_seed(0)
    options = {"k": 4, "primitives": PRIMITIVES, "sampling": "shuffle", "nodes": 4} | arguments
    return SearchCell(
        12,
        16,
        8,
        reduction=reduction,
        reduction_prev=False,
        backend=backend,
        memory=memory,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("sampling", ["shuffle", "shift", "random"])
@pytest.mark.parametrize("nodes", [1, 3, 4])
@pytest.mark.parametrize("reduction", [False, True])
def test_cell(reduction: bool, nodes: int, sampling: str) -> None:
    edges = sum(range(2, 2 + nodes))
    inputs = [coarse_images(5, 12, 6, 10), coarse_images(5, 16, 6, 10)]
    generator = torch.Generator().manual_seed(5)
    arch = [
        torch.randn(edges, 8, generator=generator, dtype=torch.float64).softmax(-1),
        torch.rand(edges, generator=generator, dtype=torch.float64),
    ]
    options = {"nodes": nodes, "sampling": sampling}
    wanted = training_pass(
        cell("reference", reduction=reduction, **options).double(), [*inputs, *arch]
    )
    for memory in ("recompute", "store"):
        fused = cell("cpu", reduction=reduction, memory=memory, **options).double()
        got = training_pass(fused, [*inputs, *arch])
        assert wanted.keys() == got.keys()
        for name, value in wanted.items():
            assert relative_error(got[name], value) < 1e-9, name


@pytest.mark.parametrize(("B", "H", "W"), [(21, 8, 12), (72, 4, 6)])
@pytest.mark.parametrize("reduction", [False, True])
def test_same_bits_for_any_threads_and_memory(reduction: bool, B: int, H: int, W: int) -> None:
    inputs = [
        coarse_images(B, 12, H, W, dtype=torch.float32),
        coarse_images(B, 16, H, W, dtype=torch.float32),
    ]
    arch = [torch.rand(14, 8).softmax(-1), torch.rand(14)]
    found = [
        results
        for memory in ("recompute", "store")
        for results in with_threads(
            lambda memory=memory: training_pass(
                cell("cpu", reduction=reduction, memory=memory), [*inputs, *arch]
            )
        )
    ]
    for other in found[1:]:
        for name, value in found[0].items():
            assert torch.equal(other[name], value), name


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("primitive", PRIMITIVES[1:])
def test_gradcheck(primitive: str, stride: int) -> None:
    _, fused = edge_twins(4, stride, k=2, primitives=("none", primitive))
    fused = fused.double()
    x = torch.randn(2, 4, 4, 6, dtype=torch.float64, requires_grad=True)
    alpha = torch.rand(2, dtype=torch.float64, requires_grad=True)
    parameters = dict(fused.named_parameters())

    def call(x: Tensor, alpha: Tensor, *values: Tensor) -> Tensor:
        swapped = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(fused, swapped, (x, alpha))

    assert torch.autograd.gradcheck(call, (x, alpha, *parameters.values()))


def test_bfloat16_stores_halves_and_accumulates_in_float() -> None:
    reference, fused = edge_twins(16, 1)
    x = coarse_images(8, 16, 16, 16, dtype=torch.bfloat16)
    alpha = torch.full((8,), 1 / 8)
    wanted = training_pass(reference.double(), [x.double(), alpha.double()])
    got = training_pass(fused, [x, alpha])
    assert got["out"].dtype == got["input0"].dtype == torch.bfloat16
    assert got["input1"].dtype == torch.float32
    assert relative_error(got["out"], wanted["out"]) < 3e-3  # one rounding to 8 bits
    for name, value in wanted.items():
        assert relative_error(got[name], value) < 2e-2, name


@pytest.mark.parametrize(("B", "H", "W"), [(3, 10, 12), (32, 6, 6)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_values_come_out_where_they_do_eagerly(
    bad: float, training: bool, stride: int, B: int, H: int, W: int
) -> None:
    """In outputs and gradients. A running mean may be NaN where it is infinite eagerly."""
    reference, fused = edge_twins(8, stride, primitives=[p for p in PRIMITIVES if p != "none"])
    x = coarse_images(B, 8, H, W, dtype=torch.float32)
    x[1, 0, 4, W // 2 - 1] = x[2, 6, H - 3, W - 3] = bad
    alpha = torch.full((7,), 1 / 7)
    wanted = training_pass(reference.train(training), [x, alpha])
    got = training_pass(fused.train(training), [x, alpha])
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(got[name].isfinite(), value.isfinite()), name
        if "running" not in name:
            assert torch.equal(got[name].isnan(), value.isnan()), name


@pytest.mark.parametrize("memory", ["recompute", "store"])
@pytest.mark.parametrize("reduction", [False, True])
def test_uninitialised_memory_is_never_read(reduction: bool, memory: str) -> None:
    """It holds NaN in all tests, see tests/ops/test_uninitialised.py."""
    inputs = [
        coarse_images(3, 12, 6, 6, dtype=torch.float32),
        coarse_images(3, 16, 6, 6, dtype=torch.float32),
    ]
    arch = [torch.full((14, 8), 1 / 8), torch.full((14,), 0.5)]
    got = training_pass(cell("cpu", reduction=reduction, memory=memory), [*inputs, *arch])
    assert all(value.isfinite().all() for value in got.values())


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_from_above_in_another_layout(stride: int) -> None:
    reference, fused = edge_twins(8, stride)
    x, alpha = coarse_images(3, 8, 6, 10), torch.full((8,), 1 / 8, dtype=torch.float64)
    found = []
    for module in (reference.double(), fused.double()):
        inputs = [x.clone().requires_grad_(), alpha.clone().requires_grad_()]
        out = module(*inputs).to(memory_format=torch.channels_last)
        found.append(torch.autograd.grad(out.pow(3).sum(), [*inputs, *module.parameters()]))
    for wanted, got in zip(*found, strict=True):
        assert relative_error(got, wanted) < 1e-9


@pytest.mark.parametrize("asked_for", ["x", "alpha", "weights"])
def test_only_what_is_asked_for_is_computed(
    asked_for: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def recorded(name: str, backend: str, processes: int) -> Any:
        kernel = shared_kernel(name, backend, processes)
        return lambda *arguments: calls.append((name, arguments[-4:])) or kernel(*arguments)

    monkeypatch.setattr(_registry, "_DIRECT", None)
    monkeypatch.setattr(sys.modules[mixed_cell.__module__], "shared_kernel", recorded)
    _, fused = edge_twins(8, 1)
    fused.requires_grad_(asked_for == "weights")
    x, alpha = coarse_images(2, 8, 6, 6, dtype=torch.float32), torch.rand(8)
    x.requires_grad_(asked_for == "x"), alpha.requires_grad_(asked_for == "alpha")
    fused(x, alpha).sum().backward()
    needs = [asked_for == "x"], asked_for == "weights", asked_for == "alpha", False
    assert calls[-1] == ("mixed_cell_bwd", needs)


class Scale(nn.Module):
    """A candidate operation that no engine knows."""

    def __init__(self, C: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(stride)
        self.factor = nn.Parameter(torch.linspace(0.5, 2, C)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x) * self.factor


@pytest.mark.parametrize("sampling", ["shuffle", "shift", "random"])
@pytest.mark.parametrize("stride", [1, 2])
def test_any_module_can_be_a_candidate(
    stride: int, sampling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPERATIONS, "scale", lambda C, stride, affine: Scale(C, stride))
    primitives = ("none", "scale", "sep_conv_3x3", "max_pool_3x3")
    reference, fused = edge_twins(8, stride, k=2, primitives=primitives, sampling=sampling)
    x, alpha = coarse_images(3, 8, 6, 10), torch.rand(4, dtype=torch.float64)
    wanted = training_pass(reference.double(), [x, alpha])
    got = training_pass(fused.double(), [x, alpha])
    assert wanted.keys() == got.keys() >= {"_ops.1.factor"}
    for name, value in wanted.items():
        assert relative_error(got[name], value) < 1e-9, name
