"""torch.compile takes the fused modules as one graph, and they compute the same in it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pcdarts_fast.nn.cell import SearchCell
from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.nn.operations import OPERATIONS
from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.ops import why_not
from pcdarts_fast.ops.channels import Sampling
from pcdarts_fast.space import PRIMITIVES, cell_edges
from pcdarts_fast.testing.cases import CASES, Case
from pcdarts_fast.testing.tolerances import relative_error

pytestmark = pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))

SMALL = [case for case in CASES["mixed_op"] if not case.bench]


def step(module: nn.Module, arguments: list[Tensor], *, compiler: str | None) -> dict[str, Tensor]:
    """Output, gradients and running statistics after a training step."""
    module = copy.deepcopy(module)
    torch.manual_seed(1)  # of random sampling
    arguments = [a.detach().clone().requires_grad_() for a in arguments]
    if compiler:
        torch.compiler.reset()
        module.compile(fullgraph=True, backend=compiler)
    out = module(*arguments)
    out.backward(torch.linspace(-1, 1, out.numel()).view(out.shape))
    grads = {f"argument {i}": a.grad for i, a in enumerate(arguments)}
    grads |= {name: parameter.grad for name, parameter in module.named_parameters()}
    return {"out": out.detach(), **grads, **dict(module.named_buffers())}  # type: ignore[dict-item]


def assert_same(module: nn.Module, arguments: list[Tensor], compiler: str) -> None:
    wanted = step(module, arguments, compiler=None)
    got = step(module, arguments, compiler=compiler)
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert relative_error(got[name], value) < 1e-6, name


@pytest.mark.parametrize("memory", ["recompute", "store"])
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.id)
def test_edge(case: Case, memory: str) -> None:
    arguments = case.make()
    torch.manual_seed(0)
    edge = FusedPartialMixedOp(arguments["C"], arguments["stride"], backend="cpu", memory=memory)
    assert_same(edge, [arguments["x"], arguments["weights"]], "aot_eager")


@pytest.mark.parametrize("reduction", [False, True])
@pytest.mark.parametrize(
    ("compiler", "sampling"),
    [("aot_eager", "shuffle"), ("inductor", "shuffle"), ("inductor", "random")],
)
def test_cell(compiler: str, sampling: Sampling, reduction: bool) -> None:
    torch.manual_seed(0)
    cell = SearchCell(
        12,
        16,
        8,
        reduction=reduction,
        reduction_prev=False,
        nodes=2,
        k=4,
        primitives=PRIMITIVES,
        sampling=sampling,
        backend="cpu",
        memory="recompute",
    )
    edges = len(cell_edges(2))
    states = [torch.randn(2, C, 6, 4) for C in (12, 16)]
    assert_same(cell, [*states, torch.rand(edges, 8), torch.rand(edges)], compiler)


def test_eval_mode() -> None:
    arguments = SMALL[0].make()
    torch.manual_seed(0)
    edge = FusedPartialMixedOp(arguments["C"], arguments["stride"], backend="cpu").eval()
    assert_same(edge, [arguments["x"], arguments["weights"]], "aot_eager")


def test_super_net() -> None:
    torch.manual_seed(0)
    net = SearchNetwork(4, 3, 3, nodes=2, backend="cpu")
    assert_same(net, [torch.randn(2, 3, 8, 8)], "aot_eager")


@pytest.mark.parametrize("primitives", [PRIMITIVES, ("none", "conv_3x3")], ids=["fused", "modules"])
@pytest.mark.parametrize("stride", [1, 2])
def test_random_sampling_is_drawn_at_every_call(
    stride: int, primitives: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = lambda C, stride, affine: nn.Conv2d(C, C, 3, stride, 1)  # noqa: E731
    monkeypatch.setitem(OPERATIONS, "conv_3x3", conv)
    torch.manual_seed(0)
    edge = FusedPartialMixedOp(
        8, stride, primitives=primitives, sampling="random", backend="cpu"
    ).requires_grad_(False)
    x, alpha = torch.randn(2, 8, 4, 6), torch.rand(len(primitives))
    torch.manual_seed(1)
    wanted = [edge(x, alpha) for _ in range(3)]
    torch.compiler.reset()
    edge.compile(fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    got = [edge(x, alpha) for _ in range(3)]
    assert relative_error(wanted[0], wanted[1]) > 0.1
    for one, other in zip(got, wanted, strict=True):
        assert relative_error(one, other) < 1e-6
