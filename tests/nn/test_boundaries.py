"""Super-net, cell and edge: what they refuse, what they leave to others, what they begin with."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pcdarts_fast.errors import UserError
from pcdarts_fast.nn.cell import SearchCell
from pcdarts_fast.nn.fused import engine, is_fused
from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.nn.operations import OPERATIONS
from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.ops import _registry, mixed_cell, why_not
from pcdarts_fast.ops.processes import shared_kernel
from pcdarts_fast.testing.tolerances import relative_error
from pcdarts_fast.testing.training_pass import coarse_images, training_pass

pytestmark = pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))
BACKENDS = pytest.mark.parametrize("backend", ["cpu", "reference"])


def cell(backend: str, *, reduction: bool, reduction_prev: bool) -> SearchCell:
    torch.manual_seed(0)
    return SearchCell(
        *(6, 8, 4),
        reduction=reduction,
        reduction_prev=reduction_prev,
        nodes=1,
        k=2,
        primitives=("skip_connect", "sep_conv_3x3"),
        sampling="shuffle",
        backend=backend,
        memory="recompute",
    ).double()


def test_auto_leaves_what_the_engine_cannot_store_to_the_reference() -> None:
    x = torch.zeros(1, 4, 2, 2)
    assert engine("auto", x) == "cpu"
    assert engine("auto", x.half()) == "reference"
    op = FusedPartialMixedOp(4, 1, primitives=("max_pool_3x3", "skip_connect")).half()
    assert op(torch.randn(2, 4, 2, 2).half(), torch.ones(2).half()).dtype == torch.float16


def test_a_graph_that_has_no_room_in_the_engines_runs_as_modules() -> None:
    assert is_fused(("none",) * 16, 16)
    assert not is_fused(("none",) * 17, 2)
    assert not is_fused(("none",), 17)


@pytest.mark.parametrize(("H", "W"), [(5, 7), (6, 7), (5, 8)])
def test_a_state_of_odd_size_is_halved_as_its_module_does(H: int, W: int) -> None:
    """As behind the ImageNet stem: 217 pixels become 55, and 28."""
    inputs = [coarse_images(3, 6, H, W), coarse_images(3, 8, 3, 4)]
    arch = [torch.tensor([[0.3, 0.7], [0.6, 0.4]]).double(), torch.tensor([0.4, 0.6]).double()]
    wanted, got = (
        training_pass(cell(name, reduction=False, reduction_prev=True), [*inputs, *arch])
        for name in ("reference", "cpu")
    )
    assert wanted["out"].shape == (3, 4, 3, 4)
    for name, value in wanted.items():
        assert relative_error(got[name], value) < 1e-9, name


@pytest.mark.parametrize(
    "frozen",
    ["preprocess0.conv_1.weight", "preprocess0.conv_2.weight", "_ops.0._ops.1.op.1.weight"],
)
def test_a_frozen_weight_leaves_the_others_their_gradients(frozen: str) -> None:
    inputs = [coarse_images(3, 6, 6, 8), coarse_images(3, 8, 3, 4)]
    arch = [torch.tensor([[0.3, 0.7], [0.6, 0.4]]).double(), torch.tensor([0.4, 0.6]).double()]
    found = []
    for name in ("reference", "cpu"):
        module = cell(name, reduction=False, reduction_prev=True)
        module.get_parameter(frozen).requires_grad_(False)
        found.append(training_pass(module, [*inputs, *arch]))
    wanted, got = found
    assert got.keys() == wanted.keys()
    assert frozen not in wanted
    for name, value in wanted.items():
        assert relative_error(got[name], value) < 1e-9, name


@BACKENDS
@pytest.mark.parametrize("size", [(5, 4), (4, 5)])
def test_a_reduction_of_an_odd_size_is_refused(backend: str, size: tuple[int, int]) -> None:
    inputs = [torch.randn(2, 6, *size).double(), torch.randn(2, 8, *size).double()]
    arch = torch.ones(2, 2).double(), torch.ones(2).double()
    with pytest.raises(UserError, match=r"x: got H, W = .*, wanted even sizes for stride 2"):
        cell(backend, reduction=True, reduction_prev=False)(*inputs, *arch)
    with pytest.raises(UserError, match=r"x: got H, W = .*, wanted even sizes for stride 2"):
        FusedPartialMixedOp(8, 2, backend=backend)(torch.randn(2, 8, *size), torch.ones(8))


@BACKENDS
@pytest.mark.parametrize("shape", [(0, 8, 4, 4), (2, 8, 0, 4), (2, 4, 4, 4), (8, 4, 4)])
def test_an_edge_takes_no_empty_and_no_other_states(backend: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"wanted \[B, 8, H, W\] without empty sizes"):
        FusedPartialMixedOp(8, 1, backend=backend)(torch.zeros(shape), torch.ones(8))


@BACKENDS
@pytest.mark.parametrize(
    ("x", "alpha", "wanted"),
    [
        ("meta", "cpu", r"(alpha|weights): got device cpu, wanted meta as the input"),
        ("cpu", "meta", r"(alpha|weights): got device meta, wanted cpu as the input"),
        (torch.int64, "cpu", r"(x|inputs): got torch.int64, wanted (one of )?"),
        (torch.float16, "cpu", r"(x|inputs): got torch.float16, wanted (one of )?"),
    ],
)
def test_an_edge_names_what_lies_elsewhere_or_has_another_dtype(
    backend: str, x: Any, alpha: str, wanted: str
) -> None:
    edge = FusedPartialMixedOp(8, 1, backend=backend)
    with pytest.raises(UserError, match=wanted):
        edge(torch.ones(2, 8, 4, 4).to(x), torch.ones(8, device=alpha))


@pytest.mark.parametrize(
    ("k", "wanted"),
    [
        (0, "k: got k=0 for C=8 channels, wanted a k >= 1 that divides C"),
        (3, "k: got k=3 for C=8 channels, wanted a k >= 1 that divides C"),
        (4.0, "k: got 4.0, wanted an int"),
        (True, "k: got True, wanted an int"),
    ],
)
def test_a_part_that_eight_channels_have_not(k: Any, wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        FusedPartialMixedOp(8, 1, k)


def test_a_hook_may_bring_weights_into_the_dtype_of_the_state() -> None:
    """As tools do that keep them in another one, or elsewhere, until a candidate is called."""
    edge = FusedPartialMixedOp(8, 1, primitives=("sep_conv_3x3",), backend="cpu").double()
    edge._ops[0].register_forward_pre_hook(lambda module, _: module.float() and None)
    assert edge(torch.randn(2, 8, 4, 4), torch.ones(1)).dtype == torch.float32


@pytest.mark.parametrize("name", ["layers", "num_classes", "nodes"])
def test_a_super_net_has_one_of_everything(name: str) -> None:
    with pytest.raises(UserError, match=r"layers, num_classes, nodes: got .*, wanted >= 1"):
        SearchNetwork(4, **{"num_classes": 2, "layers": 1, "nodes": 1} | {name: 0})


def test_a_search_begins_undecided() -> None:
    for parameter in SearchNetwork(4, 2, 1, nodes=2).arch_parameters():
        assert 0 < parameter.abs().max() < 0.01


def test_what_the_user_has_frozen_stays_frozen() -> None:
    network = SearchNetwork(4, 2, 1, nodes=1)
    frozen = [network.classifier.bias, network.betas_normal]
    for parameter in frozen:
        parameter.requires_grad_(False)
    for what in ("weights", "architecture"):
        with network.learning(what):  # type: ignore[arg-type]
            assert not any(parameter.requires_grad for parameter in frozen)
    assert [p for p in network.parameters() if not p.requires_grad] == [*reversed(frozen)]


def test_a_new_classifier_is_frozen_with_the_weights() -> None:
    network = SearchNetwork(4, 2, 1, nodes=1)
    with network.learning("architecture"):
        pass
    network.classifier = nn.Linear(network.classifier.in_features, 3)
    with network.learning("architecture"):
        assert [p for p in network.parameters() if p.requires_grad] == network.arch_parameters()


@pytest.mark.parametrize("learns", [True, False])
def test_nothing_is_stored_where_nothing_learns(
    learns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = []

    def recorded(name: str, backend: str, processes: int) -> Any:
        def call(*arguments: Any) -> tuple[Tensor, ...]:
            *_, z = results = shared_kernel(name, backend, processes)(*arguments)
            stored.append(z.numel() > 0)
            return results

        return call

    monkeypatch.setattr(_registry, "_DIRECT", None)
    monkeypatch.setattr(sys.modules[mixed_cell.__module__], "shared_kernel", recorded)
    op = FusedPartialMixedOp(8, 1, memory="store").requires_grad_(learns)
    op(torch.randn(2, 8, 4, 4), torch.ones(8))
    assert stored == [learns]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_random_sampling_keeps_the_order_in_eval_mode(backend: str) -> None:
    torch.manual_seed(0)
    op = FusedPartialMixedOp(8, 1, sampling="random", backend=backend).eval()
    x, alpha = coarse_images(2, 8, 5, 6, dtype=torch.float32), torch.rand(8)
    outs = [op(x, alpha) for _ in range(3)]
    assert all(torch.equal(out, outs[0]) for out in outs)
    assert torch.equal(outs[0][:, 2:], x[:, 2:])


@BACKENDS
def test_random_sampling_under_a_default_device_without_values(backend: str) -> None:
    op = FusedPartialMixedOp(8, 1, sampling="random", backend=backend)
    x, alpha = torch.randn(2, 8, 4, 4), torch.full((8,), 1 / 8)
    with torch.device("meta"):
        assert op(x, alpha).isfinite().all()


def test_one_value_a_channel_is_refused_in_training() -> None:
    op = FusedPartialMixedOp(16, 2, backend="cpu")
    x, alpha = torch.randn(1, 16, 2, 2), torch.full((8,), 1 / 8)
    with pytest.raises(UserError, match="one value a channel"):
        op(x, alpha)
    assert op.eval()(x, alpha).shape == (1, 16, 1, 1)


def test_own_candidates_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        OPERATIONS, "dense", lambda C, stride, affine: nn.Conv2d(C, C, 3, stride, 1)
    )
    torch.manual_seed(0)
    op = FusedPartialMixedOp(16, 1, primitives=("dense", "skip_connect"), backend="cpu")
    x, alpha = torch.randn(2, 16, 8, 8), torch.tensor([0.5, 0.5])
    with torch.autocast("cpu", torch.bfloat16):
        out = op(x, alpha)
    assert out.dtype == torch.float32
    assert relative_error(out, op(x, alpha)) < 1e-2
