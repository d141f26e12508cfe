"""Direct calls in the graphs of autograd: as autograd functions of Python."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor

from pcdarts_fast.ops import _registry
from pcdarts_fast.testing.direct import DIRECT, edge, edge_arguments, is_direct
from pcdarts_fast.testing.training_pass import training_pass

pytestmark = pytest.mark.skipif(
    _registry.why_not_direct() is not None, reason=str(_registry.why_not_direct())
)


def test_gradients_are_differentiated_once() -> None:
    for case in ("edge", "factorized"):
        make, arguments = DIRECT[case]
        module = make()
        tensors = [t.clone().requires_grad_() for t in arguments]
        out = module(*tensors)
        assert is_direct(out)
        first, *others = torch.autograd.grad(
            out.square().sum(), [*tensors, *module.parameters()], create_graph=True
        )
        with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
            first.square().sum().backward()
        for gradient in others:
            assert gradient.requires_grad


def test_a_graph_is_gone_after_its_use() -> None:
    op, (x, alpha) = edge(), edge_arguments()
    out = op(x, alpha)
    out.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        out.sum().backward()


@pytest.mark.parametrize("changed", ["weight", "x"])
def test_what_has_changed_since_is_noticed(changed: str) -> None:
    op, (x, alpha) = edge(), edge_arguments()
    out = op(x, alpha)
    with torch.no_grad():
        (x if changed == "x" else next(op.parameters())).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_a_graph_that_has_saved_running_statistics_notices_their_update() -> None:
    op, (x, alpha) = edge(), edge_arguments()
    buffer = op.get_buffer("_ops.1.1.running_mean")
    product = buffer * torch.ones_like(buffer, requires_grad=True)
    op(x, alpha)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


@pytest.mark.parametrize(
    "unpack",
    [
        lambda packed: packed.double(),
        lambda packed: packed.t().contiguous().t() if packed.dim() == 2 else packed.clone(),
        lambda packed: torch.stack([packed, packed], -1)[..., 0],
    ],
    ids=["other dtype", "copies", "strided"],
)
@pytest.mark.parametrize("case", ["edge", "normal cell", "factorized"])
def test_hooks_of_saved_tensors(case: str, unpack: Callable[[Tensor], Tensor]) -> None:
    make, arguments = DIRECT[case]
    wanted = training_pass(make(), arguments)
    packed = []

    def pack(tensor: Tensor) -> Tensor:
        packed.append(tensor)
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        got = training_pass(make(), arguments)
    assert packed
    for name, value in wanted.items():
        assert torch.equal(got[name], value), name


def test_checkpoints() -> None:
    op, twin, (x, alpha) = edge(), edge(), edge_arguments()
    x.requires_grad_()
    (wanted,) = torch.autograd.grad(twin(x, alpha).square().sum(), x)
    out = torch.utils.checkpoint.checkpoint(op, x, alpha, use_reentrant=False)
    (got,) = torch.autograd.grad(out.square().sum(), x)
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("learns", ["x", "alpha", "weights"])
def test_only_what_is_asked_for_has_a_gradient(learns: str) -> None:
    op, (x, alpha) = edge().requires_grad_(learns == "weights"), edge_arguments()
    x.requires_grad_(learns == "x"), alpha.requires_grad_(learns == "alpha")
    out = op(x, alpha)
    assert is_direct(out)
    out.square().sum().backward()
    assert (x.grad is not None, alpha.grad is not None) == (learns == "x", learns == "alpha")
    assert all((p.grad is not None) == (learns == "weights") for p in op.parameters())


@pytest.mark.parametrize("memory", ["recompute", "store"])
def test_z_is_saved_on_demand(memory: str) -> None:
    op, packed = edge(memory=memory, primitives=("dil_conv_3x3",)), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.numel()), lambda _: _):
        op(edge_arguments()[0], torch.ones(1))
    z = 5 * 2 * 6 * 8  # B, C/k, H, W
    assert (z in packed) == (memory == "store")


def test_gradients_that_do_not_lie_in_rows() -> None:
    op, twin, (x, alpha) = edge(), edge(), edge_arguments()
    x.requires_grad_()
    out = op(x, alpha)
    grad = torch.randn(out.shape[::-1]).permute(3, 2, 1, 0)
    (got,) = torch.autograd.grad(out, x, grad, retain_graph=True)
    (wanted,) = torch.autograd.grad(twin(x, alpha), x, grad.contiguous())
    assert torch.equal(got, wanted)
    (got,) = torch.autograd.grad(out, x, torch.complex(-grad, -grad).conj().imag)
    assert torch.equal(got, wanted)
