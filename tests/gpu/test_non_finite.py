"""NaN and infinity go where the eager modules send them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pcdarts_fast.testing.bad_gradient import BadGradient
from pcdarts_fast.testing.preprocess import Preprocess
from pcdarts_fast.testing.training_pass import coarse_images, training_pass
from pcdarts_fast.testing.twins import edge_twins, twins

pytestmark = pytest.mark.gpu
BAD = pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])


def check_bad_values(module: nn.Module, fused: nn.Module, tensors: list[Tensor], to: str) -> None:
    """NaN and infinity are where the eager module has them, in the output and all gradients; the
    other values are the same, also those of elements that are NaN in the input."""
    wanted = training_pass(module, tensors)
    with np.errstate(invalid="ignore"):  # the interpreter computes in numpy
        got = training_pass(fused.to(to), [t.to(to) for t in tensors])
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(got[name].isnan().cpu(), value.isnan()), name
        assert torch.equal(got[name].isinf().cpu(), value.isinf()), name
        torch.testing.assert_close(
            got[name].cpu(), value, rtol=1e-4, atol=1e-4, equal_nan=True, check_dtype=False
        )


def check_bad_edge(engine: Any, stride: int, primitives: Sequence[str], x: Tensor) -> None:
    reference, fused = edge_twins(8, stride, engine.backend, primitives=primitives)
    alpha = torch.full((len(primitives),), 1 / len(primitives))
    check_bad_values(reference.eval(), fused.eval(), [x, alpha], engine.device)


@BAD
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 4])
def test_nan_and_infinity_go_where_eager_sends_them(
    engine: Any, size: int, bad: float, stride: int
) -> None:
    """Alone, and where they fill whole windows."""
    primitives = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
    x = coarse_images(2, 8, 8, 8).float()
    x[0, 0, 8 - size :, 2 : 2 + size] = x[1, 6, 8 - size :, 2 : 2 + size] = bad
    check_bad_edge(engine, stride, primitives, x)


@BAD
@pytest.mark.parametrize("stride", [1, 2])
def test_the_last_column_beside_pixels_that_do_not_exist(
    engine: Any, bad: float, stride: int
) -> None:
    """Rows of six end in half a quad, and the taps to its left reach the last column."""
    x = coarse_images(2, 8, 3 * stride, 6 * stride).float()
    x[0, 0, 1, -1] = bad
    check_bad_edge(engine, stride, ("sep_conv_3x3", "dil_conv_3x3", "dil_conv_5x5"), x)


@BAD
@pytest.mark.parametrize("stride", [1, 2])
def test_a_running_mean_that_is_not_finite_costs_no_gradient(
    engine: Any, bad: float, stride: int
) -> None:
    """Eval mode's gradients take no part in it."""
    primitives = ("max_pool_3x3", "avg_pool_3x3", "dil_conv_3x3")
    reference, fused = edge_twins(8, stride, engine.backend, primitives=primitives)
    for name, value in [*reference.named_buffers(), *fused.named_buffers()]:
        if name.endswith("running_mean"):
            value[1] = bad
    x, alpha = coarse_images(2, 8, 4 * stride, 4 * stride).float(), torch.full((3,), 1 / 3)
    check_bad_values(reference.eval(), fused.eval(), [x, alpha], engine.device)


@BAD
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "primitives",
    [("max_pool_3x3",), ("avg_pool_3x3",), ("skip_connect", "sep_conv_3x3", "dil_conv_5x5")],
    ids="+".join,
)
def test_a_gradient_that_is_not_finite_reaches_what_it_reaches_in_eager_modules(
    engine: Any, primitives: tuple[str, ...], stride: int, bad: float
) -> None:
    """A pool that an edge does not have weighs zero, and zero times infinity would be NaN."""
    twin = edge_twins(8, stride, engine.backend, primitives=primitives)
    reference, fused = (BadGradient(module.eval(), bad) for module in twin)
    x = coarse_images(2, 8, 9 * stride, 9 * stride).float()
    alpha = torch.full((len(primitives),), 1 / len(primitives))
    check_bad_values(reference, fused, [x, alpha], engine.device)


@BAD
@pytest.mark.parametrize("stride", [1, 2])
def test_nan_and_infinity_in_a_preprocessing(engine: Any, bad: float, stride: int) -> None:
    reference, fused = twins(lambda name: Preprocess(stride, name).eval(), engine.backend)
    x = coarse_images(2, 5, 4, 6).float()
    x[0, 0, 2, 4] = x[1, 3, 3, 1] = bad
    check_bad_values(reference, fused, [x], engine.device)
