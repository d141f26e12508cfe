"""Super-net, cell and edge: what they refuse, what they leave to others, what they begin with."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from pcdarts_fast.errors import UserError
from pcdarts_fast.nn.cell import SearchCell
from pcdarts_fast.nn.fused import engine
from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.ops import mixed_cell, why_not
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


def test_a_state_of_odd_size_is_halved_as_its_module_does() -> None:
    """As behind the ImageNet stem: 217 pixels become 55, and 28."""
    inputs = [coarse_images(3, 6, 5, 7), coarse_images(3, 8, 3, 4)]
    arch = [torch.tensor([[0.3, 0.7], [0.6, 0.4]]).double(), torch.tensor([0.4, 0.6]).double()]
    wanted, got = (
        training_pass(cell(name, reduction=False, reduction_prev=True), [*inputs, *arch])
        for name in ("reference", "cpu")
    )
    assert wanted["out"].shape == (3, 4, 3, 4)
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

    monkeypatch.setattr(sys.modules[mixed_cell.__module__], "shared_kernel", recorded)
    op = FusedPartialMixedOp(8, 1, memory="store").requires_grad_(learns)
    op(torch.randn(2, 8, 4, 4), torch.ones(8))
    assert stored == [learns]
