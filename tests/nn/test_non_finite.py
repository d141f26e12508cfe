"""NaN and infinity go where the eager modules send them, on the CPU engine."""

from __future__ import annotations

import pytest
import torch

from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.ops import why_not
from pcdarts_fast.space.primitives import PRIMITIVES
from pcdarts_fast.testing.bad_gradient import BadGradient
from pcdarts_fast.testing.preprocess import Preprocess
from pcdarts_fast.testing.training_pass import Results, coarse_images, training_pass
from pcdarts_fast.testing.twins import edge_twins, twins

pytestmark = pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))
BAD = pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])


def check_equal_with_nan(got: Results, wanted: Results) -> None:
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-4, equal_nan=True)


@BAD
@pytest.mark.parametrize("stride", [1, 2])
def test_non_finite_values_in_a_preprocessing(stride: int, bad: float) -> None:
    reference, fused = twins(lambda name: Preprocess(stride, name).eval())
    x = coarse_images(2, 5, 4, 6, dtype=torch.float32)
    x[0, 0, 2, 4] = x[1, 3, 3, 1] = bad
    wanted, got = training_pass(reference, [x]), training_pass(fused, [x])
    check_equal_with_nan(got, wanted)


@BAD
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pools", [("max",), ("avg",), ("max", "avg")], ids="+".join)
def test_pools_send_gradients_past_what_is_not_finite(
    pools: tuple[str, ...], stride: int, size: int, bad: float
) -> None:
    """Where it fills whole windows, in corners and on an edge, to the pixels that PyTorch takes."""
    primitives = tuple(f"{pool}_pool_3x3" for pool in pools)
    modules = [
        FusedPartialMixedOp(8, stride, primitives=primitives, backend=name).eval()
        for name in ("reference", "cpu")
    ]
    x = coarse_images(2, 8, 8, 12, dtype=torch.float32)
    x[0, 0, :size, :size] = x[0, 1, -size:, -size:] = x[1, 0, -size:, 3 : 3 + size] = bad
    alpha = torch.full((len(pools),), 0.5)
    wanted, got = (training_pass(module, [x, alpha]) for module in modules)
    check_equal_with_nan(got, wanted)


@BAD
@pytest.mark.parametrize("width", [7, 12])
@pytest.mark.parametrize("stride", [1, 2])
def test_what_is_not_finite_in_the_last_column_stays_within_its_taps(
    stride: int, width: int, bad: float
) -> None:
    """The last vector of eight goes beyond these widths, and taps to its left reach the column."""
    primitives = ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
    reference, fused = edge_twins(8, stride, primitives=primitives)
    x = coarse_images(2, 8, 9 * stride, width * stride, dtype=torch.float32)
    x[0, 0, 4, -1] = bad
    alpha = torch.full((4,), 0.25)
    wanted, got = (training_pass(module.eval(), [x, alpha]) for module in (reference, fused))
    check_equal_with_nan(got, wanted)


@BAD
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("primitive", PRIMITIVES[1:])
def test_a_gradient_that_is_not_finite_reaches_what_it_reaches_in_eager_modules(
    primitive: str, stride: int, bad: float
) -> None:
    """A pool that an edge does not have weighs zero, and zero times infinity would be NaN."""
    reference, fused = edge_twins(8, stride, primitives=(primitive,))
    x = coarse_images(2, 8, 9 * stride, 9 * stride, dtype=torch.float32)
    wanted, got = (
        training_pass(BadGradient(module.eval(), bad), [x, torch.ones(1)])
        for module in (reference, fused)
    )
    check_equal_with_nan(got, wanted)
