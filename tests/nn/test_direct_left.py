"""What direct calls leave to the dispatcher, which then does as without them."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import OrderedDict, UserDict
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

from pcdarts_fast.ops import _registry
from pcdarts_fast.testing.direct import Seen, edge, preprocess

pytestmark = pytest.mark.skipif(
    _registry.why_not_direct() is not None, reason=str(_registry.why_not_direct())
)


X, ALPHA = torch.linspace(-1, 1, 1280).view(5, 8, 4, 8), torch.ones(8)
MAPS = torch.linspace(-1, 1, 480).view(3, 5, 4, 8)


def leaf(module: nn.Module, kind: type[nn.Module]) -> nn.Module:
    return next(m for m in module.modules() if isinstance(m, kind))


def same_both_ways(
    call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[type[Exception] | None, Any]:
    """What the call gives, or the type and the message of its error."""

    def outcome() -> tuple[type[Exception] | None, Any]:
        try:
            return None, call()
        except Exception as error:
            return type(error), str(error)

    got = outcome()
    monkeypatch.setattr(_registry, "_DIRECT", None)
    assert got == outcome()
    return got


@pytest.mark.parametrize("given", [None, 3, "x", [0.1] * 8], ids=str)
@pytest.mark.parametrize("place", ["alpha", "x", "preprocessing"])
def test_no_tensor(given: Any, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module: nn.Module = preprocess(1) if place == "preprocessing" else edge()
    arguments = {"alpha": (X, given), "x": (given, ALPHA), "preprocessing": (given,)}[place]
    kind, message = same_both_ways(lambda: module(*arguments), monkeypatch)
    assert kind is not None
    assert "_direct" not in message


@pytest.mark.parametrize("momentum", ["x", 1j])
def test_a_momentum_that_is_no_number(momentum: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    op = edge()
    for norm in op.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = momentum
    kind, message = same_both_ways(lambda: op(X, ALPHA), monkeypatch)
    assert kind is RuntimeError
    assert "momentum" in message


class Logging(Tensor):
    """A subclass that sees the functions of torch, not the operators under them."""

    names: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.names.append(str(func))
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("place", ["x", "alpha", "weight", "buffer"])
def test_subclasses_with_torch_functions(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op, x, alpha = edge(), X, ALPHA
    if place == "x":
        x = x.as_subclass(Logging)
    elif place == "alpha":
        alpha = alpha.as_subclass(Logging)
    elif place == "weight":
        table: dict[str, Any] = leaf(op, nn.Conv2d)._parameters
        table["weight"] = table["weight"].detach().as_subclass(Logging)
    else:
        buffers: dict[str, Any] = leaf(op, nn.BatchNorm2d)._buffers
        buffers["running_mean"] = buffers["running_mean"].as_subclass(Logging)

    def call() -> tuple[type, list[str]]:
        Logging.names.clear()
        kind = type(op(x, alpha))
        return kind, [name for name in Logging.names if "pcdarts" in name]

    _, (_, names) = same_both_ways(call, monkeypatch)
    assert "pcdarts_cpu.update_running_.default" in names


class Listening(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_mode_of_torch_functions_sees_the_operator() -> None:
    with Listening() as listening:
        edge()(X, ALPHA)
        preprocess(1)(MAPS)
    assert "pcdarts_cpu.mixed_cell_fwd.default" in listening.names
    assert "pcdarts_cpu.relu_conv_bn_fwd.default" in listening.names


class Doubling(dict[str, Any]):
    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return None if value is None else 2 * value


@pytest.mark.parametrize("table", [Doubling, OrderedDict, UserDict])
def test_tables_that_are_no_dict(table: type, monkeypatch: pytest.MonkeyPatch) -> None:
    op = edge()
    for convolution in op.modules():
        if isinstance(convolution, nn.Conv2d):
            convolution.__dict__["_parameters"] = table(convolution._parameters)
    kind, _ = same_both_ways(lambda: op.train()(X, ALPHA).tolist(), monkeypatch)
    assert kind is None


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.BatchNorm2d])
def test_a_module_that_its_own_tensors_refer_to_is_collected(kind: type[nn.Module]) -> None:
    op = edge()
    op(X, ALPHA)
    tensor: Any = next(iter(leaf(op, kind).state_dict(keep_vars=True).values()))
    tensor.owner = op
    alive = weakref.ref(op)
    del op, tensor
    gc.collect()
    assert alive() is None


def test_threads_that_call_a_module_for_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    op, library, results = edge(), _registry._DIRECT, []
    second = threading.Thread(target=lambda: results.append(op(X, ALPHA)))

    class Slow:
        @staticmethod
        def MixedCell(*arguments: Any) -> Any:
            if second.ident is None:
                second.start()
                second.join()
            return library.MixedCell(*arguments)

    monkeypatch.setattr(_registry, "_DIRECT", Slow)
    out = op(X, ALPHA)
    assert [torch.equal(out, other) for other in results] == [True]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, at the first tangent
@pytest.mark.parametrize("place", ["x", "alpha", "weight"])
def test_forward_differentiation(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op = edge()

    def call() -> Tensor:
        x, alpha = X, ALPHA
        table: dict[str, Any] = leaf(op, nn.Conv2d)._parameters
        with forward_ad.dual_level():
            if place == "x":
                x = forward_ad.make_dual(x, x)
            elif place == "alpha":
                alpha = forward_ad.make_dual(alpha, alpha)
            else:
                weight = table["weight"].detach()
                table["weight"] = forward_ad.make_dual(weight, weight)
            return op(x, alpha)  # type: ignore[no-any-return]

    kind, _ = same_both_ways(call, monkeypatch)
    assert kind is NotImplementedError


GRAPHS: dict[str, Callable[[Tensor], Tensor]] = {
    "mixed_cell": lambda x: edge()(x, ALPHA),  # type: ignore[no-any-return]
    "relu_conv_bn": lambda x: preprocess(1)(x),  # type: ignore[no-any-return]
}
STATES = {"mixed_cell": X, "relu_conv_bn": MAPS}


@pytest.mark.parametrize("op", GRAPHS)
def test_a_mode_round_backward_sees_the_operator(op: str) -> None:
    x = STATES[op].clone().requires_grad_()
    out = GRAPHS[op](x)
    (wanted,) = torch.autograd.grad(out, x, torch.ones(out.shape), retain_graph=True)
    with Seen() as seen:
        (got,) = torch.autograd.grad(out, x, torch.ones(out.shape))
    assert f"pcdarts_cpu.{op}_bwd.default" in seen.names
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("op", GRAPHS)
def test_gradients_under_a_fake_mode_are_fake(op: str) -> None:
    x = STATES[op].clone().requires_grad_()
    out = GRAPHS[op](x)
    with FakeTensorMode(allow_non_fake_inputs=True):
        (grad,) = torch.autograd.grad(out, x, torch.ones(out.shape))
    assert type(grad) is FakeTensor
    assert grad.shape == x.shape


@pytest.mark.parametrize("op", GRAPHS)
def test_saved_tensors_that_come_back_fake(op: str) -> None:
    x, mode = STATES[op].clone().requires_grad_(), FakeTensorMode(allow_non_fake_inputs=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach(), mode.from_tensor):
        out = GRAPHS[op](x)
    assert type(torch.autograd.grad(out.sum(), x)[0]) is FakeTensor


@pytest.mark.parametrize("op", GRAPHS)
def test_batched_gradients(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = STATES[op].clone().requires_grad_()

    def call() -> Tensor:
        out = GRAPHS[op](x)
        grads = torch.ones(2, *out.shape)
        return torch.autograd.grad(out, x, grads, is_grads_batched=True)[0]

    _, message = same_both_ways(call, monkeypatch)
    assert "Batching rule not implemented" in message
