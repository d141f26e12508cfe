"""What PyTorch's own tools do around a fused module: saved-tensor hooks, transforms, tracing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from pcdarts_fast.errors import UserError
from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.ops import why_not
from pcdarts_fast.testing.tolerances import relative_error

pytestmark = pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))

ALPHA = torch.full((8,), 1 / 8, dtype=torch.float64)


def edge(backend: str) -> FusedPartialMixedOp:
    torch.manual_seed(0)
    return FusedPartialMixedOp(8, 1, backend=backend).double()


def images(channels: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, 8, 8, dtype=torch.float64, generator=generator)


def in_channels_last(t: Tensor) -> Tensor:
    return t.to(memory_format=torch.channels_last) if t.dim() == 4 else t


def with_gaps(t: Tensor) -> Tensor:
    return t.repeat_interleave(2, -1)[..., ::2] if t.dim() else t


@pytest.mark.parametrize("unpack", [in_channels_last, with_gaps])
@pytest.mark.parametrize("whole_net", [False, True])
def test_saved_tensors_may_come_back_in_another_layout(
    unpack: Callable[[Tensor], Tensor], whole_net: bool
) -> None:
    found = []
    for hook in (lambda t: t, unpack):
        torch.manual_seed(0)
        module = SearchNetwork(4, 5, 2, backend="cpu").double() if whole_net else edge("cpu")
        x = images(3 if whole_net else 8).requires_grad_()
        with saved_tensors_hooks(lambda t: t, hook):
            out = module(x) if whole_net else module(x, ALPHA)
        out.square().sum().backward()
        found.append([x.grad, *(p.grad for p in module.parameters() if p.grad is not None)])
    for wanted, got in zip(*found, strict=True):
        assert relative_error(got, wanted) < 1e-9


@pytest.mark.parametrize("part", ["all", "a candidate"])
def test_weights_on_another_device_are_refused(part: str) -> None:
    op = edge("cpu")
    (op if part == "all" else op._ops[4]).to("meta")
    with pytest.raises(RuntimeError, match="cpu, meta, wanted one device"):
        op(images(), ALPHA)


def squares(op: nn.Module, x: Tensor) -> Tensor:
    return op(x, ALPHA).square().sum()


def test_transforms_of_torch_func() -> None:
    wanted, auto, named = (edge(backend).eval() for backend in ("reference", "auto", "cpu"))
    x = images()
    got = torch.func.grad(lambda x: squares(auto, x))(x)
    assert torch.equal(got, torch.func.grad(lambda x: squares(wanted, x))(x))
    per_sample = torch.func.vmap(torch.func.grad(lambda x: squares(auto, x[None])))(x)
    assert relative_error(per_sample, got) < 1e-9
    with pytest.raises(UserError, match=r"backend 'cpu' has no rules for .* torch.func"):
        torch.func.grad(lambda x: squares(named, x))(x)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning")
def test_jit_trace() -> None:
    op, x = edge("auto").eval(), images()
    traced = torch.jit.trace(op, (x, ALPHA))
    assert relative_error(traced(x, ALPHA), op(x, ALPHA)) < 1e-9
    with pytest.raises(UserError, match=r"torch.jit.trace"):
        torch.jit.trace(edge("cpu").eval(), (x, ALPHA))


def test_no_candidates_are_refused() -> None:
    with pytest.raises(UserError, match="primitives: got none"):
        FusedPartialMixedOp(8, 1, primitives=())
