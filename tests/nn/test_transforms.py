"""What PyTorch's own tools do around a fused module: saved-tensor hooks, transforms, tracing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from pcdarts_fast.errors import UserError
from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.nn.stem import Stem
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
    with pytest.raises(UserError, match="weights: got device meta, wanted cpu as the input"):
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


def test_compiled_transforms_of_torch_func() -> None:
    """Gradients by alpha and by the weights: as operators' without rules they would be zeros."""
    op, x = edge("auto").eval(), images()

    def by_alpha(alpha: Tensor) -> Tensor:
        return op(x, alpha).square().sum()

    def by_weights(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(op, weights, (x, ALPHA)).square().sum()

    wanted = torch.autograd.grad(by_alpha(leaf := ALPHA.clone().requires_grad_()), leaf)
    got = torch.compile(torch.func.grad(by_alpha), backend="aot_eager")(ALPHA)
    assert relative_error(got, wanted[0]) < 1e-9
    weights = dict(op.named_parameters())
    by_name = torch.compile(torch.func.grad(by_weights), backend="aot_eager")(weights)
    for name, value in torch.func.grad(by_weights)(weights).items():
        assert relative_error(by_name[name], value) < 1e-9, name


def test_onnx_export(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    op, x, alpha = edge("auto").eval().float(), images().float(), ALPHA.float()
    path = tmp_path / "op.onnx"
    torch.onnx.export(op, (x, alpha), path, dynamo=True)
    session = runtime.InferenceSession(path)
    names = (given.name for given in session.get_inputs())
    (out,) = session.run(None, dict(zip(names, (x.numpy(), alpha.numpy()), strict=True)))
    assert relative_error(torch.from_numpy(out), op(x, alpha)) < 1e-5


def test_states_that_were_made_in_inference_mode() -> None:
    with torch.inference_mode():
        frozen = images().relu()
    found = []
    for module in (edge("reference"), edge("cpu")):
        module(frozen, ALPHA).square().sum().backward()
        with torch.inference_mode():
            module.eval()(frozen, ALPHA)
        found.append([p.grad for p in module.parameters()])
    for wanted, got in zip(*found, strict=True):
        assert relative_error(got, wanted) < 1e-9


def test_a_checkpoint_under_create_graph() -> None:
    """It has what was saved for one look."""
    found = []
    for call in (edge("cpu"), lambda *given: checkpoint(edge("cpu"), *given, use_reentrant=False)):
        x = images().requires_grad_()
        (grad,) = torch.autograd.grad(call(x, ALPHA).square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
            torch.autograd.grad(grad.sum(), x)
        found.append(grad.detach())
    assert torch.equal(*found)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_autocast_to_a_dtype_that_the_engine_has_not(stem: Stem) -> None:
    torch.manual_seed(0)
    net = SearchNetwork(4, 3, 2, nodes=1, stem=stem)
    with torch.autocast("cpu", torch.float16):
        logits = net(torch.randn(2, 3, 32, 32))
    logits.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.weight_parameters())


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


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_second_derivatives_are_refused(layout: torch.memory_format) -> None:
    """Not silently zero, on whatever way to whatever input."""
    op, alpha = edge("cpu"), ALPHA.clone().requires_grad_()
    x = images().to(memory_format=layout).requires_grad_()
    with pytest.raises(RuntimeError, match="twice"):
        torch.autograd.functional.hessian(lambda a: op(x, a).pow(3).mean(), alpha)
    weight = next(op.parameters())
    for source in (x, alpha, weight):
        for wanted in (x, alpha, weight):
            linear = op(x, alpha).sum()
            (grad,) = torch.autograd.grad(linear, source, create_graph=True)
            assert grad.requires_grad
            with pytest.raises(RuntimeError, match="twice"):
                torch.autograd.grad(grad.sum(), wanted, allow_unused=True)
    net = SearchNetwork(4, 5, 2, backend="cpu")
    loss = net(torch.randn(2, 3, 8, 8)).sum()
    grads = torch.autograd.grad(loss, net.weight_parameters(), create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        torch.autograd.grad(sum(g.sum() for g in grads), net.arch_parameters())


@pytest.mark.parametrize("training", [True, False])
def test_the_result_may_be_changed_in_place(training: bool) -> None:
    x, alpha, found = images().requires_grad_(), ALPHA.clone().requires_grad_(), []
    for backend in ("reference", "cpu"):
        out = edge(backend).train(training)(x, alpha).relu_()
        found.append(torch.autograd.grad(out.sum(), [x, alpha]))
    for wanted, got in zip(*found, strict=True):
        assert relative_error(got, wanted) < 1e-9
