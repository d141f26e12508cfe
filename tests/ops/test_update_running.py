"""update_running: every backend as nn.BatchNorm2d, in place, and torch.library's contract."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.library import opcheck

from pcdarts_fast.ops import why_not
from pcdarts_fast.ops._registry import kernel
from pcdarts_fast.ops.update_running import update_running
from pcdarts_fast.testing.tolerances import tolerance

BACKENDS = [
    pytest.param(
        "cpu", marks=pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))
    ),
    "reference",
]
N, C, COUNT = 3, 4, 2 * 5 * 6
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def running_of(norms: list[nn.BatchNorm2d]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    names = ("running_mean", "running_var", "num_batches_tracked")
    means, variances, batches = ([norm.get_buffer(name) for norm in norms] for name in names)
    return means, variances, batches


@each_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_as_batch_norm(backend: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    wanted = [nn.BatchNorm2d(C, affine=False, dtype=dtype) for _ in range(N)]
    got = [nn.BatchNorm2d(C, affine=False, dtype=dtype) for _ in range(N)]
    for _ in range(2):
        batch = 3 * torch.randn(N, 2, C, 5, 6, dtype=dtype) + 1
        mean, variance = batch.mean((1, 3, 4)), batch.var((1, 3, 4), correction=0)
        for norm, x in zip(wanted, batch, strict=True):
            norm(x)
        update_running(*running_of(got), mean, variance, count=COUNT, momentum=0.1, backend=backend)
    for mine, theirs in zip(running_of(got), running_of(wanted), strict=True):
        for g, w in zip(mine, theirs, strict=True):
            torch.testing.assert_close(g, w, **tolerance(dtype))
    assert all(norm.num_batches_tracked == 2 for norm in got)


@each_backend
def test_opcheck(backend: str) -> None:
    norms = [nn.BatchNorm2d(C) for _ in range(N)]
    mean, variance = torch.rand(N, C), torch.rand(N, C)
    opcheck(
        kernel("update_running_", backend),
        (*running_of(norms), mean, variance, COUNT, 0.1),
    )


@pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"running_mean": torch.zeros(C, 3)[:, 0]}, "contiguous"),
        ({"running_var": torch.zeros(1)}, "of 1 channels, wanted 4"),
        ({"num_batches_tracked": torch.tensor(0.0)}, "int64"),
        ({"running_var": torch.zeros(C, dtype=torch.float64)}, "one dtype"),
        ({"running_mean": torch.zeros(C, dtype=torch.float64)}, "wider|one dtype"),
    ],
)
def test_buffers_that_do_not_fit_stay_as_they_are(change: dict[str, Tensor], message: str) -> None:
    norm = nn.BatchNorm2d(C)
    for name, value in change.items():
        setattr(norm, name, value)
    before = [buffer.clone() for buffer in norm.buffers()]
    with pytest.raises(RuntimeError, match=message):
        update_running(
            *running_of([norm]),
            torch.ones(1, C),
            torch.ones(1, C),
            count=COUNT,
            momentum=0.1,
            backend="cpu",
        )
    for got, wanted in zip(norm.buffers(), before, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))
@pytest.mark.parametrize(
    ("norms", "batch", "count"), [(2, 1, COUNT), (1, 2, COUNT), (1, 1, 1)], ids=str
)
def test_as_many_statistics_as_batch_norms(norms: int, batch: int, count: int) -> None:
    buffers = running_of([nn.BatchNorm2d(C) for _ in range(norms)])
    statistics = torch.ones(batch, C)
    with pytest.raises(RuntimeError, match=r"as many of each|more than 1"):
        kernel("update_running_", "cpu")(*buffers, statistics, statistics, count, 0.1)


@each_backend
@pytest.mark.parametrize("name", ["running_mean", "running_var", "num_batches_tracked"])
def test_a_graph_that_has_saved_them_notices(name: str, backend: str) -> None:
    norm = nn.BatchNorm2d(C, affine=False)
    weight = torch.ones(C, requires_grad=True)
    loss = (weight * norm.get_buffer(name)).sum()
    ones = torch.ones(1, C)
    update_running(*running_of([norm]), ones, ones, count=2, momentum=0.1, backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
