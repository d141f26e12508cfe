"""The CPU engine with running statistics, against the eager modules."""

from __future__ import annotations

import pytest
import torch

from pcdarts_fast.ops import why_not
from pcdarts_fast.space import PRIMITIVES
from pcdarts_fast.testing.preprocess import Preprocess
from pcdarts_fast.testing.tolerances import relative_error
from pcdarts_fast.testing.training_pass import coarse_images, training_pass
from pcdarts_fast.testing.twins import edge_twins, twins

pytestmark = [
    pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu"))),
    pytest.mark.parametrize("stride", [1, 2]),
]


EACH_TWICE = ("max_pool_3x3", "avg_pool_3x3") * 2
"""Pools of one kind have batch-norms of their own."""


@pytest.mark.parametrize("primitives", [PRIMITIVES, EACH_TWICE])
def test_an_edge(stride: int, primitives: tuple[str, ...]) -> None:
    pair = edge_twins(8, stride, primitives=primitives)
    reference, fused = (module.double().eval() for module in pair)
    x, alpha = coarse_images(3, 8, 6, 10), torch.rand(len(primitives), dtype=torch.float64)
    wanted, got = (training_pass(module, [x, alpha]) for module in (reference, fused))
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert relative_error(got[name], value) < 1e-9, name


def test_a_preprocessing(stride: int) -> None:
    reference, fused = twins(lambda name: Preprocess(stride, name).double().eval())
    wanted, got = (
        training_pass(module, [coarse_images(3, 5, 6, 10)]) for module in (reference, fused)
    )
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert relative_error(got[name], value) < 1e-9, name


def test_an_edge_whose_running_statistics_are_bfloat16(stride: int) -> None:
    reference, fused = (module.bfloat16().eval() for module in edge_twins(16, stride))
    x, alpha = coarse_images(2, 16, 8, 12, dtype=torch.bfloat16), torch.full((8,), 1 / 8)
    wanted = reference.double()(x.double(), alpha.double())
    assert relative_error(fused(x, alpha), wanted) < 1e-2
