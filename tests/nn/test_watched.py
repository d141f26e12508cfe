"""What a user changes inside of a fused module has the effect that it has in the eager one."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import update_bn

from pcdarts_fast.errors import UserError
from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.nn.operations import OPERATIONS, SepConv
from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.ops import why_not
from pcdarts_fast.testing.tolerances import relative_error

pytestmark = pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))

NONE, AVERAGE, SKIP, SEP = 0, 2, 3, 4  # positions among the primitives


def edge(backend: str) -> FusedPartialMixedOp:
    torch.manual_seed(0)
    return FusedPartialMixedOp(16, 1, backend=backend).double()


def inside(op: FusedPartialMixedOp) -> Any:
    """ReLU, depthwise and pointwise convolution, batch-norm; twice."""
    return op._ops[SEP].op


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


def freeze_norms(module: nn.Module) -> None:
    for norm in norms(module):
        norm.eval()


def double_output(module: nn.Module, _: Any, out: Tensor) -> Tensor:
    return 2 * out


CHANGES: dict[str, Callable[[FusedPartialMixedOp], Any]] = {
    "all batch-norms frozen": freeze_norms,
    "one batch-norm frozen": lambda op: inside(op)[3].eval(),
    "momentum of one": lambda op: setattr(inside(op)[3], "momentum", 0.5),
    "momentum of all": lambda op: [setattr(norm, "momentum", 0.5) for norm in norms(op)],
    "no momentum": lambda op: [setattr(norm, "momentum", None) for norm in norms(op)],
    "eps": lambda op: [setattr(norm, "eps", 1.0) for norm in norms(op)],
    "a new convolution": lambda op: inside(op).__setitem__(2, nn.Conv2d(4, 4, 1).double()),
    "a new convolution of the same kind": lambda op: inside(op).__setitem__(
        2, nn.Conv2d(4, 4, 1, bias=False).double()
    ),
    "dilation": lambda op: inside(op)[1].__dict__.update(dilation=(2, 2), padding=(2, 2)),
    "an affine batch-norm": lambda op: inside(op).__setitem__(3, nn.BatchNorm2d(4).double()),
    "dropout behind the skip": lambda op: op._ops.__setitem__(
        SKIP, nn.Sequential(op._ops[SKIP], nn.Dropout(1.0))
    ),
    "a hook": lambda op: inside(op)[1].register_forward_hook(double_output),
    "a hook on its gradients": lambda op: inside(op)[1].register_full_backward_hook(
        lambda _, grads, __: (2 * grads[0],)
    ),
    "a hook before its gradients": lambda op: inside(op)[1].register_full_backward_pre_hook(
        lambda _, grads: (2 * grads[0],)
    ),
    "a hook on a candidate": lambda op: op._ops[SEP].register_forward_hook(double_output),
    "weight norm": lambda op: parametrizations.weight_norm(inside(op)[2]),
    "pruning": lambda op: prune.l1_unstructured(inside(op)[1], "weight", 0.5),
    "a batch-norm that counts no more": lambda op: setattr(
        inside(op)[3], "track_running_stats", False
    ),
    "a scale where there was none": lambda op: setattr(
        inside(op)[3], "weight", nn.Parameter(torch.full((4,), 2.0, dtype=torch.float64))
    ),
    "a pool that counts its border": lambda op: setattr(
        op._ops[AVERAGE][0], "count_include_pad", True
    ),
    "a pool of another divisor": lambda op: setattr(op._ops[AVERAGE][0], "divisor_override", 4),
    "another forward": lambda op: setattr(
        op._ops[SEP], "forward", lambda x: 2 * op._ops[SEP].op(x)
    ),
    "another zero": lambda op: op._ops.__setitem__(NONE, nn.Conv2d(4, 4, 1).double()),
    "a hook on zero": lambda op: op._ops[NONE].register_forward_hook(lambda _, __, out: out + 1),
}


def results(op: FusedPartialMixedOp) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 16, 8, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    alpha = torch.full((8,), 1 / 8, dtype=torch.float64, requires_grad=True)
    out = op(x, alpha)
    out.pow(2).sum().backward()
    found = {"out": out.detach(), "x": x.grad, "alpha": alpha.grad}
    found |= {name: p.grad for name, p in op.named_parameters()}
    return found | {name: buffer.double() for name, buffer in op.named_buffers()}


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_counts(change: Callable[[FusedPartialMixedOp], Any], used: bool) -> None:
    """Before the first call, and after a call from the next train() on."""
    found = []
    for backend in ("reference", "cpu"):
        op = edge(backend)
        if used:
            results(op)
            op.zero_grad(set_to_none=True)
            op.train()
        torch.manual_seed(2)
        change(op)
        found.append(results(op))
    wanted, got = found
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (got[name] is None) == (value is None), name
        if value is not None:
            assert relative_error(got[name], value) < 1e-9, name


@pytest.mark.parametrize("name", ["all batch-norms frozen", "momentum of all", "eps", "a hook"])
def test_a_change_counts_where_the_compiler_traces(name: str) -> None:
    found = []
    for compiled in (False, True):
        op = edge("cpu")
        CHANGES[name](op)
        if compiled:
            op.compile(backend="eager", fullgraph=True)
        found.append(results(op))
    for got, wanted in zip(found[1].values(), found[0].values(), strict=True):
        assert relative_error(got, wanted) < 1e-9


def test_a_batch_norm_frozen_after_compiling() -> None:
    wanted, got = edge("cpu"), edge("cpu")
    got.compile(backend="eager", fullgraph=True)
    for op in (wanted, got):
        results(op)
        op.zero_grad(set_to_none=True)
        op.train()
        freeze_norms(op)
    for mine, theirs in zip(results(got).values(), results(wanted).values(), strict=True):
        assert relative_error(mine, theirs) < 1e-9


@pytest.mark.parametrize(
    "change",
    [
        lambda op: prune.l1_unstructured(inside(op)[1], "weight", 0.5),
        lambda op: [setattr(norm, "momentum", None) for norm in norms(op)],
    ],
    ids=["pruning", "momentum"],
)
def test_what_no_engine_can_run_before_the_next_train_is_one_sentence(
    change: Callable[[FusedPartialMixedOp], Any],
) -> None:
    op = edge("cpu")
    results(op)
    change(op)
    with pytest.raises(UserError, match="call train"):
        results(op)


def test_an_overridden_candidate_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_gelu(C: int, stride: int, affine: bool) -> nn.Module:
        return nn.Sequential(nn.GELU(), SepConv(C, C, 3, stride, affine=affine))

    monkeypatch.setitem(OPERATIONS, "sep_conv_3x3", with_gelu)
    wanted, got = results(edge("reference")), results(edge("cpu"))
    assert all(relative_error(got[name], value) < 1e-9 for name, value in wanted.items())


class Doubled(nn.Module):
    """An edge of stride 1 or 2 that knows no candidate operations."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor, alpha: Tensor) -> Tensor:
        return 2 * alpha.sum() * x[:, :, :: self.stride, :: self.stride]


class DoubledLinear(nn.Linear):
    """A classifier of the user's own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


NET_CHANGES: dict[str, Callable[[SearchNetwork], Any]] = {
    "all batch-norms frozen": freeze_norms,
    "the stem's batch-norm frozen": lambda net: net.stem[1].eval(),
    "an edge in eval mode": lambda net: net.cells[0]._ops[0].eval(),
    "a hook on the classifier": lambda net: net.classifier.register_forward_hook(double_output),
    "a hook on the stem": lambda net: net.stem.register_forward_hook(double_output),
    "another preprocessing": lambda net: setattr(
        net.cells[0], "preprocess0", nn.Sequential(nn.GELU(), net.cells[0].preprocess0)
    ),
    "a stem of stride 2": lambda net: net.stem.__setitem__(
        0, nn.Conv2d(3, 12, 3, 2, 1, bias=False).double()
    ),
    "a hook on an edge": lambda net: net.cells[0]._ops[0].register_forward_hook(double_output),
    "an edge of the user's own": lambda net: net.cells[1]._ops.__setitem__(1, Doubled(2)),
    "another forward of the stem": lambda net: setattr(
        net.stem, "forward", lambda x: net.stem[1](net.stem[0](2 * x))
    ),
    "another forward of the classifier": lambda net: setattr(
        net.classifier, "forward", lambda x: 2 * x[:, :5]
    ),
    "a classifier of the user's own": lambda net: setattr(
        net, "classifier", DoubledLinear(net.classifier.in_features, 5).double()
    ),
    "a classifier without bias": lambda net: setattr(
        net, "classifier", nn.Linear(net.classifier.in_features, 3, bias=False).double()
    ),
}


@pytest.mark.parametrize("change", NET_CHANGES.values(), ids=NET_CHANGES)
def test_a_change_counts_in_the_super_net(change: Callable[[SearchNetwork], Any]) -> None:
    """After a call, from the next train() on."""
    found = []
    for backend in ("reference", "cpu"):
        torch.manual_seed(0)
        net = SearchNetwork(4, 5, 2, backend=backend).double()
        images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
        net(images)
        net.train()
        change(net)
        logits = net(images)
        logits.pow(2).sum().backward()
        buffers = [buffer.double().flatten() for buffer in net.buffers()]
        gradients = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
        found.append((logits, torch.cat(buffers), torch.cat(gradients)))
    for wanted, got in zip(*found, strict=True):
        assert relative_error(got, wanted) < 1e-8


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_hooks_are_called_on_every_backend(backend: str) -> None:
    """The reference goes edge by edge too: the comparison above would not miss them."""
    net, called = SearchNetwork(4, 5, 2, backend=backend), []
    for name in ("stem", "cells.0", "cells.0._ops.1", "cells.1._ops.0._ops.0", "classifier"):
        net.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    net(torch.randn(3, 3, 8, 8))
    assert called == ["stem", "cells.0._ops.1", "cells.0", "cells.1._ops.0._ops.0", "classifier"]


def test_precise_batch_norm() -> None:
    """`update_bn` takes the momentum away, and gives it back."""
    batches = [torch.randn(4, 3, 8, 8, dtype=torch.float64) for _ in range(2)]
    found = []
    for backend in ("reference", "cpu"):
        torch.manual_seed(0)
        net = SearchNetwork(4, 5, 2, backend=backend).double()
        update_bn(batches, net)
        found.append(torch.cat([buffer.double().flatten() for buffer in net.buffers()]))
    assert relative_error(found[1], found[0]) < 1e-9


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_what_is_changed_in_a_copy_counts_at_once(copied: Callable[[nn.Module], Any]) -> None:
    """As tools do that observe or replace modules: they begin with a copy."""
    op, x = edge("cpu"), torch.randn(2, 16, 8, 8, dtype=torch.float64)
    alpha = torch.full((8,), 1 / 8, dtype=torch.float64)
    op(x, alpha)
    other, calls = copied(op), []
    inside(other)[2].register_forward_hook(lambda *_: calls.append(1))
    other(x, alpha)
    assert calls
