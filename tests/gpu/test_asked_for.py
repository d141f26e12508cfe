"""Gradients of what is asked for alone, and of tensors in other layouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pcdarts_fast.nn.cell import SearchCell
from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.ops import partial_mix
from pcdarts_fast.testing.cases import CASES
from pcdarts_fast.testing.tolerances import relative_error, tolerance
from pcdarts_fast.testing.training_pass import coarse_images

pytestmark = pytest.mark.gpu
MIXES = [case for case in CASES["partial_mix"] if not case.bench]


@pytest.mark.parametrize("reduction", [False, True])
@pytest.mark.parametrize("wanted", ["s0", "s1", "weights", "alpha", "beta"])
def test_only_what_is_asked_for_of_a_cell(engine: Any, wanted: str, reduction: bool) -> None:
    found = []
    for backend, device, dtype in (
        ("reference", "cpu", torch.float64),
        (engine.backend, engine.device, torch.float32),
    ):
        torch.manual_seed(0)
        cell = SearchCell(
            *(4, 4, 4),
            reduction=reduction,
            reduction_prev=False,
            nodes=1,
            k=2,
            primitives=("max_pool_3x3", "skip_connect", "dil_conv_3x3"),
            sampling="shuffle",
            backend=backend,
            memory="recompute",
        ).to(device, dtype)
        cell.requires_grad_(False)._ops.requires_grad_(wanted == "weights")
        tensors = {
            "s0": coarse_images(2, 4, 4, 6),
            "s1": coarse_images(2, 4, 4, 6).flip(0),
            "alpha": torch.linspace(0, 1, 6, dtype=torch.float64).view(2, 3),
            "beta": torch.tensor([0.25, 0.75], dtype=torch.float64),
        }
        tensors = {n: t.to(device, dtype).requires_grad_(n == wanted) for n, t in tensors.items()}
        cell(*tensors.values()).pow(3).sum().backward()
        found.append([t.grad for t in (*tensors.values(), *cell.parameters()) if t.requires_grad])
    for expected, got in zip(*found, strict=True):
        assert relative_error(got.cpu(), expected) < 1e-4


@pytest.mark.parametrize("stride", [1, 2])
def test_weights_alone_want_a_gradient(engine: Any, stride: int) -> None:
    torch.manual_seed(0)
    alpha, x = torch.rand(8), torch.randn(2, 8, 6, 6)
    gradients = []
    for backend, device in (("reference", "cpu"), (engine.backend, engine.device)):
        torch.manual_seed(1)
        op = FusedPartialMixedOp(8, stride, backend=backend).to(device)
        op(x.to(device), alpha.to(device)).square().sum().backward()
        gradients.append([p.grad.cpu() for p in op.parameters() if p.numel()])
    for wanted, got in zip(*gradients, strict=True):
        assert relative_error(got, wanted) < 1e-3


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("wanted", ["outputs", "weights", "x"])
def test_partial_mix_of_strided_tensors(engine: Any, wanted: str, stride: int) -> None:
    """In channels_last, the gradient from above too; of all gradients one kind is asked for."""
    case = MIXES[5 if stride == 1 else 6]
    found = []
    for backend, device in (("reference", "cpu"), (engine.backend, engine.device)):
        arguments = case.make()
        for name in ("outputs", "x"):
            value = arguments[name]
            strided = [
                t.to(device).to(memory_format=torch.channels_last)
                for t in (value if isinstance(value, list) else [value])
            ]
            arguments[name] = strided if isinstance(value, list) else strided[0]
        arguments["weights"] = arguments["weights"].to(device)
        asked = arguments[wanted] if wanted == "outputs" else [arguments[wanted]]
        for tensor in asked:
            tensor.requires_grad_()
        out = partial_mix(**arguments, backend=backend)
        out.to(memory_format=torch.channels_last).pow(3).sum().backward()
        found.append([out.detach().cpu(), *(t.grad.cpu() for t in asked)])
    for wanted_value, got in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted_value, **tolerance(torch.float32))
